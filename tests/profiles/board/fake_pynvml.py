"""A stand-in for the module `pynvml`: exactly the names that are used of it, and ways to make each of them fail."""

from types import SimpleNamespace

CONSTANTS = {
    "NVML_SUCCESS": 0,
    "NVML_CLOCK_GRAPHICS": 0,
    "NVML_CLOCK_MEM": 2,
    "NVML_TEMPERATURE_GPU": 0,
    "NVML_FI_DEV_POWER_AVERAGE": 185,
    "NVML_FI_DEV_POWER_INSTANT": 186,
    "nvmlClocksEventReasonGpuIdle": 0x1,
    "nvmlClocksEventReasonApplicationsClocksSetting": 0x2,
    "nvmlClocksEventReasonSwPowerCap": 0x4,
    "nvmlClocksEventReasonHwSlowdown": 0x8,
    "nvmlClocksEventReasonSyncBoost": 0x10,
    "nvmlClocksEventReasonSwThermalSlowdown": 0x20,
    "nvmlClocksEventReasonHwThermalSlowdown": 0x40,
    "nvmlClocksEventReasonHwPowerBrakeSlowdown": 0x80,
    "nvmlClocksEventReasonDisplayClockSetting": 0x100,
}


WORDS = {3: "Not Supported", 4: "Insufficient Permissions", 6: "Not Found"}


class NVMLError(Exception):
    def __init__(self, code):
        super().__init__(WORDS.get(code, f"error {code}"))


NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND = 3, 4, 6


def process(pid, used):
    return SimpleNamespace(pid=pid, usedGpuMemory=used)


def field(milliwatts, code=0):
    return SimpleNamespace(nvmlReturn=code, value=SimpleNamespace(uiVal=milliwatts))


def answers():
    """What a healthy board with nothing else on it says."""
    return {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByIndex": _by_index,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetName": lambda _handle: "NVIDIA Sample",
        "nvmlDeviceGetUUID": lambda _handle: b"GPU-1234",
        "nvmlSystemGetDriverVersion": lambda: "580.10",
        "nvmlDeviceGetCudaComputeCapability": lambda _handle: (8, 9),
        "nvmlDeviceGetClockInfo": lambda _handle, domain: 1500 + domain,
        "nvmlDeviceGetMaxClockInfo": lambda _handle, domain: 2500 + domain,
        "nvmlDeviceGetApplicationsClock": lambda _handle, domain: 1000 + domain,
        "nvmlDeviceGetFieldValues": lambda _handle, fields: [field(71_500 if fields == [186] else 70_000)],
        "nvmlDeviceGetPowerUsage": lambda _handle: 69_000,
        "nvmlDeviceGetEnforcedPowerLimit": lambda _handle: 450_000,
        "nvmlDeviceGetTotalEnergyConsumption": lambda _handle: 5_000,
        "nvmlDeviceGetCurrentClocksEventReasons": lambda _handle: 0x4 | 0x40,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda _handle: 0x8,
        "nvmlDeviceGetTemperature": lambda _handle, _sensor: 55,
        "nvmlDeviceGetMemoryInfo": lambda _handle: SimpleNamespace(total=24 * 10**9, used=2 * 10**9),
        "nvmlDeviceGetPersistenceMode": lambda _handle: 1,
        "nvmlDeviceGetMigMode": lambda _handle: [0, 0],
        "nvmlDeviceGetComputeRunningProcesses": lambda _handle: [],
        "nvmlDeviceGetGraphicsRunningProcesses": lambda _handle: [],
    }


def _by_index(index):
    if index:
        raise NVMLError(NOT_FOUND)
    return "handle 0"


def make(**changes):
    """A module; `name=exception` makes a function fail, `name=None` takes a name out."""
    names = CONSTANTS | {"NVMLError": NVMLError} | answers()
    for name, change in changes.items():
        if change is None:
            del names[name]
        elif isinstance(change, Exception):
            names[name] = _failing(change)
        else:
            names[name] = change
    return SimpleNamespace(**names)


def _failing(error):
    def fails(*_arguments):
        raise error

    return fails
