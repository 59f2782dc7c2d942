"""What holds for every test: what is skipped where, no network, few threads, no traces outside temporary folders."""

from __future__ import annotations

import ipaddress
import os
import shutil
import signal
import socket
import tempfile
from pathlib import Path
from typing import Any

import hypothesis
import pytest

CACHES = {"MIMI_EDGE_CACHE": "mimi-edge", "HF_HOME": "hub", "TORCH_HOME": "torch", "MPLCONFIGDIR": "matplotlib"}
SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "MPLBACKEND": "agg",
    # A training gives the same bytes only with the same number of threads; and several processes test side by side.
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}

hypothesis.settings.register_profile(
    "here",
    deadline=None,
    max_examples=40,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "ci", parent=hypothesis.settings.get_profile("here"), derandomize=True, print_blob=True
)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_configure(config: pytest.Config) -> None:
    """Caches in a folder of this run and nothing of the person's own settings; child processes inherit it.

    Here and not in a fixture, because libraries read these when the test modules import them.
    """
    folder = Path(tempfile.mkdtemp(prefix="mimi-edge-tests-"))
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    for variable in [name for name in os.environ if name.startswith("MIMI_EDGE_")]:
        patch.delenv(variable)
    for variable in ("FORCE_COLOR", "CLICOLOR_FORCE", "PYTHONPATH"):
        patch.delenv(variable, raising=False)
    for variable, name in CACHES.items():
        patch.setenv(variable, str(folder / name))
    for variable, value in SETTINGS.items():
        patch.setenv(variable, value)
    # Under nohup the tests would inherit that a closed terminal is nothing to them, and so would what they start.
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _why_no_gpu() -> str | None:
    """By the CUDA runtime: a Jetson has one, and no torch."""
    from mimi_edge.export.engines.running.cuda import why_no_gpu

    why = why_no_gpu()
    return None if why is None else f"needs an NVIDIA GPU: {why}"


def _why_no_trt() -> str | None:
    from mimi_edge.choices import Backend
    from mimi_edge.errors import MimiEdgeError
    from mimi_edge.export.engines.tensorrt.bindings import load_bindings

    try:
        load_bindings(Backend.TRT)
    except MimiEdgeError as error:
        return f"needs TensorRT: {str(error).splitlines()[0]}"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Files with slow tests come first, or a process would be busy with one while the others have nothing left to do.
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    for marker, why_not in (("gpu", _why_no_gpu), ("trt", _why_no_trt)):
        marked = [item for item in items if item.get_closest_marker(marker)]
        reason = why_not() if marked else None
        for item in marked:
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


def _is_loopback(host: object) -> bool:
    if host in ("", "localhost", None):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else str(host)).is_loopback
    except ValueError:
        return False


class NetworkForbiddenError(ConnectionError):
    """What a test gets that reaches for another machine: to the code under test it looks like having no network."""


class _GuardedSocket(socket.socket):
    """A socket that only reaches this machine."""

    def connect(self, address: Any) -> None:
        self._refuse_elsewhere(address)
        super().connect(address)

    def connect_ex(self, address: Any) -> int:
        self._refuse_elsewhere(address)
        return super().connect_ex(address)

    def _refuse_elsewhere(self, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
            raise NetworkForbiddenError(f"A test tried to reach {address[0]}; mark it `network` if it should.")


@pytest.fixture(autouse=True)
def _no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections to other machines, and looking up their names, fail in every test that is not marked `network`."""
    if request.node.get_closest_marker("network"):
        return
    look_up = socket.getaddrinfo

    def look_up_here(host: Any, *arguments: Any, **keywords: Any) -> Any:
        if not _is_loopback(host):
            raise NetworkForbiddenError(f"A test tried to look up {host}; mark it `network` if it should.")
        return look_up(host, *arguments, **keywords)

    monkeypatch.setattr(socket, "socket", _GuardedSocket)
    monkeypatch.setattr(socket, "getaddrinfo", look_up_here)


@pytest.fixture
def from_an_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this copy came from an index, into an environment whose pip is the shell's and that sees the system."""
    from mimi_edge import installation

    monkeypatch.setattr(installation, "origin", installation.Origin)
    monkeypatch.setattr(installation, "_is_on_path", lambda: True)
    monkeypatch.setattr(installation, "in_environment", lambda: True)
    monkeypatch.setattr(installation, "hides_the_system", lambda: False)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder that holds pyproject.toml."""
    return Path(__file__).parents[1]
