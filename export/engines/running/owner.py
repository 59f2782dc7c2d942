"""Objects that own others, which are given back in turn, once, also after an error."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self


class Owner:
    """A context manager for what was put on `_stack`, last first."""

    _stack: ExitStack

    def close(self) -> None:
        """Gives everything back; the second time nothing happens.

        Raises:
            CudaError: something that still ran on the device has failed.
        """
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, at)
