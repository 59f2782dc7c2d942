"""ONNX Runtime's providers, TensorRT and TensorRT for RTX: what they say, and what they can load."""

from __future__ import annotations

from collections.abc import Iterator

from mimi_edge.choices import Backend
from mimi_edge.export.engines.tensorrt.libraries import JETSON
from mimi_edge.installation import pip_line
from mimi_edge.parts import GPU, TRT
from mimi_edge.profiles.doctor.findings import Finding, State, first_sentence
from mimi_edge.profiles.doctor.judges.libraries import RUNTIME, reinstall_line
from mimi_edge.profiles.doctor.judges.seen import GOOD, Seen, library
from mimi_edge.runtimes import ENGINE_BACKENDS, GRAPH_BACKENDS, Runtime, runtime_of


def judge_runtimes(seen: Seen) -> Iterator[Finding]:
    """Findings of everything that runs a graph or an engine."""
    if seen.library("onnxruntime") == GOOD:
        for backend in GRAPH_BACKENDS:
            yield from _provider(backend, seen)
    for backend in ENGINE_BACKENDS:
        yield from _engines(backend, seen)


def computes(backend: Backend, seen: Seen) -> bool:
    """Whether a provider of ONNX Runtime gave the right answer."""
    return seen.facts(backend.value).get("computes") is True and seen.failure(backend.value) is None


def why_not_provider(backend: Backend, seen: Seen) -> str:
    """Why a provider does not compute, in a sentence."""
    if seen.library("onnxruntime") != GOOD:
        return f"ONNX Runtime is {'broken' if seen.failure('onnxruntime') else 'not installed'}"
    if failure := seen.failure(backend.value):
        return first_sentence(failure.text)
    if not seen.facts(backend.value).get("built_in"):
        return "this ONNX Runtime was built without it"
    return "it gave a wrong answer"


def has_engines(backend: Backend, seen: Seen) -> bool:
    """Whether TensorRT's module was loaded and fits its libraries."""
    return bool(seen.facts(backend.value).get("version")) and not list(_misfit(backend, seen))


def makes(backend: Backend, what: str, seen: Seen) -> bool:
    """Whether a `builder` or a `runtime` can be made."""
    return has_engines(backend, seen) and seen.facts(f"{backend.value} {what}").get("made") is True


def engines_line(backend: Backend, seen: Seen) -> str:
    """The line that installs TensorRT, or TensorRT for RTX."""
    return seen.install_line(runtime_of(backend).part)


def _provider(backend: Backend, seen: Seen) -> Iterator[Finding]:
    if computes(backend, seen) or seen.not_ours(backend.value):
        return
    built_in = seen.facts(backend.value).get("built_in")
    text = f"{backend.value} does not work: {why_not_provider(backend, seen)}."
    if backend is Backend.ORT_CPU:
        yield Finding(State.BROKEN, RUNTIME, text, reinstall_line(library("onnxruntime"), seen))
    elif seen.gpu is None:
        return  # without a GPU it cannot be expected to
    elif built_in and backend is Backend.ORT_CUDA:
        yield Finding(State.BROKEN, RUNTIME, text, reinstall_line(library("onnxruntime"), seen))
    elif built_in:
        line = None if has_engines(Backend.TRT, seen) else seen.install_line(TRT)
        yield Finding(State.WARNING, RUNTIME, f"{text} It needs TensorRT of the version it was built for.", line)
    elif backend is Backend.ORT_CUDA:
        yield _for_cpus_alone(seen)


def _for_cpus_alone(seen: Seen) -> Finding:
    if seen.is_jetson:
        text = "It was built for CPUs alone, and the index has no other for a Jetson; TensorRT uses the GPU here."
        return Finding(State.MISSING, RUNTIME, text, None if has_engines(Backend.TRT, seen) else seen.install_line(TRT))
    line = f"{pip_line('uninstall -y onnxruntime')} && {seen.install_line(GPU)}"
    return Finding(State.MISSING, RUNTIME, "It was built for CPUs alone, and there is a GPU.", line)


def _engines(backend: Backend, seen: Seen) -> Iterator[Finding]:
    runtime, facts = runtime_of(backend), seen.facts(backend.value)
    failure = seen.failure(backend.value)
    if failure is None and not facts.get("installed"):
        yield from _no_engines(backend, seen)
    elif failure is not None:
        if not seen.not_ours(backend.value):
            yield Finding(State.BROKEN, runtime.name, _sentence(failure.text), _mend(backend, seen))
    elif misfits := list(_misfit(backend, seen)):
        yield from misfits
    else:
        yield from _unmade(runtime, seen)


def _no_engines(backend: Backend, seen: Seen) -> Iterator[Finding]:
    if wheels := seen.facts(backend.value).get("wheels"):
        parts = " and ".join(f"{kind} {version}" for kind, version in wheels.items())
        text = f"pip says that {parts} are installed, but there is no module."
        yield Finding(State.BROKEN, runtime_of(backend).name, text, _mend(backend, seen))
    elif backend is Backend.TRT and seen.gpu is not None:
        text = "It is not installed." + (f" {JETSON}" if seen.is_jetson else "")
        yield Finding(State.MISSING, runtime_of(backend).name, text, engines_line(backend, seen))


def _misfit(backend: Backend, seen: Seen) -> Iterator[Finding]:
    """Bindings and libraries of two versions: what they do together is anybody's guess."""
    facts, name = seen.facts(backend.value), runtime_of(backend).name
    wheels, version, loaded = facts.get("wheels", {}), facts.get("version"), facts.get("library")
    if len(set(wheels.values())) > 1:
        text = f"Its bindings are {wheels['bindings']}, its libraries {wheels['libs']}; they have to be the same."
        yield Finding(State.BROKEN, name, text, _mend(backend, seen))
    elif version and loaded and version.split(".")[:3] != loaded.split("."):
        text = (
            f"Its bindings are {version}, and the library they found is {loaded}; they have to be the same. Take "
            "other TensorRT folders out of LD_LIBRARY_PATH, or install both from one place."
        )
        yield Finding(State.BROKEN, name, text, _mend(backend, seen))


def _unmade(runtime: Runtime, seen: Seen) -> Iterator[Finding]:
    """Some libraries need a GPU even to build."""
    backend, builds = runtime.backend, runtime.engines is not None and runtime.engines.builds_without_gpu
    for what in ("builder", "runtime"):
        step = f"{backend.value} {what}"
        expected = seen.gpu is not None or (builds and what == "builder")
        failure = seen.failure(step)
        if failure is not None and (expected or failure.kind not in ("error", "import")):
            text = f"It is loaded, and no {what} can be made: {_sentence(failure.text)}"
            yield Finding(State.BROKEN, runtime.name, text, _mend(backend, seen))


def _mend(backend: Backend, seen: Seen) -> str:
    line = engines_line(backend, seen)
    if seen.is_jetson:
        return line.replace("apt install", "apt install --reinstall")
    return line.replace("pip install", "pip install --force-reinstall")


def _sentence(text: str) -> str:
    """In one line and with an end."""
    joined = " ".join(text.split())
    return joined if joined.endswith((".", "!")) else f"{joined}."
