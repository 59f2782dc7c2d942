"""The GPU with its driver, the tools of a Jetson, folders, and Python itself."""

from __future__ import annotations

from collections.abc import Iterator

from mimi_edge.caches import CACHE_VARIABLE
from mimi_edge.installation import pip_line
from mimi_edge.parts import TRT
from mimi_edge.profiles.doctor.findings import Finding, State, first_sentence
from mimi_edge.profiles.doctor.judges.libraries import numbers
from mimi_edge.profiles.doctor.judges.seen import GOOD, Seen
from mimi_edge.profiles.doctor.steps import CACHE, CUDA_OF_TORCH, WORKING_FOLDER

LITTLE_BYTES = 1_000_000_000
"""Of free disk: a backbone takes a tenth of it, and an export holds it twice for a while."""
OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 13)
START_JTOP = "sudo systemctl start jtop"


def judge_machine(seen: Seen) -> Iterator[Finding]:
    """Findings of everything that is no Python library."""
    yield from _gpu(seen)
    yield from _torch_on_gpu(seen)
    yield from _tools(seen)
    yield from _jetson(seen)
    yield from _cache(seen)
    yield from _working_folder(seen)
    yield from _python(seen)
    yield from _ended(seen)


def _gpu(seen: Seen) -> Iterator[Finding]:
    driver, cuda = seen.facts("driver"), seen.facts("cuda")
    if driver.get("kernel") and not seen.has_driver:
        text = "The NVIDIA driver is in the kernel, but its library (libcuda.so.1) is not here, as in a container."
        yield Finding(State.WARNING, "GPU", text, "docker run --gpus all ... (on a Jetson: --runtime nvidia)")
    elif seen.has_driver and cuda.get("runtime") is False:
        line = seen.install_line(TRT) if seen.is_jetson else pip_line("install nvidia-cuda-runtime-cu12")
        yield Finding(State.MISSING, "CUDA", cuda["why_not"], line)
    elif seen.has_driver and seen.gpu is None and not seen.not_ours("cuda"):
        hidden = driver.get("visible") is not None
        text = f"There is a driver, and no GPU can be used: {seen.why_no_gpu}."
        if hidden:
            text += f" CUDA_VISIBLE_DEVICES is {driver['visible']!r}."
        state = State.WARNING if hidden else State.BROKEN
        yield Finding(state, "GPU", text, "unset CUDA_VISIBLE_DEVICES" if hidden else "nvidia-smi")


def _torch_on_gpu(seen: Seen) -> Iterator[Finding]:
    if seen.library("torch") != GOOD or seen.torch_on_gpu:
        return
    failure, built_for = seen.failure(CUDA_OF_TORCH), seen.facts(CUDA_OF_TORCH).get("built_for")
    if failure is not None and (seen.gpu is not None or failure.kind not in ("error", "import")):
        yield Finding(State.BROKEN, "torch", f"It cannot compute on the GPU: {first_sentence(failure.text)}.", UPGRADE)
    elif seen.gpu is not None and built_for is None:
        text = "This torch was built for CPUs alone, so training leaves the GPU idle."
        # The index has no other for a Jetson.
        line = None if seen.is_jetson else pip_line("install --force-reinstall --no-deps torch")
        yield Finding(State.WARNING, "torch", text, line)
    elif seen.gpu is not None:
        text = f"torch was built for CUDA {built_for} and sees no GPU; the driver knows CUDA {seen.gpu['driver_cuda']}."
        yield Finding(State.BROKEN, "torch", text, UPGRADE)


UPGRADE = "nvidia-smi"
"""It tells the newest CUDA that the driver knows, to choose torch or the driver by."""


