"""Power of an x86 CPU from its own counters (RAPL), through `/sys/class/powercap`.

`intel-rapl:<n>` with the name `package-<n>` is a processor; AMD's are there under the same name. Their sum is taken.
`psys`, where there is one, has the packages in it, and `intel-rapl:<n>:<m>` are parts of a package. Memory is mostly
not included, the rest of the machine never.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from mimi_edge.errors import MimiEdgeError
from mimi_edge.kernel_files import ROOT, below, number_of, text_of
from mimi_edge.profiles.board.power import NS_PER_S, PowerReading

ZONES = "sys/class/powercap/intel-rapl:*"
UJ_PER_J = 1e6


@dataclass
class _Package:
    """A counter that starts anew at its range."""

    name: str
    folder: Path
    range_uj: int
    last_uj: int
    total_uj: int = 0

    def joules(self) -> float:
        """Since it was first asked."""
        now = int((self.folder / "energy_uj").read_text())
        self.total_uj += (now - self.last_uj) % self.range_uj
        self.last_uj = now
        return self.total_uj / UJ_PER_J


class RaplMeter:
    """The CPU packages of this machine.

    Args:
        root: of the file system.

    Raises:
        MimiEdgeError: there are no counters, or they may not be read; the message says which.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self._packages = _packages(root)
        self._last_ns = time.perf_counter_ns() - 1
        self._last_joules: dict[str, float] = {}

    @property
    def description(self) -> str:
        """What is read and what it covers."""
        return f"{' + '.join(package.name for package in self._packages)} from RAPL (CPU only, without the machine)"

    def read(self) -> PowerReading:
        """Counters now, and the mean watts since the last reading (0 at the first).

        Raises:
            OSError: a counter cannot be read.
        """
        joules = {package.name: package.joules() for package in self._packages}
        at_ns = time.perf_counter_ns()
        seconds = (at_ns - self._last_ns) / NS_PER_S
        steps = {name: (value - self._last_joules.get(name, value)) / seconds for name, value in joules.items()}
        self._last_ns, self._last_joules = at_ns, joules
        return PowerReading(sum(steps.values()), steps, at_ns, sum(joules.values()))


def _packages(root: Path) -> list[_Package]:
    found = []
    for folder in below(root, ZONES):
        name = text_of(folder / "name")
        if name is None or not name.startswith("package"):
            continue
        energy, largest = number_of(folder / "energy_uj"), number_of(folder / "max_energy_range_uj")
        if energy is None or not largest:
            raise MimiEdgeError(
                f"{folder / 'energy_uj'} cannot be read, so there is no CPU power. On most systems only root may read "
                "it: run as root, or let an administrator make it readable."
            )
        found.append(_Package(name, folder, largest + 1, energy))
    if not found:
        raise MimiEdgeError("This CPU has no energy counters (expected /sys/class/powercap/intel-rapl:*).")
    return found
