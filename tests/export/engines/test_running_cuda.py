from __future__ import annotations

import ctypes
from types import SimpleNamespace

import numpy as np
import pytest
from fake_cuda import FakeCuda
from hypothesis import given
from hypothesis import strategies as st

from mimi_edge.errors import ConfigError, MimiEdgeError
from mimi_edge.export.engines.running import cuda_library
from mimi_edge.export.engines.running.cuda import Cuda, CudaError, open_cuda, why_no_gpu


@pytest.fixture
def gpu():
    made = FakeCuda()
    yield made
    made.check()


class Driver:
    """The part of libcuda that knows names."""

    def cuInit(self, flags):  # noqa: N802
        return 0

    def cuDeviceGet(self, out, index):  # noqa: N802
        return 0

    def cuDeviceGetName(self, text, size, device):  # noqa: N802
        text.value = b"Orin"
        return 0


def test_the_device_is_described(gpu):
    device = Cuda(gpu.library, 0, Driver()).device
    assert (device.name, device.compute_capability, device.integrated) == ("Orin", (8, 7), True)
    assert (device.multiprocessors, device.clock_mhz, device.memory_bytes) == (16, 1300, 1_000_000_000)
    assert (device.driver_cuda, device.runtime_cuda) == ("12.6", "12.6")
    assert "8.7" in Cuda(gpu.library).device.name


@pytest.mark.parametrize(
    ("gpu", "said"),
    [
        (FakeCuda(driver=0), "no NVIDIA driver"),
        (FakeCuda(driver=11040), r"driver is too old: the CUDA runtime is 12\.6, the driver knows up to CUDA 11\.4"),
        (FakeCuda(devices=0), "CUDA_VISIBLE_DEVICES"),
        (FakeCuda(fail={"cudaGetDeviceCount": [999]}), r"cudaErrorUnknown \(999\)"),
    ],
)
def test_what_keeps_a_gpu_from_being_used_is_said(gpu, said):
    with pytest.raises(MimiEdgeError, match=said):
        open_cuda(found=[gpu.library])


def test_without_any_library_the_message_says_what_to_install():
    with pytest.raises(MimiEdgeError, match=r"libcudart.*pip install nvidia-cuda-runtime"):
        open_cuda(found=[])


def test_an_older_runtime_is_taken_where_the_driver_is_too_old_for_the_newest():
    newest, older = FakeCuda(runtime=13000, driver=12060), FakeCuda(runtime=12020, driver=12060)
    assert open_cuda(found=[newest.library, older.library]).device.runtime_cuda == "12.2"
    with pytest.raises(MimiEdgeError, match="too old"):
        open_cuda(found=[newest.library])


def test_a_library_without_the_functions_is_too_old():
    with pytest.raises(MimiEdgeError, match=r"expected CUDA 11\.4 or newer"):
        Cuda(SimpleNamespace())


def test_another_device_than_there_are(gpu):
    with pytest.raises(ConfigError, match="no GPU 1: this process sees 1"):
        open_cuda(1, found=[gpu.library])


def test_the_library_that_lies_here_loads_and_what_is_missing_is_explained():
    """The real library, where NVIDIA's wheel brings one; without a driver it says so."""
    found = list(cuda_library.libraries())
    if not found:
        pytest.skip("needs a CUDA runtime library; none is installed")
    assert cuda_library.declared(found[0]).cudaGetErrorName(35) == b"cudaErrorInsufficientDriver"
    why = why_no_gpu()
    assert why is None or "driver" in why or "GPU" in why


def test_libraries_that_are_loaded_already_come_first(tmp_path, monkeypatch):
    maps = tmp_path / "maps"
    maps.write_text("7f00 r-xp 0 00:1 12 /opt/cuda/lib64/libcudart.so.12.6.77\n7f01 rw-p 0 00:0 0\n")
    assert list(cuda_library._already_loaded(maps)) == ["/opt/cuda/lib64/libcudart.so.12.6.77"]
    assert list(cuda_library._already_loaded(tmp_path / "none")) == []


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=8))
def test_bytes_come_back_as_they_went(sizes):
    gpu = FakeCuda()
    cuda = gpu.open()
    values = [np.random.default_rng(size).integers(0, 256, size, np.uint8) for size in sizes]
    with cuda.stream() as stream:
        buffers = [cuda.allocate(size) for size in sizes]
        back = [cuda.pinned((size,), np.uint8) for size in sizes]
        for sent, buffer, received in zip(values, buffers, back, strict=True):
            cuda.upload(buffer.handle, sent, stream)
            cuda.download(received.array, buffer.handle, stream)
        cuda.wait(stream)
        assert all(np.array_equal(sent, received.array) for sent, received in zip(values, back, strict=True))
        for owned in (*buffers, *back):
            owned.close()
            owned.close()
    gpu.check()


