from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from export_samples import assert_close, random_images, random_task, some_neurons, task_file
from full_disk import room_for

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export import packages
from mimi_edge.export.engine_graphs import engine_graph
from mimi_edge.export.graphs import load_graph
from mimi_edge.export.merge import merge
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.export.packages import create_or_extend


@pytest.fixture
def graph(workplace) -> Path:
    backbone, folder = workplace
    path = task_file(folder, random_task(backbone, some_neurons(backbone)))
    return merge(folder / "backbone.onnx", path, folder / "sample.onnx").path


def _with_weights_in_memory(path: Path) -> ir.Model:
    """As after a pass that computed new weights."""
    model = load_graph(path)
    for value in list(model.graph.initializers.values())[::2]:
        value.const_value = ir.Tensor(np.array(value.const_value.numpy()), name=value.name)
    return model


def _hidden(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("limit", [1 << 26, 10_000])
def test_graph_runs_beside_its_weights_and_is_gone_afterwards(limit, graph):
    model = _with_weights_in_memory(graph)
    before = sorted(graph.parent.iterdir())
    images = random_images(2)
    with engine_graph(model, graph.parent, embedded_limit_bytes=limit) as path:
        assert path.parent == graph.parent
        # One file, or two where the weights in memory are larger together than the limit.
        assert len(_hidden(graph.parent)) == (1 if limit > 10_000 else 2)
        assert {each.suffix for each in _hidden(graph.parent)} == {".part"}
        assert_close(open_graph(path).run(images), open_graph(graph).run(images))
        if limit == 10_000:
            assert path.stat().st_size < 2 * graph.stat().st_size
    assert sorted(graph.parent.iterdir()) == before


def test_references_and_the_model_stay_what_they_are(graph):
    model = _with_weights_in_memory(graph)
    held = {name: value.const_value for name, value in model.graph.initializers.items()}
    with engine_graph(model, graph.parent, embedded_limit_bytes=0) as path:
        written = load_graph(path).graph.initializers
        for name, tensor in held.items():
            assert model.graph.initializers[name].const_value is tensor
            if isinstance(tensor, ir.ExternalTensor):
                there = written[name].const_value
                assert (there.location, there.offset, there.length) == (tensor.location, tensor.offset, tensor.length)
            np.testing.assert_array_equal(written[name].const_value.numpy(), tensor.numpy())


@pytest.mark.parametrize("limit", [1 << 26, 0])
def test_same_model_gives_the_same_bytes(limit, graph):
    written = []
    for _ in range(2):
        with engine_graph(_with_weights_in_memory(graph), graph.parent, embedded_limit_bytes=limit) as path:
            written.append((path.read_bytes(), {each.read_bytes() for each in _hidden(graph.parent)}))
    assert written[0] == written[1]


def test_two_at_a_time_do_not_disturb_each_other(graph):
    images = random_images(1)
    with engine_graph(_with_weights_in_memory(graph), graph.parent, embedded_limit_bytes=0) as first:
        with engine_graph(_with_weights_in_memory(graph), graph.parent, embedded_limit_bytes=0) as second:
            assert len(_hidden(graph.parent)) == 4
            assert first != second
        assert_close(open_graph(first).run(images), open_graph(graph).run(images))
    assert _hidden(graph.parent) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_when_the_work_fails_or_is_stopped(error, graph):
    with pytest.raises(error), engine_graph(_with_weights_in_memory(graph), graph.parent, embedded_limit_bytes=0):
        raise error
    assert _hidden(graph.parent) == []


def test_nothing_is_left_on_a_full_disk(graph):
    with (
        pytest.raises(OSError, match=os.strerror(errno.EFBIG)),
        room_for(20_000),
        engine_graph(_with_weights_in_memory(graph), graph.parent, embedded_limit_bytes=0),
    ):
        pass
    assert _hidden(graph.parent) == []


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_folder_that_cannot_be_written_is_said_with_what_to_do(code, graph, monkeypatch):
    def refused(**_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(tempfile, "mkstemp", refused)
    with (
        pytest.raises(ConfigError, match="make the folder writable, or copy it"),
        engine_graph(load_graph(graph), graph.parent),
    ):
        pass


def test_graph_must_lie_where_its_weights_do(graph, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    with (
        pytest.raises(ArtifactError, match=r"backbone\.weights, sample\.safetensors"),
        engine_graph(load_graph(graph), elsewhere),
    ):
        pass


def test_package_sweeps_away_what_a_killed_process_left(workplace, graph, tmp_path):
    backbone, folder = workplace
    package = create_or_extend(tmp_path / "package", folder, [folder / "sample.safetensors"])
    with engine_graph(load_graph(package.task("sample").graph), package.folder) as path:
        left = package.folder / path.name.replace(".part", "left.part")
        left.write_bytes(path.read_bytes())
    packages.read_package(package.folder)
    other = task_file(tmp_path, random_task(backbone, {}, name="other"))
    create_or_extend(package.folder, None, [other])
    assert not left.exists()
