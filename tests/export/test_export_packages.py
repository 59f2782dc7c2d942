from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from disk_trouble import full_at_every_write, killed_at
from export_samples import (
    assert_close,
    random_images,
    random_task,
    some_neurons,
    task_file,
    tiny_backbone,
    torch_logits,
)

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export import transactions
from mimi_edge.export.graphs import describe, load_graph, read_backbone_graph
from mimi_edge.export.manifest import check_task_name
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.export.open_packages import read_package
from mimi_edge.export.packages import create_or_extend
from mimi_edge.files import sha256_of
from mimi_edge.images.image_size import ImageSize
from mimi_edge.tasks.stores import Store


@pytest.fixture
def sources(workplace):
    """Backbone, its graph's folder, and three task files: a, b, and another version of a."""
    backbone, folder = workplace
    files = {}
    for key, name, seed in (("a", "a", 1), ("b", "b", 2), ("new a", "a", 3)):
        place = folder.parent / key
        place.mkdir()
        files[key] = task_file(place, random_task(backbone, some_neurons(backbone), name=name, seed=seed))
    return backbone, folder, files


def _visible(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_new_package(sources, tmp_path):
    backbone, folder, files = sources
    package = create_or_extend(tmp_path / "out" / "package", folder, [files["a"], files["b"]])
    assert package == read_package(package.folder)
    assert list(package.tasks) == ["a", "b"]
    assert (package.backbone, package.input_size) == (backbone.identity, ImageSize(32, 32))
    assert _visible(package.folder) == {
        "manifest.json",
        "backbone.onnx",
        "backbone.weights",
        *("a.safetensors", "a.onnx", "b.safetensors", "b.onnx"),
    }
    assert _visible(package.folder.parent) == {"package"}
    assert package.tasks["a"].task_file.read_bytes() == files["a"].read_bytes()
    assert all(path.stat().st_nlink == 1 for path in package.folder.iterdir())
    document = json.loads((package.folder / "manifest.json").read_text())
    assert document["schema"] == 1
    for name, entry in document["files"].items():
        path = package.folder / name
        assert entry == {"sha256": sha256_of(path), "size_bytes": path.stat().st_size}


def test_package_runs_and_answers(sources, tmp_path):
    backbone, folder, files = sources
    package = create_or_extend(tmp_path / "package", folder, [files["a"], files["b"]])
    images = random_images(2)
    for name, seed in (("a", 1), ("b", 2)):
        expected = torch_logits(backbone, random_task(backbone, some_neurons(backbone), seed=seed), images)
        assert_close(open_graph(package.task(name).graph).run(images), expected)
    assert open_graph(package.backbone_graph).run(images).shape == (2, backbone.identity.features)


def test_tasks_share_one_weights_file_which_is_never_rewritten(sources, tmp_path):
    _, folder, files = sources
    package = create_or_extend(tmp_path / "package", folder, [files["a"]])
    before = package.backbone_weights.stat()
    extended = create_or_extend(tmp_path / "package", None, [files["b"]])
    after = extended.backbone_weights.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert list(extended.tasks) == ["a", "b"]
    assert read_package(extended.folder) == extended
    assert [path.name for path in extended.folder.iterdir() if path.suffix == ".weights"] == ["backbone.weights"]


def test_task_of_the_same_name_is_replaced(sources, tmp_path):
    backbone, folder, files = sources
    create_or_extend(tmp_path / "package", folder, [files["a"], files["b"]])
    package = create_or_extend(tmp_path / "package", folder, [files["new a"]])
    images = random_images(2)
    expected = torch_logits(backbone, random_task(backbone, some_neurons(backbone), seed=3), images)
    assert_close(open_graph(read_package(package.folder).task("a").graph).run(images), expected)
    assert list(package.tasks) == ["a", "b"]


def test_any_unicode_name_works(workplace, tmp_path):
    backbone, folder = workplace
    name = "Blüten & 花 'x' %20"
    package = create_or_extend(tmp_path / "package", folder, [task_file(folder, random_task(backbone, {}, name=name))])
    assert open_graph(read_package(package.folder).task(name).graph).run(random_images(1)).shape == (1, 5)


@pytest.mark.parametrize(
    "name", ["", ".hidden", "a/b", "a\\b", "..", "backbone", "Manifest", "a\0b", "a\nb", "x" * 201, "\ud800"]
)
def test_names_that_files_should_not_have_are_refused(name):
    with pytest.raises(ConfigError):
        check_task_name(name)


def test_two_tasks_of_one_name_at_once_are_refused(sources, tmp_path):
    _, folder, files = sources
    with pytest.raises(ConfigError, match="called a"):
        create_or_extend(tmp_path / "package", folder, [files["a"], files["new a"]])
    assert not (tmp_path / "package").exists()


def test_package_of_another_backbone_is_refused(sources, tmp_path):
    _, folder, files = sources
    package = create_or_extend(tmp_path / "package", folder, [files["a"]])
    before = {path.name: path.read_bytes() for path in package.folder.iterdir()}
    other = tiny_backbone("vit", seed=9)
    stranger = task_file(tmp_path, random_task(other, {}, name="stranger"))
    with pytest.raises(ArtifactError, match="trained on"):
        create_or_extend(package.folder, None, [stranger])
    graph = read_backbone_graph(folder)
    model = load_graph(graph.path)
    describe(model, type(graph.info)(other.identity, graph.info.preprocessing, graph.info.sites))
    import onnx_ir

    graph.path.write_bytes(onnx_ir.to_proto(model).SerializeToString())
    with pytest.raises(ArtifactError, match="A package has one backbone"):
        create_or_extend(package.folder, folder, [stranger])
    assert {path.name: path.read_bytes() for path in package.folder.iterdir()} == before


def test_folder_with_other_things_is_refused(sources, tmp_path):
    _, folder, files = sources
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(ConfigError, match="not a package"):
        create_or_extend(tmp_path / "photos", folder, [files["a"]])
    assert _visible(tmp_path / "photos") == {"cat.jpg"}


def test_empty_folder_becomes_a_package(sources, tmp_path):
    _, folder, files = sources
    (tmp_path / "empty").mkdir()
    assert list(create_or_extend(tmp_path / "empty", folder, [files["a"]]).tasks) == ["a"]


@pytest.mark.parametrize("name", ["backbone.onnx", "backbone.weights", "a.onnx", "a.safetensors", "manifest.json"])
def test_damage_is_noticed(sources, tmp_path, name):
    _, folder, files = sources
    package = create_or_extend(tmp_path / "package", folder, [files["a"]])
    path = package.folder / name
    whole = path.read_bytes()
    altered = bytearray(whole)
    altered[len(whole) // 2] ^= 0xFF
    for damaged in (bytes(altered), whole[:-3], b""):
        path.write_bytes(damaged)
        with pytest.raises(ArtifactError):
            read_package(package.folder)
    path.unlink()
    with pytest.raises(ArtifactError):
        read_package(package.folder)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: document.update(schema=2),
        lambda document: document.update(tasks=[]),
        lambda document: document["files"].update({"../x": {"sha256": "", "size_bytes": 0}}),
        lambda document: document["tasks"]["a"].update(graph="../a.onnx"),
        lambda document: document["tasks"]["a"].update(graph="gone.onnx"),
        lambda document: document.update(pending=["../x"]),
        lambda document: document["files"].pop("backbone.weights"),
    ],
)
def test_manifests_that_lead_elsewhere_are_refused(sources, tmp_path, spoil):
    _, folder, files = sources
    package = create_or_extend(tmp_path / "package", folder, [files["a"]])
    manifest = package.folder / "manifest.json"
    document = json.loads(manifest.read_text())
    spoil(document)
    manifest.write_text(json.dumps(document))
    with pytest.raises(ArtifactError):
        read_package(package.folder)


