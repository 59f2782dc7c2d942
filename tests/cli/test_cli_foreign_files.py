"""Pipes in place of files: every command says what it found, and none waits for somebody to write into them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import tiny_package
from cli_world import Outcome, here

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package, a folder with pipes by every name, and a run folder whose documents are pipes."""
    folder = tmp_path_factory.mktemp("pipes")
    tiny_package.make_package(folder, {"a": (3, 0, 2)})
    (folder / "run").mkdir()
    for name in ("p.onnx", "p.safetensors", "p.mimi", "p.json", "p.yaml", "run/config.json", "run/split.json"):
        os.mkfifo(folder / name)
    return folder


def ended(*arguments: str | Path) -> Outcome:
    """Runs a command; that it waits is a failure and no hang."""
    found: list[Outcome | BaseException] = []

    def run() -> None:
        try:
            found.append(here(*arguments))
        except BaseException as error:  # noqa: BLE001  (told below, in the thread that asserts)
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(120)
    assert found, "it waits"
    assert isinstance(found[0], Outcome), repr(found[0])
    return found[0]


@pytest.mark.parametrize(
    "command",
    [
        ("inspect", "{home}/p.onnx"),
        ("inspect", "{home}/p.safetensors"),
        ("inspect", "{home}/p.mimi"),
        ("inspect", "{home}/p.json"),
        ("inspect", "{home}/run"),
        ("verify", "{home}/p.mimi"),
        ("install-task", "{home}/package", "{home}/p.safetensors"),
        ("install-task", "{home}/package", "{home}/p.mimi"),
        ("export", "{home}/p.safetensors", "--output", "{home}/out"),
        ("export", "{home}/run", "--output", "{home}/out"),
        ("predict", "{home}/p.onnx", "{home}/p.json"),
        ("compare-reports", "{home}/p.json", "{home}/p.json"),
        ("ledger", "{home}/package", "--report", "{home}/p.json"),
        ("devices", "--file", "{home}/p.yaml"),
        ("train", "--resume", "{home}/run"),
    ],
    ids=lambda command: " ".join(command[:2]).replace("{home}/", ""),
)
@pytest.mark.parametrize("as_json", [False, True], ids=["words", "json"])
def test_no_command_waits_for_a_pipe(command: tuple[str, ...], as_json: bool, home: Path) -> None:
    arguments = [part.format(home=home) for part in command]
    outcome = ended(*arguments, *(["--json"] if as_json and command[0] != "train" else []))
    assert outcome.code in (1, 2, 4), outcome
    assert "Traceback" not in outcome.err
    assert len(outcome.err) < 10_000
    if as_json and outcome.out:
        assert outcome.document["error"]["exit_code"] == outcome.code
    assert not (home / "out").exists()
