"""What went wrong, as people and programs are told: a kind, a message and an exit code."""

from __future__ import annotations

import errno
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from mimi_edge.errors import MimiEdgeError
from mimi_edge.parts import install_line, library_of

FAILED = MimiEdgeError.exit_code
USAGE = 2
INTERRUPTED = 130
OUT_OF_MEMORY = (
    *("out of memory", "bad_alloc", "failed to allocate", "unable to allocate", "cannot allocate memory"),
    *("can't allocate memory", "not enough memory", "failed to map segment", "can't start new thread"),
)
"""How Python, torch on a CPU or GPU, ONNX Runtime and the system's loader say it."""


@dataclass(frozen=True)
class Failure:
    """What ends a command before its time.

    Attributes:
        kind: a word for programs, `docs/errors.md` has them all.
        message: in words.
        exit_code: of the process.
    """

    kind: str
    message: str
    exit_code: int = FAILED

    @property
    def document(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {"error": {"kind": self.kind, "exit_code": self.exit_code, "message": self.message}}


INTERRUPTION = Failure("interrupted", "Interrupted.", INTERRUPTED)


def failure_of(error: BaseException, options: Collection[str] = ()) -> Failure | None:
    """What to tell of an exception; None for one that nobody expected.

    Args:
        error: that ended a command.
        options: the names of the command's options, for advice that it can follow.
    """
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTION
    if any(map(_says_that_memory_ran_out, _chain(error))):
        return Failure("memory", _memory_advice(options))
    if isinstance(error, MimiEdgeError):
        return Failure(_kind(type(error)), str(error), error.exit_code)
    if isinstance(error, ImportError):
        return Failure("missing_library", _missing_part(error))
    if isinstance(error, OSError):
        return Failure("system", _in_words(error))
    return None


def _kind(error: type[MimiEdgeError]) -> str:
    """`BudgetInfeasibleError` -> `budget_infeasible`."""
    word = error.__name__.removesuffix("Error")
    return "failed" if error is MimiEdgeError else re.sub(r"(?<=[a-z])(?=[A-Z])", "_", word).lower()


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception, and what it was raised from."""
    found: BaseException | None = error
    for _ in range(10):
        if found is None:
            return
        yield found
        found = found.__cause__


def _says_that_memory_ran_out(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    # Our own words, and those of the system about files, may quote names that somebody else chose.
    if isinstance(error, MimiEdgeError | OSError):
        return False
    return any(said in str(error).lower() for said in OUT_OF_MEMORY)


def _memory_advice(options: Collection[str]) -> str:
    smaller = next((f"--{name.replace('_', '-')}" for name in ("batch_size", "batch") if name in options), None)
    recomputing = "--grad-checkpointing, " if "grad_checkpointing" in options else ""
    advice = "" if smaller is None else f"Try {recomputing}a smaller {smaller}, or fewer or smaller images. "
    return (
        f"There is not enough memory for this. {advice}Close what else is running, or raise the limit that this "
        "process has (ulimit -v, a container's limit)."
    )


def _in_words(error: OSError) -> str:
    """What the system says and of which file; where it is about copying, of the copy."""
    place = error.filename2 or error.filename
    return f"{error.strerror or error}{f': {place}' if place else ''}"


def _missing_part(error: ImportError) -> str:
    """Names the line that installs what is missing; a missing module of our own is a broken installation."""
    from mimi_edge.numpy_versions import numpy_misfit

    if (misfit := numpy_misfit(error)) is not None:
        return f"{misfit.text} Install both at once, so that they fit: {misfit.line}"
    module = (error.name or "").split(".")[0]
    library = library_of(module)
    what = install_line(None if library is None else library.part)
    if not isinstance(error, ModuleNotFoundError):
        return f"{module or 'A library'} is installed and cannot be loaded: {error}. Install it again: {what}"
    return f"This needs {module or error}, which is not installed here. Install it: {what}"
