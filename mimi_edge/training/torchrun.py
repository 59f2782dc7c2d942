"""What torchrun says of this process: which of how many it is. A process that it did not start is alone."""

from __future__ import annotations

import os
from dataclasses import dataclass

from mimi_edge.errors import ConfigError


@dataclass(frozen=True)
class Rank:
    """One of several processes that train together.

    Attributes:
        number: from 0; the first is the only one that writes and speaks.
        size: how many there are.
        local: its number among those on this machine.
        here: how many there are on this machine.
    """

    number: int = 0
    size: int = 1
    local: int = 0
    here: int = 1

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes and speaks."""
        return self.number == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is no other."""
        return self.size == 1


def this_rank() -> Rank:
    """This process, as the environment says.

    Raises:
        ConfigError: the environment makes no sense.
    """
    found = {name: os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")}
    if found["WORLD_SIZE"] is None or found["RANK"] is None:
        return Rank()
    try:
        local, here = int(found["LOCAL_RANK"] or 0), int(found["LOCAL_WORLD_SIZE"] or found["WORLD_SIZE"])
        return Rank(int(found["RANK"]), int(found["WORLD_SIZE"]), local, here)
    except ValueError:
        said = ", ".join(f"{name}={value}" for name, value in found.items())
        raise ConfigError(f"Expected numbers as torchrun sets them, got {said}. Unset them to train alone.") from None


def require_alone(command: str) -> None:
    """Refuses what several processes cannot do together.

    Raises:
        ConfigError: torchrun started this process with others.
    """
    if not this_rank().is_alone:
        raise ConfigError(f"torchrun is for mimi-edge train; {command} is one process. Call it without torchrun.")
