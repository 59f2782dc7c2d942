"""Memory of a process: from the kernel, and of a GPU from its driver or from what changed."""

import mmap
from types import SimpleNamespace

import pytest

from mimi_edge.profiles import memory
from mimi_edge.profiles.memory import DeviceMemory, device_memory, forget_peak, host_memory

MB = 1_000_000


def test_memory_that_was_taken_and_given_back_is_in_the_peak():
    before = host_memory()
    with mmap.mmap(-1, 60 * MB) as taken:
        for start in range(0, 60 * MB, mmap.PAGESIZE):
            taken[start] = 1
    after = host_memory()
    assert after.peak_bytes >= before.resident_bytes + 55 * MB
    assert after.resident_bytes < after.peak_bytes - 40 * MB
    forget_peak()
    assert host_memory().peak_bytes < after.peak_bytes - 40 * MB


def test_where_the_kernel_tells_nothing_the_largest_size_is_known_all_the_same(tmp_path):
    found = host_memory(tmp_path)
    assert found.resident_bytes == found.peak_bytes > MB
    forget_peak(tmp_path / "missing")


def test_the_driver_s_figure_for_the_process_goes_first():
    own = iter([None, 10, 10, 30, 30, 20])
    device = DeviceMemory(lambda: next(own), lambda: pytest.fail("not needed") if device._peak_bytes else 5)
    device.begin()
    assert device.end() == 10
    device.begin()
    assert device.end() == 30
    device.begin()
    assert device.end() == 20
    assert device.peak_bytes == 30


def test_else_what_changed_while_it_worked_is_added_up():
    used = iter([100, 150, 400, 430, 900, 890])
    device = DeviceMemory(lambda: None, lambda: next(used))
    taken = []
    for _ in range(3):
        device.begin()
        taken.append(device.end())
    assert taken == [50, 80, 70]
    assert device.peak_bytes == 80


def test_without_a_driver_nothing_is_known(monkeypatch):
    monkeypatch.setattr(memory, "_own_bytes", lambda *_: pytest.fail("there is no GPU"))
    from mimi_edge.errors import MimiEdgeError
    from mimi_edge.profiles.board import nvml

    def none():
        raise MimiEdgeError("no driver")

    monkeypatch.setattr(nvml, "open_gpu", none)
    device = device_memory()
    device.begin()
    assert device.end() is None
    assert device.peak_bytes is None


def test_nvml_is_asked_for_this_process_and_for_all(monkeypatch):
    import os

    from mimi_edge.profiles.board import nvml

    processes = [SimpleNamespace(pid=1, usedGpuMemory=7), SimpleNamespace(pid=os.getpid(), usedGpuMemory=42)]
    fake = SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlDeviceGetComputeRunningProcesses=lambda _: processes,
        nvmlDeviceGetMemoryInfo=lambda _: SimpleNamespace(used=1000),
    )
    monkeypatch.setattr(nvml, "open_gpu", lambda: SimpleNamespace(nvml=fake, handle="gpu"))
    device = device_memory()
    device.begin()
    assert device.end() == 42
    processes.pop()
    assert device.own() is None
    assert device.used() == 1000
    processes.append(SimpleNamespace(pid=os.getpid(), usedGpuMemory=None))
    assert device.own() is None


def test_on_a_jetson_the_machine_s_own_memory_is_what_the_gpu_takes_too(tmp_path):
    def in_use(available_kb):
        (tmp_path / "proc/meminfo").write_text(f"MemTotal:  8000000 kB\nMemAvailable:  {available_kb} kB\n")

    for file, text in (("proc/device-tree/model", "NVIDIA Jetson Orin Nano\0"), ("etc/nothing", "")):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    in_use(6_000_000)
    device = device_memory(tmp_path)
    device.begin()
    in_use(5_500_000)
    assert device.end() == 500_000 * 1024
    in_use(5_900_000)
    device.begin()
    assert device.end() == 500_000 * 1024
    assert memory.together_bytes(300, 500, unified=True) == 500
    assert memory.together_bytes(300, 500, unified=False) == 800
