"""What readers of a package look at, and what they notice: no more than what was asked for, and every alteration."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from predicting import predict
from tiny_package import SIZE, make_backbone, make_package, make_task
from typer.testing import CliRunner

from mimi_edge.cli.app import app
from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export import known_hashes, onnx_runtime
from mimi_edge.export.archives.install import install_from
from mimi_edge.export.archives.pack import pack
from mimi_edge.export.archives.verify import verify
from mimi_edge.export.external_data import verify_graph
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.export.open_packages import opened_package, read_package
from mimi_edge.export.packages import create_or_extend
from mimi_edge.export.serving.find import serving
from mimi_edge.files import sha256_of
from mimi_edge.profiles.fleet import fleet_ledger
from mimi_edge.profiles.runtimes.artefact import Wanted
from mimi_edge.profiles.runtimes.find import find_artefacts
from mimi_edge.tasks.files import read_outline, read_task, write_task

FEW, MANY = 2, 12


class Opened:
    """Names of the files of a folder that Python opens."""

    def __init__(self) -> None:
        self.folder, self.names = None, []
        sys.addaudithook(self._heard)

    def of(self, folder: Path, work) -> list[str]:
        self.folder, self.names = str(folder), []
        try:
            work()
        finally:
            self.folder = None
        return [name for name in self.names if "." in name and not name.startswith(".")]

    def _heard(self, event, arguments) -> None:
        if event == "open" and self.folder is not None and str(arguments[0]).startswith(self.folder + "/"):
            self.names.append(Path(str(arguments[0])).name)


OPENED = Opened()


@pytest.fixture(scope="module")
def fleets(tmp_path_factory):
    """A package with few tasks and one with many."""
    folder = tmp_path_factory.mktemp("fleets")
    made = {}
    for count in (FEW, MANY):
        place = folder / str(count)
        place.mkdir()
        made[count] = make_package(place, {f"t{index:02}": (index % 3, 1, 2) for index in range(count)}).folder
    return made


@pytest.fixture
def package(fleets, tmp_path):
    return Path(shutil.copytree(fleets[FEW], tmp_path / "package"))


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (SIZE, SIZE, 3), np.uint8)).save(path)
    return path


def one_more(folder: Path, name: str = "new") -> Path:
    write_task(make_task(name, (1, 1, 1)), folder / f"{name}.task.safetensors")
    return folder / f"{name}.task.safetensors"


WORK = {
    "predict": lambda package, _: list(serving(package, ["t01"], threads=1).served()),
    "profile": lambda package, _: find_artefacts([package], Wanted(tasks=("t01",))),
    "install": lambda package, file: install_from(file, package),
    "export": lambda package, file: create_or_extend(package, None, [file]),
}


@pytest.mark.parametrize("work", WORK)
def test_one_task_costs_the_same_among_few_as_among_many(fleets, tmp_path, work):
    looked_at = []
    for count, source in fleets.items():
        package = Path(shutil.copytree(source, tmp_path / str(count)))
        file = one_more(tmp_path)
        looked_at.append(OPENED.of(package, lambda package=package, file=file: WORK[work](package, file)))
    assert sorted(looked_at[0]) == sorted(looked_at[1])
    assert {name.partition(".")[0] for name in looked_at[1]} <= {"manifest", "backbone", "t01", "new"}
    assert "backbone.onnx" in looked_at[1]


def test_inspect_and_ledger_open_no_graph_of_a_task_and_read_no_weights(fleets, monkeypatch):
    package = fleets[MANY]
    monkeypatch.setattr("mimi_edge.tasks.files.load", None)

    def ledger():
        with opened_package(package, ()) as opened:
            fleet_ledger(opened)

    def inspect():
        answer = CliRunner().invoke(app, ["inspect", str(package)])
        assert answer.exit_code == 0, answer.output

    for work in (ledger, inspect):
        assert {name for name in OPENED.of(package, work) if name.endswith(".onnx")} <= {"backbone.onnx"}


def test_an_outline_says_what_the_file_says_without_its_weights(package):
    path = package / "t01.safetensors"
    whole, outline = read_task(path), read_outline(path)
    assert outline.header == whole.header
    assert (outline.neurons, outline.widths) == (whole.neurons, whole.widths)
    assert {name: values.shape for name, values in outline.tensors.items()} == {
        name: values.shape for name, values in whole.tensors.items()
    }
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(ArtifactError, match="whole task file"):
        read_outline(path)


@pytest.mark.parametrize("source", ["package", "graph"])
@pytest.mark.parametrize("damage", ["longer", "altered"])
@pytest.mark.parametrize("name", ["backbone.weights", "t01.safetensors", "t01.onnx"])
def test_predict_refuses_every_altered_file_that_it_uses(package, image, source, damage, name):
    path = package / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content) if damage == "altered" else path.read_bytes() + b"\0" * 64)
    where, tasks = (package, ["t01"]) if source == "package" else (package / "t01.onnx", None)
    with pytest.raises(ArtifactError, match=name):
        predict(where, [image], tasks)


def test_a_damaged_task_that_is_not_asked_for_is_in_nobodys_way(package, image):
    (package / "t00.onnx").write_bytes(b"")
    assert predict(package, [image], ["t01"])
    with pytest.raises(ArtifactError, match=r"t00\.onnx"):
        predict(package, [image])


def test_a_graph_that_no_manifest_knows_is_compared_by_what_it_refers_to(package, image):
    shutil.copy(package / "t01.onnx", package / "mine.onnx")
    assert predict(package / "mine.onnx", [image])
    content = bytearray((package / "backbone.weights").read_bytes())
    content[0] ^= 1
    (package / "backbone.weights").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"backbone\.weights"):
        predict(package / "mine.onnx", [image])
    (package / "manifest.json").unlink()
    assert predict(package / "mine.onnx", [image])


def test_weights_are_read_once_until_somebody_touches_them(package, monkeypatch, tmp_path):
    monkeypatch.setattr(known_hashes, "SMALL_BYTES", 3000)
    monkeypatch.setattr(known_hashes, "SETTLED_SECONDS", -1)
    monkeypatch.setenv("MIMI_EDGE_CACHE", str(tmp_path / "cache"))
    weights, hashed = package / "backbone.weights", []
    with weights.open("ab") as opened:
        opened.write(b"\0" * 4000)
    monkeypatch.setattr(known_hashes, "sha256_of", lambda path: (hashed.append(path), sha256_of(path))[1])
    first = known_hashes.remembered_sha256(weights)
    assert [known_hashes.remembered_sha256(weights) for _ in range(3)] == [first] * 3
    assert hashed == [weights]
    status = weights.stat()
    with weights.open("r+b") as opened:
        opened.write(b"\1")
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert known_hashes.remembered_sha256(weights) == sha256_of(weights) != first


def test_weights_that_were_just_written_are_not_remembered(package, monkeypatch, tmp_path):
    monkeypatch.setattr(known_hashes, "SMALL_BYTES", 0)
    monkeypatch.setattr(known_hashes, "SETTLED_SECONDS", 1e9)
    monkeypatch.setenv("MIMI_EDGE_CACHE", str(tmp_path / "cache"))
    known_hashes.remembered_sha256(package / "backbone.weights")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["backbone.weights", "t01.safetensors", "t01.onnx", "backbone.onnx"])
def test_links_that_stay_inside_are_followed_and_others_are_named(package, image, name, tmp_path):
    before = predict(package, [image], ["t01"])
    (package / "blobs").mkdir()
    (package / name).rename(package / "blobs" / "1234")
    (package / name).symlink_to(Path("blobs", "1234"))
    assert predict(package, [image], ["t01"]) == before
    assert verify(package).faults == ()
    assert pack(package, tmp_path / "package.tar").sha256
    (package / "blobs").rename(tmp_path / "blobs")
    (package / name).unlink()
    (package / name).symlink_to(Path("..", "blobs", "1234"))
    for refused in (lambda: predict(package, [image], ["t01"]), lambda: pack(package, tmp_path / "package.tar")):
        with pytest.raises(ArtifactError, match=rf"{name} is a link to \.\./blobs/1234.*cp -rL"):
            refused()
    assert any("cp -rL" in fault for fault in verify(package).faults)
    shutil.copytree(package, tmp_path / "copy", symlinks=False)
    assert [one.label for one in predict(tmp_path / "copy", [image], ["t01"])] == [one.label for one in before]


def test_an_unknown_task_is_a_question_of_names(package):
    with pytest.raises(ConfigError, match="no task 'x'"):
        read_package(package, ["x"])


def _spoiled(path: Path, spoil) -> Path:
    model = onnx.load(path, load_external_data=False)
    spoil(model)
    path.write_bytes(model.SerializeToString())
    return path


def _elsewhere(name: str) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name=name, data_type=1, dims=[2], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret")
    return tensor


def _sparse(graph) -> None:
    graph.sparse_initializer.add(values=_elsewhere("v"), indices=_elsewhere("i"), dims=[2])


def _inner(model) -> None:
    inner = onnx.GraphProto(name="inner")
    _sparse(inner)
    model.graph.node.append(onnx.helper.make_node("If", ["flag"], ["answer"], then_branch=inner, else_branch=inner))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda model: _sparse(model.graph),
        _inner,
        lambda model: model.training_info.add().initialization.initializer.append(_elsewhere("t")),
    ],
)
def test_references_in_parts_that_no_graph_of_ours_has_are_refused(package, spoil):
    with pytest.raises(ArtifactError, match=r"no graph of ours has|whole ONNX graph"):
        verify_graph(_spoiled(package / "t01.onnx", spoil))


def test_a_graph_without_outputs_is_refused(package):
    path = _spoiled(package / "t01.onnx", lambda model: model.graph.ClearField("output"))
    with pytest.raises(ArtifactError, match=r"t01\.onnx"):
        open_graph(path)


def test_a_graph_that_answers_something_else_than_it_says_is_refused(package):
    def other(model):
        del model.graph.output[:]
        model.graph.output.add(name="features")

    path = _spoiled(package / "t01.onnx", other)
    with pytest.raises(ArtifactError, match=r"t01\.onnx answers \[2, 8\]; expected \[2, 3\]"):
        open_graph(path).run(np.zeros((2, 3, SIZE, SIZE), np.float32))


@pytest.mark.parametrize(
    ("said", "expected"), [("Gather: index out of bounds", "cannot run"), ("std::bad_alloc", "memory")]
)
def test_a_run_that_fails_inside_the_runtime_names_the_graph(package, said, expected):
    class Session:
        def run(self, *_):
            raise RuntimeError(said)

    model = open_graph(package / "t01.onnx")
    failing = onnx_runtime.OnnxModel(model.path, model.info, Session())
    with pytest.raises(onnx_runtime.MimiEdgeError, match=rf"(?s){expected}.*t01\.onnx"):
        failing.run(np.zeros((1, 3, SIZE, SIZE), np.float32))


def test_a_backbone_that_is_removed_before_it_is_copied_is_made_again(tmp_path):
    made = []

    def backbone():
        made.append(make_backbone(tmp_path / f"exported{len(made)}"))
        if len(made) == 1:
            (made[0] / "backbone.weights").unlink()
        return made[-1]

    assert list(create_or_extend(tmp_path / "package", backbone, [one_more(tmp_path)]).tasks) == ["new"]
    assert len(made) == 2

    def never():
        return tmp_path / "nothing"

    with pytest.raises(FileNotFoundError):
        create_or_extend(tmp_path / "other", never, [one_more(tmp_path)])