def test_reference_out_of_a_package_is_refused_though_its_manifest_agrees(sources, tmp_path):
    import onnx

    _, folder, files = sources
    package = create_or_extend(tmp_path / "package", folder, [files["a"]])
    path = package.task("a").graph
    model = onnx.load(path, load_external_data=False)
    next(entry for entry in model.graph.initializer[-1].external_data if entry.key == "location").value = "../b"
    path.write_bytes(model.SerializeToString())
    manifest = package.folder / "manifest.json"
    document = json.loads(manifest.read_text())
    document["files"]["a.onnx"] = {"sha256": sha256_of(path), "size_bytes": path.stat().st_size}
    manifest.write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match=r"\.\./b"):
        read_package(package.folder)


def test_check_that_fails_publishes_nothing(sources, tmp_path):
    _, folder, files = sources

    def refuse(staged):
        assert open_graph(staged.merged.path).run(random_images(1)).shape == (1, 5)
        raise ArtifactError("no")

    with pytest.raises(ArtifactError, match="no"):
        create_or_extend(tmp_path / "out" / "package", folder, [files["a"]], check=refuse)
    assert not _visible(tmp_path / "out")


def test_killed_while_making_a_package(sources, tmp_path):
    _, folder, files = sources
    place = tmp_path / "out" / "package"
    step = 0
    while killed_at(step, lambda: create_or_extend(place, folder, [files["a"]])):
        assert not place.exists() or list(read_package(place).tasks) == ["a"]
        shutil.rmtree(place, ignore_errors=True)
        step += 1
    assert step > 5
    assert list(read_package(place).tasks) == ["a"]


