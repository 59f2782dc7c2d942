"""The state of a Jetson: which board, which power mode, whether clocks are fixed, temperatures, throttling, memory.

Everything is read from files, so that nothing needs root and tests can put a recorded tree in their place. Where they
are:

- model: `/proc/device-tree/model`, ends with a NUL; release: `/etc/nv_tegra_release`, `# R36 (release), REVISION: 4.3`.
- power mode: `/var/lib/nvpmodel/status` has the number (`pmode:0002`), `/etc/nvpmodel.conf` the names
  (`< POWER_MODEL ID=2 NAME=MAXN_SUPER >`).
- clocks: `/sys/devices/system/cpu/cpu*/cpufreq/scaling_{min,max,cur}_freq` in kHz; the GPU's in Hz, in a folder of
  `/sys/class/devfreq`: `17000000.gpu` or `17000000.ga10b` (35, 36), `gpu-gpc-0` on Thor (38), `17000000.gv11b` and
  `57000000.gpu` (32).
- temperatures: `/sys/class/thermal/thermal_zone*/{type,temp}` in thousandths of a degree; zones of parts that are
  switched off cannot be read.
- throttling: `/sys/class/thermal/cooling_device*/{type,cur_state}`; alerts are called `gpu-throttle-alert` and so on,
  clock limits `devfreq-...` and `cpufreq-...`, the fan `pwm-fan`. Under-voltage and over-current events are counted in
  `/sys/class/hwmon/hwmon*/oc{1,2,3}_event_cnt`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mimi_edge.errors import MimiEdgeError
from mimi_edge.kernel_files import ROOT, below, meminfo_bytes, number_of, text_of
from mimi_edge.profiles.board.jtop_meter import JtopMeter, open_jtop
from mimi_edge.profiles.board.rails import RailMeter, find_rails

MODEL = "proc/device-tree/model"
RELEASE = "etc/nv_tegra_release"
POWER_MODE = "var/lib/nvpmodel/status"
POWER_MODES = "etc/nvpmodel.conf"
GPU_NAME = re.compile(r"gpu-gpc-0|[\w.]*\.(gpu|ga10b|gv11b|gp10b)")
LEAST_DEGREES = -40
"""Colder than a Jetson may be: a zone that says -256 is one without a sensor."""
NO_THROTTLING = ("fan", "tcc offset")
"""Cooling devices, in small letters, that slow nothing down: fans, and a setting of Intel's that is mostly in force."""
POWER_EVENTS = {1: "under-voltage", 2: "average over-current", 3: "instantaneous over-current"}


@dataclass(frozen=True)
class Clock:
    """Limits and present speed of one clock, in Hz; None where it does not tell."""

    least_hz: int | None
    most_hz: int | None
    now_hz: int | None

    @property
    def fixed(self) -> bool | None:
        """Whether it cannot move, None where that is not known."""
        if self.least_hz is None or self.most_hz is None:
            return None
        return self.least_hz == self.most_hz


@dataclass(frozen=True)
class Memory:
    """Memory of the machine.

    Attributes:
        total_bytes: of it.
        available_bytes: that programs could still get.
        unified: the GPU uses the same memory, so what it takes is in these figures and must not be added to them.
    """

    total_bytes: int | None
    available_bytes: int | None
    unified: bool = True


@dataclass(frozen=True)
class Throttling:
    """What holds a board back, and what has.

    Attributes:
        active: cooling devices at work other than fans, with their state.
        events: power events since the board was started, by kind.
    """

    active: Mapping[str, int]
    events: Mapping[str, int]


@dataclass(frozen=True)
class JetsonState:
    """A Jetson at one moment. None where a file is missing or unreadable.

    Attributes:
        model: what the device tree calls it.
        l4t: release of Linux for Tegra, such as `36.4.3`.
        power_mode: name of the nvpmodel mode, or its number where the name is not known.
        clocks_fixed: whether CPU and GPU clocks stand at their limits, which is what `jetson_clocks` does.
        gpu: its clock.
        cpu: the clock of the first core.
        temperatures_c: by zone.
        throttling: of this moment.
        memory: unified.
    """

    model: str | None
    l4t: str | None
    power_mode: str | None
    clocks_fixed: bool | None
    gpu: Clock | None
    cpu: Clock | None
    temperatures_c: Mapping[str, float]
    throttling: Throttling
    memory: Memory


def is_jetson(root: Path = ROOT) -> bool:
    """Whether this machine runs Linux for Tegra, or its device tree names a Jetson."""
    return (root / RELEASE).is_file() or "jetson" in (text_of(root / MODEL) or "").lower()


