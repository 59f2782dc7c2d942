"""What goes into an engine and what comes out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from mimi_edge.errors import ConfigError

LARGEST_DIMENSION = 2**31 - 1
LARGEST_TENSOR = 2**40
HIGHEST_RANK = 8

DTYPES = ("float32", "float16", "bfloat16", "int8", "int32", "int64", "bool", "uint8")

Mode = Annotated[str, Meta(pattern="^(input|output)$", description="input or output")]
DataType = Annotated[str, Meta(pattern=f"^({'|'.join(DTYPES)})$", description=f"one of {', '.join(DTYPES)}")]
Size = Annotated[int, Meta(ge=-1, le=LARGEST_DIMENSION, description="a size, or -1 where it varies")]


@dataclass(frozen=True)
class EngineTensor:
    """One input or output of an engine.

    Attributes:
        name: of the tensor, as in the graph.
        mode: `input` or `output`.
        dtype: of its elements.
        shape: sizes; -1 where it varies.
    """

    name: Annotated[str, Meta(min_length=1, description="a text")]
    mode: Mode
    dtype: DataType
    shape: tuple[Size, ...]

    def __post_init__(self) -> None:
        sizes = [size for size in self.shape if size >= 0]
        if len(self.shape) > HIGHEST_RANK or 0 in sizes or math.prod(sizes) > LARGEST_TENSOR:
            raise ConfigError(f"{self.name} has shape {list(self.shape)}, which no tensor of an engine has")
