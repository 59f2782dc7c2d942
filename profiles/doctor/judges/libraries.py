"""The Python libraries: which are broken, too old, or missing, part by part."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires

from mimi_edge.installation import pip_line
from mimi_edge.parts import CORE, CPU, GPU, JETSON, LIBRARIES, REPORT, TRAIN, Library
from mimi_edge.profiles.doctor.findings import Finding, State, listed
from mimi_edge.profiles.doctor.judges.seen import ABSENT, BAD, GOOD, Seen

US = "mimi-edge"
REQUIREMENT = re.compile(r"\s*([A-Za-z0-9._-]+?)\s*(?:>=\s*([0-9][0-9.]*))?\s*(?:;.*)?$")
RUNTIME = "ONNX Runtime"


def judge_libraries(seen: Seen) -> Iterator[Finding]:
    """Findings of all libraries but TensorRT's."""
    yield from _absent_core(seen)
    least = least_versions()
    for library in LIBRARIES:
        state = seen.library(library.name)
        if state == BAD:
            yield _broken(library, seen)
        elif state == GOOD:
            yield from _old(library, seen, least)
    yield from _two_runtimes(seen)
    yield from _absent_parts(seen)


def least_versions() -> dict[str, str]:
    """The oldest version of each distribution that will do, from what pip was told of us."""
    try:
        found = [REQUIREMENT.match(text) for text in requires(US) or ()]
    except PackageNotFoundError:
        return {}
    return {match[1].lower(): match[2] for match in found if match and match[2]}


def reinstall_line(library: Library, seen: Seen) -> str:
    """The line that installs a library from anew, in the version that is here, and as little else as can be."""
    facts = seen.facts(library.name)
    if facts.get("shadows"):
        place = facts["at"].removesuffix("/__init__.py")
        return f"mv {place} {place}.aside"
    if misfit := facts.get("numpy_misfit"):
        return str(misfit["line"])
    known = facts.get("distributions") or {}
    if not known:
        return seen.install_line(library.part)
    pinned = " ".join(f'"{name}=={version}"' for name, version in known.items())
    return pip_line(f"install --force-reinstall --no-deps {pinned}")


def _absent_core(seen: Seen) -> Iterator[Finding]:
    absent = [library.name for library in LIBRARIES if library.part == CORE and seen.library(library.name) == ABSENT]
    if absent:
        text = f"{listed(absent)} {_is(absent)} not installed, and no command works without."
        yield Finding(State.BROKEN, "core", text, seen.install_line(None))


def _broken(library: Library, seen: Seen) -> Finding:
    if blamed := seen.blamed(library):
        text = f"It cannot be loaded, as {listed(blamed)} {_is(blamed)} broken or missing. Mend that first."
        return Finding(State.BROKEN, library.name, text)
    facts, failure = seen.facts(library.name), seen.failure(library.name)
    if facts.get("numpy_misfit") and not facts.get("shadows"):
        return Finding(State.BROKEN, library.name, facts["numpy_misfit"]["text"], reinstall_line(library, seen))
    if failure is None:
        text = f"pip says that {_known(facts)} is installed, but there is no module {library.name}."
        return Finding(State.BROKEN, library.name, text, reinstall_line(library, seen))
    place = "" if not facts.get("at") else f" ({facts['at']})"
    text = f"{_known(facts) or library.name} is installed and cannot be loaded{place}: {failure.text}"
    if failure.said:
        text += f"; it said: {failure.said}"
    if facts.get("shadows"):
        text += f". This is not what pip installed: it hides {_known(facts)}"
    return Finding(State.BROKEN, library.name, f"{text}.", reinstall_line(library, seen))


def _known(facts: object) -> str:
    known = facts.get("distributions", {}) if hasattr(facts, "get") else {}
    return listed(f"{name} {version}" for name, version in known.items()) if known else ""


def _old(library: Library, seen: Seen, least: dict[str, str]) -> Iterator[Finding]:
    for name, version in seen.facts(library.name).get("distributions", {}).items():
        if name in least and numbers(version) < numbers(least[name]):
            text = f"{name} {version} is older than {least[name]}, the oldest that mimi-edge is made for."
            yield Finding(State.WARNING, library.name, text, pip_line(f'install --upgrade "{name}>={least[name]}"'))


def numbers(version: str) -> tuple[int, ...]:
    """`2.5.0a0+cu12` as (2, 5, 0): what comes after the figures is left out."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()


def _two_runtimes(seen: Seen) -> Iterator[Finding]:
    known = seen.facts("onnxruntime").get("distributions", {})
    if len(known) > 1:
        part = GPU if seen.gpu is not None and not seen.is_jetson else CPU
        names = _known(seen.facts("onnxruntime"))
        text = (
            f"{names} are both installed. They are one module with two contents, so which one is loaded is chance, "
            "and to remove one breaks the other."
        )
        line = f"{pip_line('uninstall -y ' + ' '.join(known))} && {seen.install_line(part)}"
        yield Finding(State.BROKEN, RUNTIME, text, line)


def _absent_parts(seen: Seen) -> Iterator[Finding]:
    yield from _absent(seen, "training", TRAIN, [one.name for one in LIBRARIES if one.part == TRAIN])
    if seen.library("onnxruntime") == ABSENT:
        part = GPU if seen.gpu is not None and not seen.is_jetson else CPU
        yield Finding(State.MISSING, RUNTIME, "onnxruntime is not installed.", seen.install_line(part))
    report = ["matplotlib", *(["pynvml"] if seen.has_driver and not seen.is_jetson else [])]
    yield from _absent(seen, "reports", REPORT, report)
    if seen.is_jetson:
        yield from _absent(seen, "Jetson power", JETSON, ["jtop"])


def _absent(seen: Seen, topic: str, part: str, names: list[str]) -> Iterator[Finding]:
    absent = [name for name in names if seen.library(name) == ABSENT]
    if absent:
        yield Finding(State.MISSING, topic, f"{listed(absent)} {_is(absent)} not installed.", seen.install_line(part))


def _is(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
