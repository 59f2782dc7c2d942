"""A process that answers the profiler's requests without any runtime, or fails in a way of its own.

    python fake_worker.py PLACE HOW [MS]

HOW is `fine`, or what happens when it is asked to do PLACE: `segv`, `kill`, `exit`, `raise`, `hang`, `close`.
"""

import ctypes
import json
import os
import signal
import sys
import time

place, how, ms = sys.argv[1], sys.argv[2], float((*sys.argv, "0.2")[3])
signal.signal(signal.SIGINT, signal.SIG_IGN)
if how != "fine":
    sys.stderr.write("a library says hello\n" * 1000 + f"last words about {how}\n")
    sys.stderr.flush()


def fail():
    """Does what it was told to."""
    if how == "segv":
        ctypes.string_at(0)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "exit":
        os._exit(3)
    elif how == "hang":
        time.sleep(1000)
    elif how == "close":
        os.close(1)
        time.sleep(1000)


def slept(seconds):
    """Nanoseconds of one run."""
    started = time.perf_counter_ns()
    time.sleep(seconds)
    return time.perf_counter_ns() - started


def busy(request):
    """Start and end of a while."""
    started = time.perf_counter_ns()
    time.sleep(request["seconds"])
    return {"start_ns": started, "end_ns": time.perf_counter_ns(), "runs": 10}


def classify(request):
    """Every image is of the first class."""
    count, *rest = request["shape"]
    sys.stdin.buffer.read(count * rest[0] * rest[1] * rest[2])
    return {"classes": [0] * count}


ANSWERS = {
    "open": lambda _: {"host_floor_bytes": 100, "device_floor_bytes": None},
    "ready": lambda _: {},
    "run": lambda request: {"ns": [slept(ms / 1000) for _ in range(request["times"])]},
    "busy": busy,
    "classify": classify,
    "memory": lambda _: {"host_peak_bytes": 150, "device_peak_bytes": None},
}


def answer(request):
    """What a worker would say."""
    if request["do"] == place:
        fail()
        if how == "raise":
            return {"error": "ArtifactError: this one is refused"}
    return ANSWERS[request["do"]](request)


for line in iter(sys.stdin.buffer.readline, b""):
    sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
    sys.stdout.flush()
