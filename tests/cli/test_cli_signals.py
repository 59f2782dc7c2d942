"""Ctrl-C and SIGTERM, sent to real processes."""

from __future__ import annotations

import os
import pty
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from cli_world import SMALL, Packaged, Trained, apart, ended, here, started

LONG = (*SMALL, "--epochs", "10", "--budget-mb", "0.15")
"""Long enough to be interrupted in the middle."""


@pytest.fixture(scope="module")
def uninterrupted(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The task file of a run that was left alone."""
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    report = here("train", "--data", pictures, *LONG, "--run", run, "--json").ended(0).document
    assert len(report["neurons"]) > 1
    return (run / "pictures.safetensors").read_bytes()


def _wait_until(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not there():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_an_interrupted_run_says_how_to_go_on_and_ends_with_the_same_bytes(
    number: signal.Signals, uninterrupted: bytes, pictures: Path, tmp_path: Path
) -> None:
    process = started("train", "--data", pictures, *LONG, "--run", "my run", "--json", folder=tmp_path)
    _wait_until((tmp_path / "my run" / "config.json").exists)
    time.sleep(0.5)
    process.send_signal(number)
    outcome = ended(process).ended(130)
    assert outcome.document["error"]["exit_code"] == 130
    assert "mimi-edge train --resume 'my run'" in outcome.err
    assert not (tmp_path / "my run" / "pictures.safetensors").exists()
    refused = here("train", "--data", pictures, *SMALL, "--budget-mb", "0.1", "--run", tmp_path / "my run").ended(2)
    assert "--resume" in refused.err
    here("train", "--resume", tmp_path / "my run", "--threads", "1").ended(0)
    assert (tmp_path / "my run" / "pictures.safetensors").read_bytes() == uninterrupted


@pytest.mark.slow
def test_a_second_signal_stops_at_once(pictures: Path, tmp_path: Path) -> None:
    process = started("train", "--data", pictures, *LONG, "--run", "run", folder=tmp_path)
    _wait_until((tmp_path / "run" / "config.json").exists)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    outcome = ended(process).ended(130)
    assert "mimi-edge train --resume run" in outcome.err
    assert not list((tmp_path / "run").glob("*.part"))


@pytest.mark.slow
def test_a_terminal_that_is_closed_stops_a_run_that_has_saved_itself(pictures: Path, tmp_path: Path) -> None:
    master, slave = pty.openpty()
    command = ("train", "--data", pictures, *LONG, "--run", "run")
    process = started(*command, folder=tmp_path, terminal=slave)
    os.close(slave)
    os.set_blocking(master, False)

    said = bytearray()

    def is_training() -> bool:
        with suppress(BlockingIOError):  # somebody must read what a terminal is told, or nobody can say any more
            said.extend(os.read(master, 1 << 16))
        return b"training 1" in said

    _wait_until(is_training)
    os.close(master)
    assert process.wait(240) == 130
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()


@pytest.mark.slow
def test_under_nohup_a_closed_terminal_ends_nothing(pictures: Path, tmp_path: Path) -> None:
    command = ("train", "--data", pictures, *SMALL, "--budget-mb", "0.1", "--run", "run")
    process = started(*command, folder=tmp_path, ignored=[signal.SIGHUP])
    _wait_until((tmp_path / "run" / "config.json").exists)
    process.send_signal(signal.SIGHUP)
    ended(process).ended(0)
    assert (tmp_path / "run" / "report.json").exists()


@pytest.mark.slow
def test_a_run_that_is_live_is_not_gone_on_with(pictures: Path, tmp_path: Path) -> None:
    process = started("train", "--data", pictures, *LONG, "--run", "run", folder=tmp_path)
    _wait_until((tmp_path / "run" / "config.json").exists)
    for option in ("--resume", "--run"):
        budget = () if option == "--resume" else ("--budget-mb", "0.1")
        refused = here("train", option, tmp_path / "run", *budget).ended(2)
        assert f"process {process.pid} on" in refused.err
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "run" / "pictures.safetensors").exists()
    process = started("train", "--resume", "run", folder=tmp_path)
    _wait_until(lambda: str(process.pid) in (tmp_path / "run" / ".lock").read_text())
    process.send_signal(signal.SIGINT)
    ended(process).ended(130)


@pytest.mark.slow
@pytest.mark.parametrize("module", ["mimi_edge.cli.app", "rich.console", "torch", "torch.nn", "timm.models"])
def test_five_signals_in_a_row_end_like_one(module: str, pictures: Path, tmp_path: Path) -> None:
    command = ("train", "--data", pictures, *SMALL, "--budget-mb", "0.1", "--run", "run")
    outcome = apart(*command, folder=tmp_path, signal_at=(module, signal.SIGINT), signals=5).ended(130)
    assert outcome.out == ""
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "number"),
    [
        ("typer", signal.SIGINT),
        ("mimi_edge.cli.options", signal.SIGTERM),
        ("torch", signal.SIGINT),
        ("torch.nn", signal.SIGTERM),
        ("timm.models", signal.SIGINT),
        ("PIL.PngImagePlugin", signal.SIGINT),
    ],
)
def test_a_signal_before_training_leaves_neither_traceback_nor_run(
    module: str, number: signal.Signals, pictures: Path, tmp_path: Path
) -> None:
    command = ("train", "--data", pictures, *SMALL, "--budget-mb", "0.1", "--run", "run")
    outcome = apart(*command, folder=tmp_path, signal_at=(module, number)).ended(130)
    assert outcome.out == ""
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("module", ["onnx_ir", "onnxruntime", "PIL.PngImagePlugin"])
def test_a_signal_ends_predict_without_a_traceback(
    module: str, trained: Trained, packaged: Packaged, tmp_path: Path
) -> None:
    command = ("predict", packaged.folder, trained.data / "plain" / "0.png")
    apart(*command, folder=tmp_path, signal_at=(module, signal.SIGINT)).ended(130)


@pytest.mark.slow
def test_an_export_that_is_terminated_leaves_nothing(trained: Trained, packaged: Packaged, tmp_path: Path) -> None:
    command = ("export", trained.run, "--output", "package")
    apart(*command, folder=tmp_path, signal_at=("onnxruntime", signal.SIGTERM)).ended(130)
    assert [path.name for path in tmp_path.iterdir()] == [".hooks"]
