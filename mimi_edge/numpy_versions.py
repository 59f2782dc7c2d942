"""Libraries that were built for NumPy 1 beside NumPy 2: which do not fit, and the line that mends it.

NumPy tells it on stderr and hides it from the error, which says `numpy.core.multiarray failed to import`, or nothing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType

from mimi_edge.parts import Library, library_of

SAYS = re.compile(r"numpy\.core\.(_?multiarray|umath)|_ARRAY_API|compiled using NumPy 1|^\s*$")
OLD_DOOR = "numpy.core._multiarray_umath"
"""NumPy 2 has it only for what was built for NumPy 1 to come in by, and be refused."""


@dataclass(frozen=True)
class Misfit:
    """Two libraries that do not fit.

    Attributes:
        library: that was built for NumPy 1, as pip calls it.
        version: of it.
        numpy: version that is here.
    """

    library: str
    version: str
    numpy: str

    @property
    def text(self) -> str:
        """What is wrong, in a sentence."""
        return f"{self.library} {self.version} was built for NumPy 1, and NumPy {self.numpy} is installed beside it."

    @property
    def line(self) -> str:
        """What installs both at once, so that pip chooses what fits."""
        from mimi_edge.installation import pip_line

        return pip_line(f'install "numpy<2" "{self.library}=={self.version}"')


def numpy_misfit(error: ImportError) -> Misfit | None:
    """Whether a library could not be loaded because it was built for NumPy 1; None where it is something else.

    Args:
        error: that importing it raised.
    """
    numpy = _version_of(("numpy",))
    if numpy is None or int(numpy[1].partition(".")[0]) < 2:
        return None
    if isinstance(error, ModuleNotFoundError) or not (SAYS.search(str(error)) or OLD_DOOR in sys.modules):
        return None
    library = _library_behind(error)
    known = None if library is None else _version_of(library.distributions)
    return None if known is None else Misfit(*known, numpy[1])


def _library_behind(error: ImportError) -> Library | None:
    """The library that was being loaded: the last whose code the error came through, else the one it names."""
    names = [*_modules_of(error.__traceback__), error.name or ""]
    found = [library for name in names if (library := library_of(name)) is not None and "numpy" in library.needs]
    return found[-1] if found else None


def _modules_of(trace: TracebackType | None) -> Iterator[str]:
    while trace is not None:
        yield str(trace.tb_frame.f_globals.get("__name__", ""))
        trace = trace.tb_next


def _version_of(distributions: tuple[str, ...]) -> tuple[str, str] | None:
    """Name and version of the first of them that pip has installed."""
    for name in distributions:
        try:
            return name, version(name)
        except PackageNotFoundError:
            continue
    return None