def _tools(seen: Seen) -> Iterator[Finding]:
    smi, nvml = seen.facts("nvidia-smi"), seen.facts("nvml")
    if smi.get("path") and (smi.get("code") or seen.failure("nvidia-smi")):
        failure = seen.failure("nvidia-smi")
        told = failure.text if failure else " ".join(smi.get("said") or ["nothing"])
        state = State.BROKEN if seen.has_driver else State.WARNING
        yield Finding(state, "driver", f"nvidia-smi fails: {first_sentence(told)}.", "sudo reboot")
    elif seen.gpu is not None and not seen.is_jetson and nvml.get("why_not") and seen.library("pynvml") == GOOD:
        yield Finding(State.BROKEN, "NVML", first_sentence(nvml["why_not"]) + ".", "nvidia-smi")
    if nvml.get("warning"):
        yield Finding(State.WARNING, "GPU", nvml["warning"], "nvidia-smi")


def _jetson(seen: Seen) -> Iterator[Finding]:
    if not seen.is_jetson:
        return
    power, tools = seen.facts("power"), seen.facts("jetson").get("tools", {})
    if seen.library("jtop") == GOOD and power.get("jtop"):
        yield Finding(State.WARNING, "Jetson power", first_sentence(power["jtop"]) + ".", START_JTOP)
    if power.get("why_not"):
        yield Finding(State.WARNING, "Jetson power", f"Power cannot be read: {power['why_not']}", START_JTOP)
    if tools and not tools.get("nvpmodel"):
        text = "nvpmodel is not here, so the power mode cannot be set."
        yield Finding(State.WARNING, "Jetson power", text, "sudo apt install nvidia-l4t-nvpmodel")
    if seen.facts("jetson").get("fixed") is False:
        text = "Clocks move with the load, so timings will not repeat."
        yield Finding(State.WARNING, "Jetson clocks", text, "sudo jetson_clocks")


def _cache(seen: Seen) -> Iterator[Finding]:
    facts = seen.facts(CACHE)
    failure = seen.failure(CACHE)
    why_not = failure.text if failure and not seen.not_ours(CACHE) else facts.get("why_not")
    if why_not:
        text = f"The cache {facts.get('path', '')} cannot be written ({why_not}); export keeps backbone graphs there."
        yield Finding(State.BROKEN, "cache", text, f"export {CACHE_VARIABLE}=FOLDER")
    elif facts.get("free_bytes", LITTLE_BYTES) < LITTLE_BYTES:
        text = f"Where the cache {facts['path']} lies, {facts['free_bytes'] / 1e6:,.0f} MB are free."
        yield Finding(State.WARNING, "cache", text, f"export {CACHE_VARIABLE}=FOLDER")


def _working_folder(seen: Seen) -> Iterator[Finding]:
    facts, failure = seen.facts(WORKING_FOLDER), seen.failure(WORKING_FOLDER)
    why_not = failure.text if failure and not seen.not_ours(WORKING_FOLDER) else facts.get("why_not")
    if why_not:
        text = f"This folder cannot be written ({why_not}); give commands --run or --output, or go to another folder."
        yield Finding(State.WARNING, "folder", text, "cd FOLDER")
    elif facts.get("free_bytes", LITTLE_BYTES) < LITTLE_BYTES and facts["path"] != seen.facts(CACHE).get("path"):
        text = f"Where this folder lies, {facts['free_bytes'] / 1e6:,.0f} MB are free."
        yield Finding(State.WARNING, "folder", text, "df -h .")


def _python(seen: Seen) -> Iterator[Finding]:
    version = seen.facts("machine").get("python")
    if version and not OLDEST_PYTHON <= numbers(version)[:2] <= NEWEST_PYTHON:
        text = f"Python {version} is not among those that mimi-edge is tested with, 3.10 to 3.13."
        yield Finding(State.WARNING, "Python", text, "python3.12 -m venv .venv")


LOOKS = ("driver", "cuda", "nvml", "jetson", "power", "machine")
"""Steps that are no library: what ends one of them is found nowhere else."""


def _ended(seen: Seen) -> Iterator[Finding]:
    for step in LOOKS:
        failure = seen.failure(step)
        if failure is not None and not seen.not_ours(step):
            driver_found = step in ("cuda", "nvml", "driver") and failure.kind not in ("error", "import")
            state = State.BROKEN if driver_found else State.WARNING
            yield Finding(state, step, f"It could not be looked at: {first_sentence(failure.text)}.")
