"""The benchmark of engines has to run where nobody can try it first: here it does, on fakes and a tiny backbone."""

from __future__ import annotations

import shutil
import sys
from contextlib import ExitStack
from importlib import import_module

import fake_runtime
import pytest

from mimi_edge.choices import Precision
from mimi_edge.export.graphs import read_backbone_graph


@pytest.fixture
def benchmark_of(repository, exported, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    monkeypatch.setattr(sys, "argv", ["engines.py"])
    bench = import_module("engines")
    shutil.copytree(exported("swin")[1].folder, tmp_path / "work")
    monkeypatch.setattr(bench, "exported", lambda _name, folder, _seed: read_backbone_graph(folder))
    return bench, tmp_path / "work"


def test_every_table_is_filled(benchmark_of, monkeypatch):
    bench, folder = benchmark_of
    machine = fake_runtime.install(monkeypatch)
    options = bench.read_options(["--batches", "1,2", "--tasks", "3", "--rounds", "3", "--no-peers"])
    monkeypatch.setattr(bench, "random_task", small_task)
    # The fake refuses what all code of ours must not do: networks that are not strongly typed.
    monkeypatch.setattr(bench, "built_as_trtexec_would", lambda *_: None)
    with ExitStack() as stack:
        gpu = bench.Gpu(stack)
        rows, lines = bench.measured(bench.prepared("tiny", "tiny", folder, gpu, options))
    machine.gpu.check()
    assert options.precision is Precision.FP16
    measured = {row.measured for row in rows}
    assert {"tiny merged batch 2", "tiny shared batch 1", "tiny refit batch 1"} <= measured
    assert "tiny 3 tasks in one mixed pass one frame" in measured
    tables = "\n".join(lines)
    for part in ("| shared |", "| refit |", "| engine load |", "| full models |", "filled one"):
        assert part in tables


def small_task(name, backbone, sites, preprocessing, *, seed):
    """As in the benchmark, but of a few kilobytes."""
    return import_module("common").random_task(name, backbone, sites, preprocessing, budget_bytes=12_000, seed=seed)
