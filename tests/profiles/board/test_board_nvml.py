"""A GPU's state through NVML: every field by itself, none of them can end a measurement."""

import inspect
import os
import re

import fake_pynvml
import pytest
from fake_pynvml import NO_PERMISSION, NOT_SUPPORTED, NVMLError, field, make, process

from mimi_edge.errors import MimiEdgeError
from mimi_edge.profiles.board import nvml
from mimi_edge.profiles.board.nvml import Gpu, NvmlMeter, gpu_state, open_gpu, throttle_words
from mimi_edge.profiles.board.power import PowerSamples

PREFIXES = {"nvmlClocksEventReason", "nvmlClocksThrottleReason"}
NAMED = set(re.findall(r"""(?:nvml\.|["'])((?:nvml|NVML)\w+)""", inspect.getsource(nvml))) - PREFIXES
USED = NAMED | {"nvmlClocksEventReason" + ending for ending in nvml.REASONS}


@pytest.fixture
def installed(monkeypatch):
    def install(module):
        monkeypatch.setattr(nvml, "import_module", lambda name: module)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        return module

    return install


def gpu(**changes):
    return Gpu(make(**changes), "handle 0")


def test_a_healthy_gpu_tells_everything():
    state = gpu_state(gpu())
    assert state.reasons == {}
    assert (state.name, state.uuid, state.driver) == ("NVIDIA Sample", "GPU-1234", "580.10")
    assert state.compute_capability == "8.9"
    assert state.clocks_mhz == {"graphics": 1500, "memory": 1502}
    assert state.most_clocks_mhz == {"graphics": 2500, "memory": 2502}
    assert state.application_clocks_mhz == {"graphics": 1000, "memory": 1002}
    assert (state.power_watts, state.power_average_watts, state.power_limit_watts) == (71.5, 70.0, 450.0)
    assert state.throttle_reasons == ("power limit", "temperature, by the hardware")
    assert (state.temperature_c, state.memory_used_bytes) == (55.0, 2 * 10**9)
    assert (state.persistence, state.mig, state.others) == (True, False, ())
    assert state.warning is None


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("nvmlDeviceGetApplicationsClock", {"application_clocks_mhz"}),
        ("nvmlDeviceGetMigMode", {"mig"}),
        ("nvmlDeviceGetPersistenceMode", {"persistence"}),
        ("nvmlDeviceGetMemoryInfo", {"memory_total_bytes"}),
        ("nvmlDeviceGetTemperature", {"temperature_c"}),
        ("nvmlDeviceGetGraphicsRunningProcesses", {"others"}),
        ("nvmlDeviceGetEnforcedPowerLimit", {"power_limit_watts"}),
        ("nvmlDeviceGetFieldValues", {"power_average_watts"}),
        ("nvmlSystemGetDriverVersion", {"driver"}),
    ],
)
@pytest.mark.parametrize(
    ("change", "reason"),
    [(NVMLError(NOT_SUPPORTED), "Not Supported"), (NVMLError(NO_PERMISSION), "Permission"), (None, "does not know")],
)
def test_what_fails_costs_its_field_and_says_why(name, fields, change, reason):
    state = gpu_state(gpu(**{name: change}))
    assert set(state.reasons) == fields
    for missing in fields:
        assert getattr(state, missing) is None
        assert reason in state.reasons[missing]


def test_nothing_at_all_is_still_a_state():
    broken = {name: NVMLError(NOT_SUPPORTED) for name in fake_pynvml.answers()}
    state = gpu_state(gpu(**broken))
    assert state.name is None
    assert state.throttling == ()
    assert state.warning is None
    assert len(state.reasons) >= 14


def test_power_falls_back_to_the_older_question():
    old = gpu(nvmlDeviceGetFieldValues=lambda _handle, _fields: [field(0, NOT_SUPPORTED)])
    state = gpu_state(old)
    assert state.power_watts == 69.0
    assert state.power_average_watts is None


def test_throttling_falls_back_to_the_older_name():
    older_driver = gpu(nvmlDeviceGetCurrentClocksEventReasons=NVMLError(NOT_SUPPORTED))
    assert gpu_state(older_driver).throttle_reasons == ("hardware slowdown",)
    older_module = gpu(nvmlDeviceGetCurrentClocksEventReasons=None)
    assert gpu_state(older_module).throttle_reasons == ("hardware slowdown",)