def test_copies_on_the_device_and_zeros(gpu):
    cuda = gpu.open()
    with cuda.stream() as stream, cuda.allocate(8) as one, cuda.allocate(8) as other, cuda.pinned((2,), "f4") as host:
        host.array[:] = (1, 2)
        cuda.upload(one.handle, host.array, stream)
        cuda.copy(other.handle, one.handle, 8, stream)
        cuda.clear(one.handle, 4, stream)
        cuda.copy(one.handle + 4, other.handle, 4, stream)
        cuda.download(host.array, one.handle, stream)
        cuda.wait(stream)
        assert host.array.tolist() == [0, 1]


def test_a_graph_does_its_work_each_time_it_is_launched(gpu):
    cuda = gpu.open()
    with cuda.stream() as stream, cuda.allocate(4) as device, cuda.pinned((1,), "f4") as host:

        def work():
            cuda.upload(device.handle, host.array, stream)
            cuda.download(host.array, device.handle, stream)

        host.array[:] = 3
        with cuda.capture(stream, work) as graph:
            cuda.wait(stream)
            for value in (5, 7):
                host.array[:] = value
                cuda.launch(graph, stream)
                cuda.wait(stream)
                assert host.array[0] == value
    assert gpu.calls["cudaGraphDestroy"] == gpu.calls["cudaGraphExecDestroy"] == 1


def test_a_spoiled_capture_leaves_a_usable_stream(gpu):
    cuda = gpu.open()
    with cuda.stream() as stream:
        with pytest.raises(CudaError, match="not permitted when stream is capturing"):
            cuda.capture(stream, lambda: cuda.wait(stream))
        with pytest.raises(ZeroDivisionError):
            cuda.capture(stream, lambda: 1 / 0)
        with cuda.capture(stream, lambda: None) as graph:
            cuda.launch(graph, stream)
        cuda.wait(stream)


def test_out_of_memory_says_what_was_asked_and_what_is_free():
    gpu = FakeCuda(memory_bytes=50_000_000)
    cuda = gpu.open()
    with (
        cuda.allocate(20_000_000),
        pytest.raises(CudaError, match=r"80\.0 MB were asked for, 30 MB of 50 MB") as caught,
    ):
        cuda.allocate(80_000_000)
    assert caught.value.code == 2
    gpu.check()


def test_using_what_was_closed(gpu):
    buffer = gpu.open().allocate(4)
    buffer.close()
    with pytest.raises(MimiEdgeError, match="DeviceBuffer was closed already"):
        _ = buffer.handle


# The fake has to catch what a GPU would crash on, or the tests above show nothing.


@pytest.mark.parametrize("wrong", ["twice", "too early", "too much", "leak", "unpinned"])
def test_the_fake_notices(wrong):
    gpu = FakeCuda()
    cuda = gpu.open()
    stream, buffer = cuda.stream(), cuda.allocate(4)
    address = buffer.handle
    if wrong == "unpinned":
        with pytest.raises(CudaError), stream, buffer:
            cuda.capture(stream, lambda: cuda.upload(address, np.zeros(1, "f4"), stream))
        return gpu.check()
    if wrong == "too much":
        cuda.clear(address, 5, stream)
    if wrong != "leak":
        with pytest.raises(CudaError) if wrong == "too much" else _nothing():
            buffer.close()
    if wrong == "twice":
        gpu.library.cudaFree(ctypes.c_void_p(address))
    if wrong == "too early":
        cuda.clear(address, 4, stream)
    with pytest.raises(CudaError) if wrong == "too early" else _nothing():
        stream.close()
    with pytest.raises(AssertionError):
        gpu.check()
    return None


class _nothing:  # noqa: N801
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None
