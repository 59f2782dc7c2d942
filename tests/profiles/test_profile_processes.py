"""What becomes of processes that answer, fail, hang and are interrupted."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mimi_edge.profiles.processes import COMMAND, Crew, WorkerError, start

FAKE = Path(__file__).parent / "fake_worker.py"


def fake(place="none", how="fine", ms="0.2"):
    return (sys.executable, "-S", str(FAKE), place, how, ms)


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


def wait_until_gone(pids):
    deadline = time.monotonic() + 30
    while not all(map(is_gone, pids)):
        assert time.monotonic() < deadline, "processes are left running"
        time.sleep(0.02)


def test_answers_come_back_in_order_and_the_process_ends_with_its_pipe():
    worker = start(fake())
    try:
        assert worker.ask({"do": "open"})["host_floor_bytes"] == 100
        assert len(worker.ask({"do": "run", "times": 3})["ns"]) == 3
        assert worker.ask({"do": "classify", "shape": [2, 4, 4, 3]}, bytes(96)) == {"classes": [0, 0]}
    finally:
        worker.close()
    assert worker.process.returncode == 0


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("segv", -signal.SIGSEGV, "SIGSEGV"),
        ("kill", -signal.SIGKILL, "memory runs out"),
        ("exit", 3, "exit code 3"),
        ("raise", None, "this one is refused"),
        ("close", None, "closed its pipe"),
    ],
)
def test_a_failure_has_its_stage_its_code_and_its_last_words(how, code, said, monkeypatch):
    monkeypatch.setattr("mimi_edge.profiles.processes.ENDING_S", 0.3)
    with Crew() as crew:
        crew.add("good", fake())
        crew.add("bad", fake("run", how))
        for name in ("good", "bad"):
            assert crew.ask(name, "opening", {"do": "open"}) is not None
        pid = crew._alive["bad"].process.pid
        assert crew.ask("bad", "latency, batch 1", {"do": "run", "times": 1}) is None
        wait_until_gone([pid])
        failure = crew.failures["bad"]
        assert (failure.stage, failure.exit_code) == ("latency, batch 1", code)
        assert said in failure.message
        assert how == "raise" or f"last words about {how}" in failure.message
        assert len(failure.message) < 1000
        assert crew.names == ["good"]
        assert crew.ask("bad", "memory", {"do": "memory"}) is None
        assert crew.failures["bad"] is failure
        assert crew.ask("good", "latency, batch 1", {"do": "run", "times": 1}) is not None


def test_one_that_keeps_silent_is_given_up():
    with Crew(patience_s=0.5) as crew:
        crew.add("slow", fake("run", "hang"))
        pid = crew._alive["slow"].process.pid
        assert crew.ask("slow", "latency, batch 1", {"do": "run", "times": 1}) is None
        assert "no answer for 0.5 s" in crew.failures["slow"].message
        assert crew.failures["slow"].exit_code is None
        wait_until_gone([pid])


def test_a_command_that_does_not_run_at_all_is_a_failure():
    with Crew() as crew:
        crew.add("none", (sys.executable, "-c", "raise SystemExit('no such thing here')"))
        assert crew.ask("none", "opening", {"do": "open"}) is None
        assert "no such thing here" in crew.failures["none"].message


def test_an_interruption_leaves_nothing_running():
    pids = []

    def interrupted():
        with Crew() as crew:
            for name in "abc":
                crew.add(name, fake("run", "hang"))
                crew.ask(name, "opening", {"do": "open"})
            pids.extend(worker.process.pid for worker in crew._alive.values())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(pids) == 3
    assert all(map(is_gone, pids))


PARENT = """
import signal, sys
# A background job of a shell without job control inherits a Ctrl-C that is ignored; a person at a terminal does not.
signal.signal(signal.SIGINT, signal.default_int_handler)
from mimi_edge.profiles.processes import Crew
with Crew() as crew:
    for name in "ab":
        crew.add(name, sys.argv[1:])
        crew.ask(name, "opening", {"do": "open"})
        print(crew._alive[name].process.pid, flush=True)
    while True:
        crew.ask("a", "latency", {"do": "run", "times": 5})
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_profiler_however_it_ends(number):
    command = [sys.executable, "-c", PARENT, *fake(ms="1")]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert parent.stdout is not None
    pids = [int(parent.stdout.readline()) for _ in "ab"]
    assert not any(map(is_gone, pids))
    parent.send_signal(number)
    parent.wait(30)
    parent.stdout.close()
    wait_until_gone(pids)


def test_a_real_worker_says_what_is_wrong_and_goes_on():
    worker = start(COMMAND)
    try:
        with pytest.raises(WorkerError, match="KeyError"):
            worker.ask({"do": "dance"})
        with pytest.raises(WorkerError, match="fault in mimi-edge"):
            worker.ask({"do": "run", "times": 1})
        assert worker.ask({"do": "memory"})["host_peak_bytes"] > 1_000_000
    finally:
        worker.close()
    assert worker.process.returncode == 0


def test_files_of_the_working_directory_stand_in_for_no_module(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit('loaded from the working directory')")
    monkeypatch.chdir(tmp_path)
    worker = start(COMMAND)
    try:
        assert worker.ask({"do": "memory"})["host_peak_bytes"] > 1_000_000
    finally:
        worker.close()