def jetson_state(root: Path = ROOT) -> JetsonState:
    """Reads everything there is to read; takes some milliseconds.

    Args:
        root: of the file system.
    """
    gpu, cores = gpu_clock(root), cpu_clocks(root)
    clocks = [*cores, *([gpu] if gpu else [])]
    known = [clock.fixed for clock in clocks if clock.fixed is not None]
    return JetsonState(
        model=text_of(root / MODEL) or None,
        l4t=l4t_release(root),
        power_mode=power_mode(root),
        clocks_fixed=all(known) if known else None,
        gpu=gpu,
        cpu=cores[0] if cores else None,
        temperatures_c=temperatures_c(root),
        throttling=throttling(root),
        memory=memory(root),
    )


def l4t_release(root: Path = ROOT) -> str | None:
    """Such as `36.4.3` for release 36, revision 4.3."""
    match = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text_of(root / RELEASE) or "")
    return f"{match[1]}.{match[2]}" if match else None


def power_mode(root: Path = ROOT) -> str | None:
    """Name of the nvpmodel mode; its number where the names are not there."""
    number = re.search(r"pmode:(\d+)", text_of(root / POWER_MODE) or "")
    if number is None:
        return None
    names = {}
    for declared in re.findall(r"<\s*POWER_MODEL\s([^>]*)>", text_of(root / POWER_MODES) or ""):
        fields = dict(re.findall(r"(\w+)\s*=\s*(\S+)", declared))
        if fields.get("ID", "").isdigit():
            names[int(fields["ID"])] = fields.get("NAME", fields["ID"])
    return names.get(int(number[1]), str(int(number[1])))


def gpu_clock(root: Path = ROOT) -> Clock | None:
    """The GPU's."""
    for folder in below(root, "sys/class/devfreq/*"):
        if GPU_NAME.fullmatch(folder.name):
            return Clock(*(number_of(folder / f"{which}_freq") for which in ("min", "max", "cur")))
    return None


def cpu_clocks(root: Path = ROOT) -> list[Clock]:
    """Of every core that is on."""
    found = []
    for folder in below(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq"):
        if number_of(folder.parent / "online") != 0:
            hertz = [number_of(folder / f"scaling_{which}_freq") for which in ("min", "max", "cur")]
            found.append(Clock(*(None if value is None else value * 1000 for value in hertz)))
    return found


def temperatures_c(root: Path = ROOT) -> dict[str, float]:
    """Degrees by zone, those that tell one."""
    found = {}
    for zone in below(root, "sys/class/thermal/thermal_zone*"):
        name, thousandths = text_of(zone / "type"), number_of(zone / "temp")
        if name and thousandths is not None and thousandths / 1000 > LEAST_DEGREES:
            found[name] = thousandths / 1000
    return found


def throttling(root: Path = ROOT) -> Throttling:
    """Cooling devices at work, and power events so far."""
    active = {}
    for device in below(root, "sys/class/thermal/cooling_device*"):
        name, state = text_of(device / "type"), number_of(device / "cur_state")
        harmless = any(word in (name or "").lower() for word in NO_THROTTLING)
        if name and state is not None and state > 0 and not harmless:
            active[name] = state
    events = {}
    for number, kind in POWER_EVENTS.items():
        counts = [number_of(path) for path in below(root, f"sys/class/hwmon/hwmon*/oc{number}_event_cnt")]
        if known := [count for count in counts if count is not None]:
            events[kind] = sum(known)
    return Throttling(active, events)


def memory(root: Path = ROOT) -> Memory:
    """From `/proc/meminfo`; on a Jetson the GPU's share is in it."""
    sizes = meminfo_bytes(root)
    return Memory(sizes.get("MemTotal"), sizes.get("MemAvailable"))


def jetson_meter(root: Path = ROOT, *, use_jtop: bool = True) -> RailMeter | JtopMeter:
    """The power of this board: through `jetson-stats` where its service answers, else from sysfs.

    Args:
        root: of the file system; anywhere but at `/` only sysfs is looked at.
        use_jtop: whether to ask jetson-stats at all. It refreshes twice a second, sysfs every few milliseconds.

    Raises:
        MimiEdgeError: neither tells anything; the message has both reasons.
    """
    reason = "jetson-stats was not asked"
    if use_jtop and root == ROOT:
        try:
            return open_jtop()
        except MimiEdgeError as error:
            reason = str(error)
    try:
        return RailMeter(find_rails(root))
    except MimiEdgeError as error:
        raise MimiEdgeError(f"{error} {reason}") from error