def test_killed_while_adding_and_replacing(sources, tmp_path):
    _, folder, files = sources
    original = create_or_extend(tmp_path / "original", folder, [files["a"]]).folder
    work = tmp_path / "out"
    place = work / "package"
    old, new = sha256_of(files["a"]), sha256_of(files["new a"])
    seen = set()
    step, died = 0, True
    while died:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(original, place)
        died = killed_at(step, lambda: create_or_extend(place, None, [files["new a"], files["b"]]))
        package = read_package(place)
        content = (tuple(package.tasks), sha256_of(package.task("a").task_file))
        assert content in {(("a",), old), (("a", "b"), new)}
        seen.add(content)
        if died and step % 3 == 0:
            # It can be gone on with, after which nothing hidden is left.
            again = create_or_extend(place, None, [files["new a"], files["b"]])
            assert read_package(place) == again
            assert not [name for name in _visible(place) if name.startswith(".")]
        step += 1
    assert len(seen) == 2
    assert step > 10


def test_full_disk_while_making_a_package_leaves_nothing(sources, tmp_path):
    _, folder, files = sources
    out = tmp_path / "out"
    for _ in full_at_every_write(lambda: create_or_extend(out / "package", folder, [files["a"]])):
        assert not _visible(out)
    assert _visible(out) == {"package"}


def test_full_disk_while_adding_leaves_a_package_as_it_was_or_whole(sources, tmp_path):
    _, folder, files = sources
    place = tmp_path / "out" / "package"
    original = create_or_extend(tmp_path / "original", folder, [files["a"]]).folder
    shutil.copytree(original, place)
    for _ in full_at_every_write(lambda: create_or_extend(place, None, [files["new a"]])):
        package = read_package(place)
        assert sha256_of(package.task("a").task_file) in {sha256_of(files["a"]), sha256_of(files["new a"])}
        assert not [name for name in _visible(place) if name.startswith(".")]
        assert _visible(place.parent) == {"package"}
        shutil.rmtree(place)
        shutil.copytree(original, place)
    assert sha256_of(read_package(place).task("a").task_file) == sha256_of(files["new a"])


def test_process_that_makes_the_same_package_meanwhile_is_joined(sources, tmp_path):
    _, folder, files = sources
    place = tmp_path / "package"

    def overtaken(_staged):
        if not place.exists():
            create_or_extend(place, folder, [files["b"]])
        return {}

    package = create_or_extend(place, folder, [files["a"]], check=overtaken)
    assert list(package.tasks) == ["a", "b"]
    assert read_package(place) == package


def test_reading_finishes_what_was_announced(sources, tmp_path, monkeypatch):
    _, folder, files = sources
    place = tmp_path / "package"
    create_or_extend(place, folder, [files["a"]])
    monkeypatch.setattr(transactions, "finish", lambda _folder, manifest, **_: manifest)
    create_or_extend(place, None, [files["new a"]])
    # Announced but not renamed: only finishing makes it whole.
    with pytest.raises(ArtifactError):
        read_package(place)
    monkeypatch.undo()
    assert sha256_of(read_package(place).task("a").task_file) == sha256_of(files["new a"])


def test_store_makes_no_difference(workplace, tmp_path):
    backbone, folder = workplace
    for store in Store:
        task = random_task(backbone, some_neurons(backbone), store=store, name=store.value)
        create_or_extend(tmp_path / "package", folder, [task_file(folder, task)])
    assert list(read_package(tmp_path / "package").tasks) == sorted(store.value for store in Store)
