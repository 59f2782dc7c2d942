"""Everything that can go wrong, in the few kinds that a caller can act on.

A message says what is wrong, what was expected and what was got, and what to do next. `exit_code` is what the command
line ends with.
"""


class MimiEdgeError(Exception):
    """Something failed in a way we know how to explain."""

    exit_code = 1


class ConfigError(MimiEdgeError):
    """Options or input data do not make sense; the message lists every fault that was found."""

    exit_code = 2


class BudgetInfeasibleError(MimiEdgeError):
    """Not even a task without adapters fits the budget; the message names the smallest budget that would do."""

    exit_code = 3


class ArtifactError(MimiEdgeError):
    """A file is damaged, of a newer format, or belongs to something else."""

    exit_code = 4


class ExportMismatchError(MimiEdgeError):
    """What was exported does not answer what was trained."""

    exit_code = 5


class GateError(MimiEdgeError):
    """Something changed more than a limit that was set allows; the message names what and where."""

    exit_code = 6


class EngineBuildError(MimiEdgeError):
    """A runtime refused to build an engine."""


class LostRankError(MimiEdgeError):
    """One of several processes that trained together has ended; the message says how to go on."""


class StoppedError(MimiEdgeError):
    """Somebody asked the work to stop, and it did so cleanly; the message says how to go on."""

    exit_code = 130
