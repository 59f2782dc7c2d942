"""`mimi-edge profile` with several sources, with failures, interrupted, on a narrow terminal."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
from cli_world import Packaged, Trained, ended, here, started

QUICK = ("--rounds", "2", "--processes", "1", "--threads", "1")


def test_a_graph_beside_its_package_is_compared_with_it(packaged: Packaged) -> None:
    graph = packaged.folder / "pictures.onnx"
    document = here("profile", packaged.folder, graph, *QUICK, "--json").ended(0).document
    assert [one["name"] for one in document["artefacts"]] == ["backbone", "pictures", "pictures.onnx"]
    assert document["artefacts"][2]["measurements"][0]["ratio"]["to"] == "backbone"


def test_a_task_file_on_torch_answers_as_its_graph_does(trained: Trained, packaged: Packaged) -> None:
    said = here("profile", trained.task_file, *QUICK).ended(2)
    assert "--backend torch" in said.err
    command = ("profile", trained.task_file, "--backend", "torch", "--run", trained.run, *QUICK, "--json")
    (task,) = here(*command).ended(0).document["artefacts"]
    expected = trained.outcome.document["accuracy"]["test"]
    assert (task["backend"], task["accuracy"]["images"]) == ("torch", expected["images"])
    assert task["accuracy"]["accuracy"] == pytest.approx(expected["accuracy"])


def test_tables_fit_80_columns(
    trained: Trained, packaged: Packaged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"COLUMNS": "80", "FORCE_COLOR": "1"}.items():  # as on a terminal
        monkeypatch.setenv(name, value)
    said = re.sub("\x1b\\[[0-9;]*m", "", here("profile", packaged.folder, "--batch", "1,2", *QUICK).ended(0).out)
    assert max(map(len, said.splitlines())) <= 80
    for words in ("jitter", "images/s", "Preprocessing", "95 % interval", "GFLOPs"):
        assert words in said


def test_what_fails_is_named_and_the_rest_is_shown(packaged: Packaged, monkeypatch: pytest.MonkeyPatch) -> None:
    from mimi_edge.profiles.processes import Crew

    original = Crew.ask

    def failing(self: Crew, name: str, stage: str, request: dict[str, object], payload: bytes = b"") -> object:
        if name == "pictures" and request["do"] == "run":
            os.kill(self._alive[name].process.pid, signal.SIGKILL)
        return original(self, name, stage, request, payload)

    monkeypatch.setattr(Crew, "ask", failing)
    outcome = here("profile", packaged.folder, *QUICK, "--json").ended(1)
    backbone, pictures = outcome.document["artefacts"]
    assert len(backbone["measurements"]) == 1
    assert pictures["failure"]["exit_code"] == -signal.SIGKILL
    assert "1 of 2 could not be measured" in outcome.err
    assert "pictures (latency, batch 1)" in outcome.err


def test_a_report_is_written_in_each_format_that_was_asked_for(packaged: Packaged, tmp_path: Path) -> None:
    paths = [tmp_path / f"report.{suffix}" for suffix in ("json", "csv", "md", "html")]
    options = [part for path in paths for part in ("--report", path)]
    here("profile", packaged.folder, *QUICK, *options).ended(0)
    assert json.loads(paths[0].read_text())["schema"] == 3
    assert all("pictures" in path.read_text() for path in paths)


@pytest.mark.parametrize("name", ["report.docx", "folder.html", "file/report.html", "/proc/report.html"])
def test_a_report_that_cannot_be_written_is_refused_before_anything_is_measured(
    packaged: Packaged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from mimi_edge.profiles.processes import Crew

    monkeypatch.setattr(Crew, "add", lambda *_: pytest.fail("a process was started"))
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").write_text("in the way")
    outcome = here("profile", packaged.folder, "--report", tmp_path / name).ended(2)
    assert str(tmp_path / name) in outcome.err or name in outcome.err


def test_what_was_measured_is_shown_where_a_report_fails_at_the_end(
    packaged: Packaged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mimi_edge.profiles import profiler

    original = profiler.profile

    def in_the_way(*args: object, **options: object) -> object:
        measured = original(*args, **options)  # type: ignore[arg-type]
        (tmp_path / "late.json").mkdir()
        return measured

    monkeypatch.setattr(profiler, "profile", in_the_way)
    reports = ("--report", tmp_path / "late.json", "--report", tmp_path / "good.md")
    outcome = here("profile", packaged.folder, *QUICK, *reports, "--json").ended(1)
    assert [one["name"] for one in outcome.document["artefacts"]] == ["backbone", "pictures"]
    assert str(tmp_path / "late.json") in outcome.err
    assert "pictures" in (tmp_path / "good.md").read_text()


def test_a_package_that_is_gone_when_it_was_measured_costs_the_ledger_only(
    packaged: Packaged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mimi_edge.profiles import profiler

    shutil.copytree(packaged.folder, tmp_path / "package")
    original = profiler.profile

    def vanishing(*args: object, **options: object) -> object:
        measured = original(*args, **options)  # type: ignore[arg-type]
        (tmp_path / "package" / "manifest.json").unlink()
        return measured

    monkeypatch.setattr(profiler, "profile", vanishing)
    outcome = here("profile", tmp_path / "package", *QUICK).ended(0)
    assert "no ledger" in outcome.err
    assert "p50 ms" in outcome.out


def test_an_engine_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    (tmp_path / "foreign.engine").write_bytes(b"code")
    assert "--trust" in here("profile", tmp_path / "foreign.engine").ended(4).err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_no_process_behind(number: signal.Signals, packaged: Packaged, tmp_path: Path) -> None:
    shutil.copytree(packaged.folder, tmp_path / "package")
    process = started("profile", "package", *QUICK[2:], "--rounds", "1000000", folder=tmp_path)
    deadline = time.monotonic() + 120
    while len(workers := _workers_of(process.pid)) < 2:
        assert time.monotonic() < deadline, "no workers came"
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(number)
    assert ended(process).ended(130).out == ""
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def _workers_of(pid: int) -> list[int]:
    """Processes that were started by another."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        return [int(child) for child in children.read_text().split()]
    except OSError:
        return []
