"""How commands end before their time: in words on stderr, by a code, and under --json as JSON on stdout."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from cli_world import apart, here

from mimi_edge.cli import failures, output
from mimi_edge.errors import ArtifactError, BudgetInfeasibleError, ConfigError, GateError, MimiEdgeError


def raising(error: BaseException) -> Callable[..., None]:
    def command(as_json: bool = False, batch_size: int = 1) -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (ConfigError("wrong"), "config", 2),
        (BudgetInfeasibleError("small"), "budget_infeasible", 3),
        (ArtifactError("damaged"), "artifact", 4),
        (GateError("slow"), "gate", 6),
        (MimiEdgeError("odd"), "failed", 1),
        (OSError(errno.ENOSPC, "No space left on device", "/there"), "system", 1),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "missing_library", 1),
        (MemoryError(), "memory", 1),
        (KeyboardInterrupt(), "interrupted", 130),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_what_ends_a_command_is_told_in_words_and_as_json(
    error: BaseException, kind: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended:
        output.explained(raising(error))(as_json=True)
    said = capsys.readouterr()
    told = json.loads(said.out)["error"]
    assert (told["kind"], told["exit_code"], ended.value.exit_code) == (kind, code, code)
    assert " ".join(told["message"].split())[:30] in " ".join(said.err.split())
    with pytest.raises(typer.Exit):
        output.explained(raising(error))(as_json=False)
    assert capsys.readouterr().out == ""


def test_stdout_never_gets_a_second_document(capsys: pytest.CaptureFixture[str]) -> None:
    def command(as_json: bool = False) -> None:
        output.show_json({"verdict": "bad"})
        output.fail("It is bad.", 4)

    with pytest.raises(typer.Exit):
        output.explained(command)(as_json=True)
    said = capsys.readouterr()
    assert json.loads(said.out) == {"verdict": "bad"}
    assert "It is bad." in said.err


def test_what_nobody_expected_stays_a_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        output.explained(raising(ZeroDivisionError()))()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        Exception("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : bad_alloc: std::bad_alloc"),
        Exception("[ONNXRuntimeError] : 1 : FAIL : Failed to allocate memory for requested buffer of size 4"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object", name="torch"),
        ImportError("libx.so: cannot allocate memory in static TLS block"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
    ],
    ids=str,
)
def test_memory_that_ran_out_is_called_so(error: Exception) -> None:
    plain = failures.failure_of(error, ("path",))
    assert plain is not None
    assert plain.kind == "memory"
    assert "There is not enough memory" in plain.message
    assert not any(word in plain.message for word in ("--batch", "nstall"))
    training = failures.failure_of(error, ("batch_size", "epochs"))
    assert training is not None
    assert "Try a smaller --batch-size" in training.message
    lighter = failures.failure_of(error, ("batch_size", "grad_checkpointing"))
    assert lighter is not None
    assert "Try --grad-checkpointing, a smaller --batch-size" in lighter.message


def test_memory_that_ran_out_below_an_error_of_ours_is_called_so() -> None:
    try:
        raise ArtifactError("The graph cannot be opened. Export it again.") from Exception("std::bad_alloc")
    except ArtifactError as error:
        told = failures.failure_of(error)
    assert told is not None
    assert told.kind == "memory"


def test_a_name_that_speaks_of_memory_is_a_name() -> None:
    told = failures.failure_of(ArtifactError("There is no out of memory.onnx."))
    assert told is not None
    assert told.kind == "artifact"


def test_a_library_that_does_not_load_is_still_told() -> None:
    told = failures.failure_of(ImportError("libcudnn.so.9: cannot open shared object file", name="torch"))
    assert told is not None
    assert told.kind == "missing_library"
    assert "libcudnn.so.9" in told.message


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("inspect", "x", "--colour", "--json"), "--colour"),
        (("plan", "--epochs", "many", "--json"), "epochs"),
        (("nonsense", "--json"), "nonsense"),
    ],
)
def test_a_command_that_does_not_exist_so_is_told_as_json(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    outcome = apart(*arguments, folder=tmp_path).ended(2)
    assert outcome.document["error"]["kind"] == "usage"
    assert said in outcome.document["error"]["message"]
    assert said in outcome.err


def test_a_missing_file_is_told_as_json(tmp_path: Path) -> None:
    outcome = here("inspect", tmp_path / "none.onnx", "--json").ended(4)
    assert outcome.document["error"]["kind"] == "artifact"
    assert "none.onnx" in outcome.err


def test_json_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_json({"name\x9b": "a\x7f\u202e\x1b[2J", "share": float("nan")})
    said = capsys.readouterr().out
    assert not set(said) & set("\x9b\x7f\u202e\x1b")
    assert json.loads(said) == {"name\x9b": "a\x7f\u202e\x1b[2J", "share": None}


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory that holds")
def test_a_process_without_memory_says_so(tmp_path: Path) -> None:
    program = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_AS, (400_000_000, 400_000_000))\n"
        "from mimi_edge.cli.main import main\n"
        "sys.argv = ['mimi-edge', 'plan', '--budget-mb', '0.5', '--json']\n"
        "main()\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["error"]["kind"] == "memory"
    assert "There is not enough memory" in done.stderr
    assert not any(word in done.stderr for word in ("Traceback", "nstall"))


def test_words_are_said_where_nothing_can_make_them_look_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_memory() -> None:
        raise MemoryError

    monkeypatch.setattr(output, "talk_console", no_memory)
    with pytest.raises(typer.Exit):
        output.explained(raising(MemoryError()))()
    assert "Error: There is not enough memory" in capsys.readouterr().err
