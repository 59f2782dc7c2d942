"""Whatever a library does when it is loaded, it comes out as an answer, and the next step is taken."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from doctor_samples import BROKEN, HANGS, NOISY, plant, plant_extension

from mimi_edge.events import Advance, Event
from mimi_edge.profiles.doctor.ask import Answer, ask, ask_all
from mimi_edge.profiles.doctor.steps import Step, all_groups

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="counts on signals")
AFTER = "after"


def step(module: str, *distributions: str) -> Step:
    return Step(module, "libraries", "library", (module, *distributions))


def kind_and_text(answer: Answer) -> tuple[str, str]:
    assert answer.failure is not None
    return answer.failure.kind, answer.failure.text


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All broken modules, where this process and those that it asks find them."""
    folder = plant(tmp_path / "planted", hangs=HANGS, noisy=NOISY, good="__version__ = '1.5'", nameless="", **BROKEN)
    plant_extension(folder, "elf")
    (folder / "empty").mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def test_every_way_to_fail_is_told_and_none_stops_the_others(planted: Path) -> None:
    names = [*BROKEN, "elf", "empty", "good"]
    answers = ask(*map(step, names), limit_s=60)
    assert list(answers) == names
    assert answers["good"] == Answer(
        {"distributions": {}, "installed": True, "at": str(planted / "good.py"), "shadows": False, "version": "1.5"}
    )
    assert all(answers[name].facts["installed"] for name in names)
    told = {name: kind_and_text(answers[name]) for name in names if name != "good"}
    assert told == {
        "raises": ("error", "RuntimeError: no good"),
        "lacks": ("import", "ModuleNotFoundError: No module named 'a_module_that_is_nowhere'"),
        "exits": ("error", "SystemExit: 3"),
        "interrupts": ("error", "KeyboardInterrupt"),
        "leaves": ("ended", "it ends the process, with exit code 7"),
        "succeeds": ("ended", "it ends the process, with exit code 0"),
        "aborts": ("crashed", "it crashes the process (SIGABRT)"),
        "segfaults": ("crashed", "it crashes the process (SIGSEGV)"),
        "misnamed": ("error", "E"),
        "syntax": told["syntax"],
        "recurses": told["recurses"],
        "elf": told["elf"],
        "empty": ("import", f"ImportError: an empty folder is in its place: {planted / 'empty'}"),
    }
    assert told["syntax"][1].startswith("SyntaxError")
    assert told["recurses"][1].startswith("RecursionError")
    assert told["elf"][0] == "import"
    assert "elf" in told["elf"][1]
    aborted = answers["aborts"].failure
    assert aborted is not None
    assert aborted.said == "about to abort"


def test_a_library_that_hangs_is_ended_with_what_it_started(planted: Path, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    (planted / "hangs.py").write_text(
        f"import subprocess, sys\nchild = subprocess.Popen([sys.executable, '-c', {HANGS!r}])\n"
        f"open({str(note)!r}, 'w').write(str(child.pid))\n{HANGS}"
    )
    began = time.monotonic()
    answers = ask(step("hangs"), step("good"), limit_s=4)
    assert time.monotonic() - began < 60
    assert kind_and_text(answers["hangs"]) == ("hung", "it takes longer than 4 s")
    assert answers["good"].facts["version"] == "1.5"
    assert _is_gone(int(note.read_text()))


def test_a_process_that_ends_while_another_holds_its_pipe_is_seen(planted: Path) -> None:
    (planted / "hangs.py").write_text(
        f"import os, subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {HANGS!r}])\nos._exit(5)"
    )
    assert kind_and_text(ask(step("hangs"), limit_s=60)["hangs"]) == ("ended", "it ends the process, with exit code 5")


def test_what_a_library_prints_is_not_taken_for_an_answer(planted: Path) -> None:
    answers = ask(step("noisy"), step("good"), limit_s=60)
    assert answers["noisy"].failure is None
    assert answers["noisy"].facts["version"] == "2"
    assert answers["good"].facts["version"] == "1.5"


def test_a_library_without_a_version_and_one_that_is_not_there(planted: Path) -> None:
    answers = ask(step("nameless"), step("nowhere_at_all"))
    assert answers["nameless"] == Answer(answers["nameless"].facts | {"installed": True, "version": None})
    assert answers["nowhere_at_all"] == Answer({"distributions": {}, "installed": False})


def test_a_module_that_hides_what_pip_installed_is_told(planted: Path) -> None:
    plant(planted, yaml="raise ImportError('not me')")
    answer = ask(step("yaml", "pyyaml"))["yaml"]
    assert answer.facts["shadows"] is True
    assert answer.facts["at"] == str(planted / "yaml.py")
    assert answer.facts["distributions"]


def test_a_probe_that_does_not_exist_is_an_answer_too() -> None:
    kind, text = kind_and_text(ask(Step("nothing", "nowhere", "x"))["nothing"])
    assert kind == "import"
    assert "nowhere" in text


def test_an_interrupt_ends_what_runs(planted: Path, tmp_path: Path) -> None:
    plant(planted, hangs=f"import os\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n{HANGS}")

    def interrupt(event: Event) -> None:
        assert isinstance(event, Advance)
        if event.done == 1:
            _until((tmp_path / "pid").exists)
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ask_all([(step("hangs"),), (step("good"),), (step("good"),)], limit_s=300, listener=interrupt)
    assert time.monotonic() - began < 60
    assert _is_gone(int((tmp_path / "pid").read_text()))


def test_progress_begins_at_none_and_ends_at_all(planted: Path) -> None:
    heard: list[Event] = []
    ask_all([(step("good"),)] * 3, listener=heard.append)
    assert [(event.done, event.total) for event in heard if isinstance(event, Advance)] == [(n, 3) for n in range(4)]


def test_every_step_has_a_name_of_its_own_and_a_probe() -> None:
    steps = [one for group in all_groups() for one in group]
    assert len({one.name for one in steps}) == len(steps)
    module = __import__("importlib").import_module
    for one in steps:
        name, function, _ = one.target
        assert callable(getattr(module(name), function))


def test_looking_loads_nothing_into_the_process_that_asks() -> None:
    heavy = ("numpy", "onnx", "onnx_ir", "onnxruntime", "torch", "tensorrt_rtx_bindings", "matplotlib", "PIL")
    program = (
        "import sys; from mimi_edge.profiles.doctor.diagnosis import diagnosis_of; diagnosis_of({}, ['train']); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _is_gone(pid: int) -> bool:
    """A zombie that nobody has collected is gone as well."""

    def gone() -> bool:
        try:
            os.kill(pid, 0)
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except (ProcessLookupError, FileNotFoundError):
            return True

    return _until(gone)


def _until(holds: object) -> bool:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if holds():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False
