"""Claims on run folders: real processes that meet at a barrier, are killed, and fail before they began."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from mimi_edge.errors import ConfigError
from mimi_edge.training.claims import LOCK_FILE, claimed_again, claimed_free, claimed_new
from mimi_edge.training.config import CONFIG_FILE, run_files

PROCESSES = 6
FORK = multiprocessing.get_context("fork")


def begin_a_run(folder: Path) -> None:
    (folder / CONFIG_FILE).write_text(f"{os.getpid()}")


def claim_at_once(place: Path, barrier: Barrier, answers: multiprocessing.Queue, named: bool) -> None:
    """What a process does: all try together, and keep what they got until all have tried."""
    barrier.wait()
    try:
        with claimed_new(place) if named else claimed_free(place) as claim:
            begin_a_run(claim.folder)
            barrier.wait()
            answers.put((os.getpid(), claim.folder))
    except ConfigError as error:
        barrier.wait()
        answers.put((os.getpid(), str(error)))


def answers_of(place: Path, *, named: bool) -> dict[int, Path | str]:
    barrier, answers = FORK.Barrier(PROCESSES), FORK.Queue()
    processes = [
        FORK.Process(target=claim_at_once, args=(place, barrier, answers, named), daemon=True) for _ in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    said = dict(answers.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    return said


def test_runs_that_begin_at_once_have_a_folder_each(tmp_path: Path) -> None:
    said = answers_of(tmp_path / "runs" / "digits", named=False)
    names = {"digits", *(f"digits-{number}" for number in range(2, PROCESSES + 1))}
    assert {folder.name for folder in said.values() if isinstance(folder, Path)} == names
    for process, folder in said.items():
        assert (folder / CONFIG_FILE).read_text() == str(process)
        assert not (folder / LOCK_FILE).exists()


def test_of_runs_that_want_the_same_folder_one_gets_it(tmp_path: Path) -> None:
    said = answers_of(tmp_path / "run", named=True)
    (winner,) = [process for process, answer in said.items() if isinstance(answer, Path)]
    assert (tmp_path / "run" / CONFIG_FILE).read_text() == str(winner)
    for process, answer in said.items():
        if process != winner:
            assert "--run" in answer
            assert f"process {winner} on" in answer


@contextmanager
def another_process(work: Callable[[], Iterator[object]]) -> Iterator[int]:
    """Keeps what a context manager gives until it is killed."""
    reading, writing = os.pipe()
    if not (process := os.fork()):
        with work():
            os.write(writing, b"!")
            signal.pause()
        os._exit(0)
    try:
        assert os.read(reading, 1) == b"!"
        yield process
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(reading)
        os.close(writing)


def test_a_live_run_is_not_gone_on_with_and_a_killed_one_is(tmp_path: Path) -> None:
    run = tmp_path / "my run"
    run.mkdir()
    begin_a_run(run)
    with another_process(lambda: claimed_again(run, "digits")) as process:
        with pytest.raises(ConfigError, match=rf"process {process} on .*--resume '.*my run'"), claimed_again(run, "x"):
            pass
        with pytest.raises(ConfigError, match=f"process {process} on .*--run"), claimed_new(run):
            pass
    with claimed_again(run, "digits"):
        assert f"process {os.getpid()} on" in (run / LOCK_FILE).read_text()
    assert [path.name for path in run.iterdir()] == [CONFIG_FILE]


def test_the_next_name_is_taken_while_one_is_being_prepared(tmp_path: Path) -> None:
    with another_process(lambda: claimed_free(tmp_path / "run")), claimed_free(tmp_path / "run") as claim:
        assert claim.folder.name == "run-2"
    # Killed before it began: nobody will ever go on there, so the name is free again.
    with claimed_free(tmp_path / "run") as claim:
        assert claim.folder.name == "run"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("claimed", [claimed_new, claimed_free])
def test_what_fails_before_it_began_leaves_nothing(claimed: Callable[[Path], Iterator], tmp_path: Path) -> None:
    def fail() -> None:
        with claimed(tmp_path / "deep" / "runs" / "run") as claim:
            (claim.folder / "split.json").write_text("{}")
            (claim.folder / "options.yaml").write_text("epochs: 1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_what_others_have_put_there_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with claimed_new(tmp_path / "mine"):
        pass
    with claimed_new(tmp_path / "runs" / "run"):
        (tmp_path / "runs" / "note.txt").write_text("keep me")
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} == {"mine", "runs", "runs/note.txt"}


def test_a_folder_with_a_run_is_neither_claimed_nor_touched(tmp_path: Path) -> None:
    begin_a_run(tmp_path)
    with pytest.raises(ConfigError, match="--resume"), claimed_new(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [CONFIG_FILE]


def test_going_on_clears_away_what_a_killed_process_left_of_the_runs_own_files(tmp_path: Path) -> None:
    begin_a_run(tmp_path)
    for name in (*run_files("a[b]"), "mine"):
        (tmp_path / f".{name}.abc_1234.part").write_bytes(b"half")
    with claimed_again(tmp_path, "a[b]"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {CONFIG_FILE, ".mine.abc_1234.part"}


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"), claimed_new(tmp_path / "file"):
        pass
    with pytest.raises(OSError, match="file"), claimed_free(tmp_path / "file" / "run"):
        pass
