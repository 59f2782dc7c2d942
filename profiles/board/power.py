"""Watts over time, and the joules between two instants.

A `PowerMeter` is read over and over on a thread of its own while something runs. Its clock is `time.perf_counter_ns`,
which on Linux is the same in all processes, so the process that is measured need not be the one that reads: reading
sensors takes time from whoever does it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import numpy as np

from mimi_edge.errors import ConfigError, MimiEdgeError

NS_PER_S = 1e9
DEFAULT_INTERVAL_S = 0.05
MOST_FAILURES = 20
"""Readings in a row that may fail before sampling stops."""
COUNTER = "counter"
TRAPEZOID = "trapezoid"


@dataclass(frozen=True)
class PowerReading:
    """What a meter said at one instant.

    Attributes:
        watts: altogether.
        rails: watts by the rail that was summed.
        at_ns: `time.perf_counter_ns` then.
        counter_joules: of an energy counter that only rises, where the device has one.
    """

    watts: float
    rails: Mapping[str, float]
    at_ns: int
    counter_joules: float | None = None


class PowerMeter(Protocol):
    """Something that can be asked for power."""

    @property
    def description(self) -> str:
        """What is read and what it covers, for the report."""
        ...

    def read(self) -> PowerReading:
        """Asks now.

        Raises:
            OSError: this time it did not answer.
        """
        ...


@dataclass(frozen=True)
class Energy:
    """What was used between two instants.

    Attributes:
        joules: everything, idle included.
        seconds: between the instants.
        method: `counter` of the device, or `trapezoid` over sampled watts.
        samples: readings between the instants.
    """

    joules: float
    seconds: float
    method: str
    samples: int

    @property
    def mean_watts(self) -> float:
        """Over the whole time."""
        return self.joules / self.seconds


@dataclass(frozen=True)
class PowerSamples:
    """Readings in order of time.

    Attributes:
        readings: at least two.
        failures: readings that did not come.
    """

    readings: tuple[PowerReading, ...]
    failures: int = 0

    def __post_init__(self) -> None:
        times = [reading.at_ns for reading in self.readings]
        if len(times) < 2 or any(later <= earlier for earlier, later in pairwise(times)):
            raise ConfigError(
                f"Power samples need two readings or more at rising times; got {len(times)}. Sample longer."
            )

    @property
    def method(self) -> str:
        """How joules are had: by the device's counter if every reading has it."""
        return TRAPEZOID if any(reading.counter_joules is None for reading in self.readings) else COUNTER

    def energy(self, start_ns: int, end_ns: int) -> Energy:
        """Joules between two instants.

        Between readings power (or the counter) is taken to change evenly.

        Args:
            start_ns: `time.perf_counter_ns` at the start; not before the first reading.
            end_ns: and at the end; not after the last reading.

        Raises:
            ConfigError: the instants are in wrong order or not covered by readings.
        """
        first, last = self.readings[0].at_ns, self.readings[-1].at_ns
        if not first <= start_ns < end_ns <= last:
            raise ConfigError(
                f"Energy is known from {first} to {last} ns; asked from {start_ns} to {end_ns}. "
                "Start sampling before the work and stop it after."
            )
        inside = sum(start_ns <= reading.at_ns <= end_ns for reading in self.readings)
        joules = self._joules_at(end_ns) - self._joules_at(start_ns)
        return Energy(joules, (end_ns - start_ns) / NS_PER_S, self.method, inside)

    def _joules_at(self, at_ns: int) -> float:
        """Since the first reading; between readings the counter, or the power, changes evenly."""
        first = self.readings[0].at_ns
        times = np.array([reading.at_ns - first for reading in self.readings], np.float64)
        if self.method == COUNTER:
            return float(np.interp(at_ns - first, times, [reading.counter_joules or 0.0 for reading in self.readings]))
        watts = np.array([reading.watts for reading in self.readings], np.float64)
        then = np.interp(at_ns - first, times, watts)
        passed = times < at_ns - first
        times, watts = np.append(times[passed], at_ns - first), np.append(watts[passed], then)
        return float(np.sum(np.diff(times) * (watts[1:] + watts[:-1])) / 2 / NS_PER_S)


@dataclass
class PowerSampler:
    """Readings as they come in from a thread. Made by `sample`."""

    meter: PowerMeter
    interval_s: float
    _readings: list[PowerReading] = field(default_factory=list)
    _failures: int = 0
    _in_a_row: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def samples(self) -> PowerSamples:
        """What has been read so far.

        Raises:
            MimiEdgeError: the meter has not answered twice.
        """
        readings = tuple(self._readings)
        if len(readings) < 2:
            raise MimiEdgeError(
                f"{self.meter.description} answered {len(readings)} times, {self._failures} readings failed. "
                "Expected two or more; sample longer, or check that its files can be read."
            )
        return PowerSamples(readings, self._failures)

    def _read(self) -> None:
        try:
            reading = self.meter.read()
        except (OSError, ValueError, MimiEdgeError):
            self._failures += 1
            self._in_a_row += 1
            return
        self._in_a_row = 0
        if not self._readings or reading.at_ns > self._readings[-1].at_ns:
            self._readings.append(reading)

    def _run(self) -> None:
        while self._in_a_row < MOST_FAILURES and not self._stop.wait(self.interval_s):
            self._read()


@contextmanager
def sample(meter: PowerMeter, interval_s: float = DEFAULT_INTERVAL_S) -> Iterator[PowerSampler]:
    """Reads a meter on a thread while the block runs, once at its start and once at its end in any case.

    Args:
        meter: to read.
        interval_s: seconds between readings. Sensors of a Jetson refresh every few ms, NVML's power every 100 ms or so.

    Raises:
        ConfigError: the interval is not positive.
    """
    if not interval_s > 0:
        raise ConfigError(f"The sampling interval must be above 0 s, got {interval_s}. Give something like 0.05.")
    sampler = PowerSampler(meter, interval_s)
    sampler._read()
    thread = threading.Thread(target=sampler._run, name="mimi-edge-power", daemon=True)
    thread.start()
    try:
        yield sampler
    finally:
        sampler._stop.set()
        thread.join()
        sampler._read()


def idle_watts(meter: PowerMeter, seconds: float = 2.0, interval_s: float = DEFAULT_INTERVAL_S) -> float:
    """Mean watts of the machine at rest; call it before the work.

    Raises:
        MimiEdgeError: the meter did not answer.
    """
    with sample(meter, interval_s) as sampler:
        time.sleep(seconds)
    samples = sampler.samples()
    return samples.energy(samples.readings[0].at_ns, samples.readings[-1].at_ns).mean_watts
