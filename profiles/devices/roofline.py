"""What a device could do at best: its data sheet against the work of a graph.

Three bounds: operations over operations per second, bytes over bandwidth, kernels times the cost of starting one. The
largest binds. Nothing here is a measurement. Real times are mostly longer, because no network reaches the peak of a
data sheet; where a cache holds what is taken to go through memory, the bandwidth bound can be beaten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mimi_edge.errors import ConfigError
from mimi_edge.profiles.devices.device import PRECISIONS, Device
from mimi_edge.profiles.devices.work import Work

LABEL = "estimate"
LAUNCH = "launch"
BOUNDS = ("compute", "bandwidth", LAUNCH)
MS = 1000.0


@dataclass(frozen=True)
class Estimate:
    """About the least time that one batch takes on a device. Always an estimate, never a measurement.

    Attributes:
        device: its name in the catalogue.
        title: what people call it, with its power mode.
        precision: of all computation.
        batch: images at a time.
        bounds_ms: by bound; `launch` is missing where a profile assumes nothing about it.
        launch_assumption: what the launch bound stands on.
    """

    device: str
    title: str
    precision: str
    batch: int
    bounds_ms: Mapping[str, float]
    launch_assumption: str | None = None

    def __post_init__(self) -> None:
        if self.batch < 1 or not self.bounds_ms or min(self.bounds_ms.values()) <= 0:
            raise ConfigError(f"An estimate has a batch and bounds above 0 ms; got {dict(self.bounds_ms)}.")

    @property
    def label(self) -> str:
        """What to write beside every figure of this."""
        return LABEL

    @property
    def bound(self) -> str:
        """The bound that binds: `compute`, `bandwidth` or `launch`."""
        return max(self.bounds_ms, key=lambda name: self.bounds_ms[name])

    @property
    def ms(self) -> float:
        """Milliseconds of a batch, at best."""
        return self.bounds_ms[self.bound]

    @property
    def images_per_s(self) -> float:
        """At best."""
        return self.batch / self.ms * MS


@dataclass(frozen=True)
class EstimateError:
    """How far an estimate was from what was measured there.

    Attributes:
        estimated_ms: at best.
        measured_ms: in truth.
    """

    estimated_ms: float
    measured_ms: float

    @property
    def relative(self) -> float:
        """(estimate - measured) / measured: -0.4 for an estimate 40 % below the measurement."""
        return self.estimated_ms / self.measured_ms - 1

    def __str__(self) -> str:
        side = "below" if self.relative < 0 else "above"
        return (
            f"estimate {self.estimated_ms:.3g} ms, measured {self.measured_ms:.3g} ms: "
            f"the estimate is {abs(self.relative):.0%} {side}"
        )


def why_not(device: Device, precision: str) -> str | None:
    """Why there can be no estimate, None where there can."""
    if precision not in PRECISIONS:
        return f"unknown precision {precision!r}"
    if precision not in device.operations_per_s:
        return f"no {precision} figure (has {', '.join(device.operations_per_s) or 'none'})"
    if device.memory_bytes_per_s is None:
        return "no memory bandwidth"
    return None


def estimate(device: Device, work: Work, precision: str = "fp16") -> Estimate:
    """The roofline of one batch.

    Args:
        device: a profile, in one of its power modes or as sold.
        work: of a graph at a batch.
        precision: one of `PRECISIONS`.

    Raises:
        ConfigError: the profile lacks a figure that this needs.
    """
    reason = why_not(device, precision)
    if reason is not None or device.memory_bytes_per_s is None:
        raise ConfigError(
            f"There is no estimate of {precision} on {device.title}: {reason}. Choose another --precision, "
            "or add the figure, with its source, in a profile of your own."
        )
    bounds = {
        "compute": work.flops / device.operations_per_s[precision] * MS,
        "bandwidth": work.bytes_moved(precision) / device.memory_bytes_per_s * MS,
    }
    overhead = device.launch_overhead
    if overhead is not None:
        bounds[LAUNCH] = work.kernels * overhead.seconds * MS
    assumption = None if overhead is None else overhead.assumption
    return Estimate(device.name, device.title, precision, work.batch, bounds, assumption)


def not_told_apart(estimates: Sequence[Estimate]) -> list[tuple[Estimate, ...]]:
    """Groups of devices that have the same estimate of a batch because it is bound by the launch of kernels.

    That bound stands on an assumption that is the same for many devices, so it says nothing about which is faster.
    """
    groups: dict[tuple[int, float], list[Estimate]] = {}
    for one in estimates:
        if one.bound == LAUNCH:
            groups.setdefault((one.batch, one.ms), []).append(one)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def compare(estimated: Estimate, measured_ms: float) -> EstimateError:
    """Sets an estimate against a measurement of the same graph, batch and precision.

    Raises:
        ConfigError: the measurement is not positive.
    """
    if not 0 < measured_ms < float("inf"):
        raise ConfigError(f"A measured time is positive, got {measured_ms} ms. Give the median of a profile.")
    return EstimateError(estimated.ms, measured_ms)