def test_reasons_are_words_and_unknown_bits_are_not_lost():
    module = make()
    assert throttle_words(module, 0) == ()
    assert throttle_words(module, 0x1) == ("idle",)
    assert throttle_words(module, 0x4 | 0x1000) == ("power limit", "unknown (0x1000)")


def test_idle_and_set_clocks_are_no_throttling():
    state = gpu_state(gpu(nvmlDeviceGetCurrentClocksEventReasons=lambda _handle: 0x1 | 0x2 | 0x20))
    assert state.throttling == ("temperature, by the driver",)


def test_other_processes_are_a_warning_and_our_own_are_not():
    shared = gpu(
        nvmlDeviceGetComputeRunningProcesses=lambda _handle: [process(os.getpid(), 10), process(77, 3 * 10**8)],
        nvmlDeviceGetGraphicsRunningProcesses=lambda _handle: [process(78, None)],
    )
    state = gpu_state(shared)
    assert [other.pid for other in state.others] == [77, 78]
    assert "process 77 (300 MB), process 78 (memory not known)" in state.warning
    assert gpu_state(shared, own_pids={os.getpid(), 77, 78}).warning is None


def test_a_gpu_is_found_by_index_uuid_or_environment(installed, monkeypatch):
    installed(make())
    assert open_gpu().handle == "handle 0"
    assert open_gpu("GPU-77").handle == "GPU-77"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-12,GPU-13")
    assert open_gpu().handle == "GPU-12"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    with pytest.raises(MimiEdgeError, match="GPU 5: Not Found"):
        open_gpu()


@pytest.mark.usefixtures("from_an_index")
def test_no_driver_and_no_module_are_told_apart(installed, monkeypatch):
    installed(make(nvmlInit=NVMLError(9)))
    with pytest.raises(MimiEdgeError, match="error 9"):
        open_gpu()

    def missing(name):
        raise ModuleNotFoundError("No module named 'pynvml'", name="pynvml")

    monkeypatch.setattr(nvml, "import_module", missing)
    with pytest.raises(MimiEdgeError, match=r"mimi-edge\[report\]"):
        open_gpu()


def test_the_energy_counter_is_preferred():
    joules = iter([5_000, 5_000, 12_000])
    meter = NvmlMeter(gpu(nvmlDeviceGetTotalEnergyConsumption=lambda _handle: next(joules)))
    first, second = meter.read(), meter.read()
    assert first.watts == 71.5
    found = PowerSamples((first, second)).energy(first.at_ns, second.at_ns)
    assert found.joules == pytest.approx(7.0)
    assert "energy counter" in meter.description


@pytest.mark.parametrize("change", [NVMLError(NOT_SUPPORTED), None])
def test_without_a_counter_there_is_power(change):
    meter = NvmlMeter(gpu(nvmlDeviceGetTotalEnergyConsumption=change))
    assert meter.read().counter_joules is None
    assert "energy counter" not in meter.description


def test_a_gpu_without_power_has_no_meter():
    mute = {name: NVMLError(NOT_SUPPORTED) for name in ("nvmlDeviceGetFieldValues", "nvmlDeviceGetPowerUsage")}
    with pytest.raises(MimiEdgeError, match="does not tell its power"):
        NvmlMeter(gpu(**mute))


def test_a_driver_that_stops_answering_is_an_error_of_the_system():
    device = gpu(nvmlDeviceGetFieldValues=NVMLError(NOT_SUPPORTED))
    meter = NvmlMeter(device)
    device.nvml.nvmlDeviceGetPowerUsage = fake_pynvml._failing(NVMLError(15))
    with pytest.raises(OSError, match="error 15"):
        meter.read()


def test_the_fake_has_exactly_the_names_that_are_used():
    assert set(vars(make())) == USED


def test_the_real_module_knows_them_with_these_values():
    real = pytest.importorskip("pynvml")
    assert [name for name in USED if not hasattr(real, name)] == []
    assert {name: getattr(real, name) for name in fake_pynvml.CONSTANTS} == fake_pynvml.CONSTANTS
