"""What goes into an engine and what comes out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineTensor:
    """One input or output of an engine.

    Attributes:
        name: of the tensor, as in the graph.
        mode: `input` or `output`.
        dtype: `float32`, `float16`, `bfloat16`, `int8`, `int32`, `int64`, `bool` or `uint8`.
        shape: sizes; -1 where it varies.
    """

    name: str
    mode: str
    dtype: str
    shape: tuple[int, ...]
