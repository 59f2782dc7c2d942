"""Power rails of a Jetson from its monitor chips, and which of them make up the whole.

The chips are TI's INA3221 (three channels each) and, on Jetson Thor, an INA238 at the input. Three layouts of sysfs are
known:

- Linux for Tegra 35, 36 and 38 (`hwmon`): `/sys/bus/i2c/drivers/ina3221/<bus>-<address>/hwmon/hwmon<n>/` with
  `in<c>_label`, `in<c>_input` in mV and `curr<c>_input` in mA for channels 1 to 3. `in7_label` is the sum of shunt
  voltages, no rail.
- An INA238 has one channel, a `label` for the chip (or none) and `power1_input` in uW, seen through `/sys/class/hwmon`.
- Linux for Tegra 32 (`iio`): `/sys/bus/i2c/drivers/ina3221x/<bus>-<address>/iio:device<n>/` with `rail_name_<c>` and
  `in_power<c>_input` in mW for channels 0 to 2.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mimi_edge.errors import MimiEdgeError
from mimi_edge.kernel_files import ROOT, below, number_of, text_of
from mimi_edge.profiles.board.power import PowerReading

HWMON = "sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*"
HWMON_CLASS = "sys/class/hwmon/hwmon*"
IIO = "sys/bus/i2c/drivers/ina3221x/*/iio:device*"
CHIPS = ("ina3221", "ina238")
NOT_CONNECTED = "NC"

TOTALS: Mapping[str, str] = {
    "VIN": "input of the developer kit, carrier board included",
    "VDD_IN": "input of the module",
    "POM_5V_IN": "input of the module",
}
"""Rails that are a whole by themselves, the widest first."""
INCLUDED: Mapping[str, str] = {"VDDQ_VDD2_1V8AO": "VIN_SYS_5V0"}
"""Rails whose power another rail has in it already, as the Jetson Linux Developer Guide says of AGX Orin."""


@dataclass(frozen=True)
class Rail:
    """One rail that can be read.

    Attributes:
        name: as the board labels it.
        watts: asks now; raises OSError where the chip does not answer.
    """

    name: str
    watts: Callable[[], float]


@dataclass(frozen=True)
class RailChoice:
    """Which rails are summed, and why not the others.

    Attributes:
        summed: their names.
        left_out: the reason by name.
        covers: what the sum stands for.
    """

    summed: tuple[str, ...]
    left_out: Mapping[str, str]
    covers: str


def choose_rails(names: Collection[str]) -> RailChoice:
    """Picks rails so that no watt is counted twice: a total alone, or else all parts that are in no other part.

    Raises:
        MimiEdgeError: there is no rail.
    """
    known = list(dict.fromkeys(names))
    if not known:
        raise MimiEdgeError("This board has no power rails that can be read. Expected an INA3221 in /sys/bus/i2c.")
    for total, covers in TOTALS.items():
        if total in known:
            return RailChoice((total,), {name: f"part of {total}" for name in known if name != total}, covers)
    left_out = {name: f"part of {INCLUDED[name]}" for name in known if INCLUDED.get(name) in known}
    summed = tuple(name for name in known if name not in left_out)
    return RailChoice(summed, left_out, "sum of the module's rails; what has no sensor is missing")


def find_rails(root: Path = ROOT) -> list[Rail]:
    """Every rail of every monitor chip, in the order of the chips; one that is not connected is left out."""
    folders = list(below(root, HWMON))
    seen = {folder.name for folder in folders}
    folders += [
        folder for folder in below(root, HWMON_CLASS) if folder.name not in seen and text_of(folder / "name") in CHIPS
    ]
    rails = [rail for folder in folders for rail in _hwmon_rails(folder)]
    return rails or [rail for folder in below(root, IIO) for rail in _iio_rails(folder)]


def _hwmon_rails(folder: Path) -> Iterator[Rail]:
    labels = [path for path in below(folder, "in[123]_label") if text_of(path) not in (None, "", NOT_CONNECTED)]
    for path in labels:
        channel = path.name[2]
        if number_of(folder / f"in{channel}_enable") != 0:
            yield Rail(text_of(path) or "", _product(folder / f"in{channel}_input", folder / f"curr{channel}_input"))
    if not labels and text_of(folder / "name") == "ina238":
        yield Rail(text_of(folder / "label") or "VIN", _scaled(folder / "power1_input", 1e-6))


def _iio_rails(folder: Path) -> Iterator[Rail]:
    for path in below(folder, "rail_name_*"):
        channel, name = path.name.removeprefix("rail_name_"), text_of(path)
        if name and name != NOT_CONNECTED:
            yield Rail(name, _scaled(folder / f"in_power{channel}_input", 1e-3))


def _product(millivolts: Path, milliamperes: Path) -> Callable[[], float]:
    return lambda: _number(millivolts) * _number(milliamperes) * 1e-6


def _scaled(path: Path, scale: float) -> Callable[[], float]:
    return lambda: _number(path) * scale


def _number(path: Path) -> float:
    """A number that must be there; a sensor that does not answer this time is an OSError."""
    try:
        return float(path.read_text().split()[0])
    except (ValueError, IndexError) as error:
        raise OSError(f"{path} holds no number") from error


class RailMeter:
    """The power of a Jetson from sysfs: the rails that make up the whole, each read and summed.

    Args:
        rails: that there are.

    Raises:
        MimiEdgeError: there are none.
    """

    def __init__(self, rails: Collection[Rail]) -> None:
        self.choice = choose_rails([rail.name for rail in rails])
        self._rails = [rail for rail in rails if rail.name in self.choice.summed]

    @property
    def description(self) -> str:
        """What is read and what it covers."""
        return f"{' + '.join(self.choice.summed)} from sysfs ({self.choice.covers})"

    def read(self) -> PowerReading:
        """Asks every chosen rail now.

        Raises:
            OSError: a sensor did not answer.
        """
        watts = {rail.name: rail.watts() for rail in self._rails}
        return PowerReading(sum(watts.values()), watts, time.perf_counter_ns())
