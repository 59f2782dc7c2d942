"""What is found among paths: packages, task files, graphs, and what is none of these."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from onnx import TensorProto, helper, load_from_string
from tiny_package import SIZE, make_package

from mimi_edge.choices import Backend
from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.images.image_size import ImageSize
from mimi_edge.profiles.inventory import folder_files
from mimi_edge.profiles.runtimes.artefact import Opening, Wanted, file_sizes
from mimi_edge.profiles.runtimes.find import find_artefacts
from mimi_edge.profiles.runtimes.onnx_runtime import LEAST_GRAPH, opened
from mimi_edge.profiles.storage import package_storage
from mimi_edge.runtimes import Runs

TASKS = {"digits": (3, 0, 1), "latency": (1, 2, 2)}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return make_package(tmp_path_factory.mktemp("found"), TASKS)


def names(found):
    return [one.name for one in found]


def test_a_package_is_its_bare_backbone_and_its_tasks(package):
    found = find_artefacts([package.folder], Wanted())
    assert [(one.name, one.kind, one.task) for one in found] == [
        ("backbone", "backbone", None),
        ("digits", "task", "digits"),
        ("latency", "task", "latency"),
    ]
    assert {one.opening.runs for one in found} == {Runs.GRAPHS}
    assert {one.input_size for one in found} == {ImageSize.of(SIZE)}
    assert found[1].stored_accuracy["test"].accuracy == 0.75
    assert names(find_artefacts([package.folder], Wanted(tasks=("latency",)))) == ["backbone", "latency"]


def test_a_graph_beside_its_package_has_a_name_of_its_own(package):
    found = find_artefacts([package.folder, package.folder / "digits.onnx"], Wanted())
    assert names(found) == ["backbone", "digits", "latency", "digits.onnx"]
    assert found[-1].kind == "graph"
    assert found[-1].task == "digits"


def test_two_packages_are_told_apart(package, tmp_path):
    shutil.copytree(package.folder, tmp_path / "other")
    found = find_artefacts([package.folder, tmp_path / "other"], Wanted(tasks=("digits",)))
    assert names(found) == [f"{folder}:{name}" for folder in (package.folder, tmp_path / "other") for name in (
        "backbone", "digits"
    )]  # fmt: skip


def test_a_task_file_in_its_package_is_measured_there(package):
    (found,) = find_artefacts([package.folder / "digits.safetensors"], Wanted())
    assert (found.kind, found.opening.path) == ("task", package.folder / "digits.onnx")


def test_a_task_file_that_lies_alone_needs_torch_and_says_so(package, tmp_path):
    alone = tmp_path / "digits.safetensors"
    shutil.copyfile(package.folder / "digits.safetensors", alone)
    with pytest.raises(ConfigError, match="--backend torch"):
        find_artefacts([alone], Wanted())
    (found,) = find_artefacts([alone], Wanted(backend=Backend.TORCH, weights="some.safetensors"))
    assert (found.opening.backend, found.opening.backbone, found.opening.weights) == (
        Backend.TORCH,
        "tiny",
        "some.safetensors",
    )


def test_torch_counts_the_weights_and_no_graph(package):
    backbone, digits, _ = find_artefacts([package.folder], Wanted(backend=Backend.TORCH))
    assert [path.name for path in backbone.files] == ["backbone.weights"]
    assert [path.name for path in digits.files] == ["backbone.weights", "digits.safetensors"]
    assert backbone.opening.path is None
    assert digits.opening.path == package.folder / "digits.safetensors"


@pytest.mark.parametrize("backend", [Backend.TRT, Backend.TRT_RTX])
def test_a_package_without_engines_says_how_to_build_them(package, backend):
    with pytest.raises(ConfigError, match="mimi-edge export --format trt"):
        find_artefacts([package.folder], Wanted(backend=backend))


@pytest.mark.parametrize("backend", [Backend.TORCH, Backend.TRT])
def test_a_graph_does_not_go_with_every_backend(package, backend):
    with pytest.raises(ConfigError, match="ort-cpu"):
        find_artefacts([package.folder / "digits.onnx"], Wanted(backend=backend))


@pytest.mark.parametrize(("tasks", "named"), [(("cats",), "cats"), ((), "no task")])
def test_a_task_that_is_not_there_is_refused(package, tasks, named):
    with pytest.raises(ConfigError, match=named):
        find_artefacts([package.folder], Wanted(tasks=tasks))


def test_what_cannot_be_profiled_is_refused(package, tmp_path):
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(ConfigError, match=r"notes.txt is nothing that can be profiled"):
        find_artefacts([tmp_path / "notes.txt"], Wanted())
    with pytest.raises(ConfigError, match="nothing to profile"):
        find_artefacts([], Wanted())
    with pytest.raises(ConfigError, match="given twice"):
        find_artefacts([package.folder, package.folder / "..", package.folder], Wanted())
    with pytest.raises(ArtifactError):
        find_artefacts([tmp_path], Wanted())
    for gone in ("gone.onnx", "gone.safetensors", "gone.engine"):
        with pytest.raises(ArtifactError, match="gone"):
            find_artefacts([tmp_path / gone], Wanted(trust=True))


def test_an_engine_from_elsewhere_is_refused_without_trust(tmp_path):
    (tmp_path / "foreign.engine").write_bytes(b"plan")
    with pytest.raises(ArtifactError, match="--trust"):
        find_artefacts([tmp_path / "foreign.engine"], Wanted())


def test_an_opening_goes_through_json(package):
    for one in find_artefacts([package.folder], Wanted(backend=Backend.TORCH, threads=3)):
        assert Opening.of(one.opening.document()) == one.opening
    engine = Opening(Backend.TRT, package.folder / "x.engine", package=package.folder, task="digits")
    assert Opening.of(engine.document()) == engine


@pytest.mark.parametrize("make", [lambda: Opening(Backend.TRT), lambda: Opening(Backend.ORT_CPU)])
def test_an_opening_without_a_meaning_is_refused(make):
    with pytest.raises(ConfigError):
        make()


def test_a_file_with_several_names_is_counted_once(tmp_path):
    (tmp_path / "a").write_bytes(bytes(100))
    (tmp_path / "folder").mkdir()
    os.link(tmp_path / "a", tmp_path / "folder" / "b")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "c").write_bytes(bytes(7))
    link = (tmp_path / "link").lstat().st_size
    assert sum(folder_files(tmp_path).values()) == 107 + link
    assert file_sizes([tmp_path / "a", tmp_path / "folder" / "b", tmp_path / "c", tmp_path / "c"]) == {
        str(tmp_path / "a"): 100,
        str(tmp_path / "c"): 7,
    }


def test_storage_is_what_the_file_system_says(package):
    storage = package_storage(package)
    sizes = {path.name: path.stat().st_size for path in package.folder.iterdir()}
    assert storage.backbone_bytes == sizes["backbone.onnx"] + sizes["backbone.weights"]
    assert storage.package_bytes == sum(sizes.values())
    assert storage.full_models_bytes == 2 * storage.backbone_bytes
    for name, task in storage.tasks.items():
        assert (task.task_file_bytes, task.graph_bytes) == (sizes[f"{name}.safetensors"], sizes[f"{name}.onnx"])


def test_a_graph_that_was_replaced_after_it_was_checked_is_not_opened(package, tmp_path):
    folder = tmp_path / "package"
    shutil.copytree(package.folder, folder)
    _, digits = find_artefacts([folder], Wanted(tasks=("digits",)))
    shutil.copy(folder / "latency.onnx", folder / "digits.onnx")
    with pytest.raises(ArtifactError, match="was replaced since it was checked"), opened(digits.opening):
        pass


def test_a_measuring_process_loads_no_library_that_the_artefact_does_not_need(package):
    _, digits = find_artefacts([package.folder], Wanted(tasks=("digits",)))
    program = (
        "import json, sys\n"
        "from mimi_edge.profiles.runtimes.artefact import Opening\n"
        "from mimi_edge.profiles.runtimes.onnx_runtime import load, opened\n"
        "opening = Opening.of(json.loads(sys.argv[1]))\n"
        "load(opening)\n"
        "with opened(opening):\n"
        "    print([name for name in ('onnx', 'onnx_ir', 'torch') if name in sys.modules])\n"
    )
    command = [sys.executable, "-c", program, json.dumps(digits.opening.document())]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == "[]"


def test_the_least_graph_is_one_matrix_product():
    square = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "x"], ["y"])], "least", square[:1], square[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert load_from_string(LEAST_GRAPH) == model
