"""Power of a Jetson through `jetson-stats`, whose service reads the sensors and keeps a socket open.

Its own total is not used: where a board has no total rail it adds all rails up, and on AGX Orin one of them is part of
another.
"""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

from mimi_edge.errors import MimiEdgeError
from mimi_edge.parts import JETSON, install_line
from mimi_edge.profiles.board.power import PowerReading
from mimi_edge.profiles.board.rails import RailChoice, choose_rails

MW_PER_W = 1000.0


class JtopMeter:
    """Rails as the jtop service tells them, chosen as those of sysfs are.

    Args:
        client: an open `jtop.jtop`.

    Raises:
        MimiEdgeError: it tells no rails.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self.choice: RailChoice = choose_rails(list(_rails(client.power)))

    @property
    def description(self) -> str:
        """What is read and what it covers."""
        return f"{' + '.join(self.choice.summed)} from jetson-stats ({self.choice.covers})"

    def read(self) -> PowerReading:
        """What the service said last.

        Raises:
            OSError: the service no longer answers, or a rail is gone.
        """
        if not self._client.ok():
            raise OSError("the jtop service stopped answering")
        rails = _rails(self._client.power)
        try:
            watts = {name: rails[name] for name in self.choice.summed}
        except KeyError as error:
            raise OSError(f"the jtop service no longer tells {error}") from error
        return PowerReading(sum(watts.values()), watts, time.perf_counter_ns())

    def close(self) -> None:
        """Lets the service go."""
        self._client.close()


def open_jtop(interval_s: float = 0.5) -> JtopMeter:
    """Connects to the jtop service.

    Raises:
        MimiEdgeError: `jetson-stats` is not installed, or its service does not answer; the message says which.
    """
    try:
        module = import_module("jtop")
    except ImportError as error:
        raise MimiEdgeError(f"jetson-stats is not installed ({error}): {install_line(JETSON)}") from error
    client = module.jtop(interval=interval_s)
    try:
        client.start()
        if not client.ok():  # it also waits for the first figures
            raise OSError("it sends nothing")
        return JtopMeter(client)
    except Exception as error:  # jtop's own kinds, without a common base, and those of its socket
        client.close()
        raise MimiEdgeError(
            f"The jtop service does not answer ({error}). Start it: sudo systemctl start jtop"
        ) from error


def _rails(power: Any) -> dict[str, float]:
    """Watts by rail. The service takes a total rail out of the list and tells it apart, by its name."""
    rails = {str(name): float(values["power"]) / MW_PER_W for name, values in power["rail"].items()}
    total = power.get("tot", {})
    if "name" in total:
        rails[str(total["name"])] = float(total["power"]) / MW_PER_W
    return rails
