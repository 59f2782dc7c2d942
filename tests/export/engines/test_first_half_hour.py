"""What a GPU is asked in its first half hour has to work where nobody can try it first: here it does, on fakes."""

from __future__ import annotations

import json
import shutil
import sys
from importlib import import_module

import fake_runtime
import pytest

from mimi_edge.export.graphs import read_backbone_graph


@pytest.fixture
def course(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    monkeypatch.setattr(sys, "argv", ["first_half_hour.py"])
    return import_module("first_half_hour")


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def stages(course, *minutes):
    return [course.Stage(f"stage {number}", one, dict) for number, one in enumerate(minutes)]


def test_every_line_is_on_disk_before_the_next_stage_begins(course, tmp_path):
    out, seen = tmp_path / "gpu.jsonl", []

    def run(stage, _course, _seconds):
        seen.append(out.read_text().count("\n"))
        return {"answer": 42}

    lines = course.lines_of(course.Course(), 5, run, stages=stages(course, 1, 1, 1))
    assert course.write_lines(lines, out) == 0
    assert seen == [0, 1, 2]
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line["stage"], line["status"], line["found"]) for line in written] == [
        (f"stage {number}", "done", {"answer": 42}) for number in range(3)
    ]


def test_a_stage_that_fails_says_why_and_the_next_one_begins(course, tmp_path):
    def run(stage, _course, _seconds):
        if stage.name == "stage 0":
            raise RuntimeError("exit code -6: terminate called")
        return {}

    lines = course.lines_of(course.Course(), 5, run, stages=stages(course, 1, 1))
    assert course.write_lines(lines, tmp_path / "gpu.jsonl") == 1
    first, second = (json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text().splitlines())
    assert (first["status"], "terminate called" in first["why"], second["status"]) == ("failed", True, "done")


def test_stages_get_the_time_that_is_left(course):
    clock, given = Clock(), []

    def run(_stage, _course, seconds):
        given.append(seconds)
        clock.seconds += 100
        return {}

    lines = list(course.lines_of(course.Course(), 3.5, run, stages=stages(course, 4, 1, 1), clock=clock))
    assert given == [210, 60]
    assert [line["status"] for line in lines] == ["done", "done", "left out"]
    assert lines[-1]["why"] == "10 s were left"


def test_a_stage_is_ended_after_its_time_and_a_crash_is_told(course, tmp_path, monkeypatch):
    where = course.Course(folder=tmp_path)
    script = tmp_path / "stage.py"
    monkeypatch.setattr(course, "__file__", str(script))
    stage = course.Stage("any", 1, dict)
    script.write_text("import os, sys; sys.stderr.write('terminate called'); sys.stderr.flush(); os.abort()")
    with pytest.raises(RuntimeError, match="exit code -6: terminate called"):
        course.run_apart(stage, where, 60, [])
    script.write_text("import time; time.sleep(60)")
    with pytest.raises(RuntimeError, match="ended after 1 s"):
        course.run_apart(stage, where, 1, [])
    script.write_text("import mimi_edge.export.graphs, mimi_edge.cli, json; print('talk'); print(json.dumps({'a': 1}))")
    assert course.run_apart(stage, where, 60, []) == {"a": 1}, "the checkout is found without an installation"


@pytest.mark.slow
def test_the_whole_course_on_fakes(course, exported, tmp_path, monkeypatch):
    machine = fake_runtime.install(monkeypatch)
    _small_benchmarks(monkeypatch, exported("swin")[1])
    monkeypatch.setattr(course, "said_by", lambda command, seconds=None: {"exit_code": 1, "said": "a sentence"})
    where = course.Course({"tiny": "tiny"}, rounds=2, batch=2, device="cpu", folder=tmp_path)
    lines = {line["stage"]: line for line in course.lines_of(where, 60, lambda stage, of, _: stage.find(of))}
    assert list(lines) == [stage.name for stage in course.STAGES]
    assert {name: line.get("why") for name, line in lines.items() if line["status"] != "done"} == {}
    json.dumps(lines, allow_nan=False, default=str)
    found = {name: line["found"] for name, line in lines.items()}
    assert found["what is here"]["tensorrt"].startswith("TensorRT 10.15")
    assert found["without a GPU"]["ended_by_itself"]
    forms = found["precisions"]["tiny"]
    # ONNX Runtime, which computes for the stand-in, has no bf16 on a CPU.
    kernels = {form: one["attention_kernels"] for form, one in forms.items() if not form.startswith("bf16")}
    assert kernels["fp16, Softmax in fp32"] == 0 < kernels["fp16, Softmax in fp16"]
    proven = {
        name: {task for one in engines for task in one["check"]["outputs"]}
        for name, engines in found["strategies"]["tiny"].items()
    }
    assert sorted(proven) == ["mixed", "per-task", "refit", "shared"]
    assert all(tasks == {"task0", "task1"} for tasks in proven.values())
    for name, part in (("engines", "| shared |"), ("passes", "round_up_neurons"), ("training", "plain step")):
        assert part in found[name]["printed"]
    import_module("on_gpu").UNTIL_THE_END.close()  # what a stage's own process does at its end
    machine.gpu.check()


def _small_benchmarks(monkeypatch, graph) -> None:
    """The benchmarks on a tiny backbone that nobody has to export; INT8 trains for minutes and was tried by hand."""
    common = import_module("common")

    def small(name, backbone, sites, preprocessing, *, seed=0, **options):
        return plain(name, backbone, sites, preprocessing, seed=seed, **{**options, "budget_bytes": 12_000})

    def copied(_name, folder, _seed):
        shutil.copytree(graph.folder, folder, dirs_exist_ok=True)
        return read_backbone_graph(folder)

    plain = common.random_task
    for module in ("engines", "passes", "engines_by_precision", "graphs"):
        benchmark = import_module(module)
        for name, stand_in in (("random_task", small), ("exported", copied)):
            if hasattr(benchmark, name):
                monkeypatch.setattr(benchmark, name, stand_in)
        if hasattr(benchmark, "BACKBONES"):
            monkeypatch.setattr(benchmark, "BACKBONES", {"tiny": "tiny"})
    training = import_module("training_step")
    states = training.pruned_states
    monkeypatch.setattr(training, "pruned_states", lambda *of: dict(list(states(*of).items())[-1:]))
    # The fake refuses networks that are not strongly typed.
    monkeypatch.setattr(import_module("engines"), "built_as_trtexec_would", lambda *_: None)
    monkeypatch.setattr(import_module("engines"), "peers", lambda *_: {})
    monkeypatch.setattr(
        import_module("engines_by_precision"), "int8_verdict_of_the_demonstration", lambda _folder: {"int8": {}}
    )
