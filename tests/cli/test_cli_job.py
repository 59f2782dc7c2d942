"""The main job through the command line: train, plan, export, profile, predict, inspect."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cli_world import CLASSES, SMALL, Packaged, Trained, here


def test_train_says_what_it_made(trained: Trained) -> None:
    report = trained.outcome.document
    assert Path(report["task_file"]) == trained.task_file
    assert report["size_bytes"] == trained.task_file.stat().st_size <= 80_000 < report["with_next_neuron"]["size_bytes"]
    assert report["budget"] == {"size_bytes": 80_000, "flops": None}
    assert json.loads((trained.run / "report.json").read_text())["neurons"] == report["neurons"]
    assert (trained.run / "neurons.png").stat().st_size > 0
    assert "training 1 of" in trained.outcome.err


def test_plan_says_what_train_does(trained: Trained) -> None:
    plan = here("plan", *trained.options, "--json").ended(0).document
    report = trained.outcome.document
    assert len(plan["trainings"]) == len(report["neurons"]) == len(report["validation"])
    assert plan["trainings"][-1]["pruned_to"] is None
    assert plan["trainings"][-2]["pruned_to"]["size_bytes"] == report["budget"]["size_bytes"]
    assert plan["classes"] == sorted(CLASSES)
    assert plan["images"]["test"] == report["accuracy"]["test"]["images"]
    assert plan["trainings"][0]["neurons_if_even"] == sum(report["neurons"][0].values())
    assert (
        plan["without_adapters"]["size_bytes"] < report["size_bytes"] <= plan["trainings"][-1]["at_most"]["size_bytes"]
    )


def test_plan_counts_decoding_where_every_epoch_needs_it(trained: Trained) -> None:
    once = here("plan", *trained.options, "--json").ended(0).document
    assert (once["decodes_in_epochs"], once["decoded_before"]) == (False, sum(once["images"].values()))
    for options in (("--augment", "original-crop"), ("--images", "files")):
        planned = here("plan", *trained.options, *options, "--json").ended(0).document
        epochs = sum(training["epochs"] for training in planned["trainings"])
        each = 1 / planned["images_per_s"] + 1 / planned["decoded_per_s"]
        before = planned["decoded_before"] / planned["decoded_per_s"]
        assert planned["seconds"] == pytest.approx(
            before + each * epochs * planned["images"]["train"], rel=0.1, abs=0.1
        )
        assert "each image in every epoch" in here("plan", *trained.options, *options).ended(0).out


def test_export_checks_what_it_publishes(trained: Trained, packaged: Packaged) -> None:
    document = packaged.outcome.document
    task = document["tasks"]["pictures"]
    assert task["task_file_bytes"] == Path(task["task_file"]).stat().st_size == trained.task_file.stat().st_size
    assert task["graph_bytes"] == Path(task["graph"]).stat().st_size
    names = ("backbone.onnx", "backbone.weights")
    assert document["backbone_bytes"] == sum((packaged.folder / name).stat().st_size for name in names)
    accuracy = trained.outcome.document["accuracy"]["test"]
    assert task["check"]["accuracy"]["images"] == accuracy["images"]
    assert task["check"]["accuracy"]["accuracy"] == pytest.approx(accuracy["accuracy"])
    assert task["check"]["outputs"]["kind"] == "test split"


def test_profile_measures_bytes_accuracy_and_latency(trained: Trained, packaged: Packaged, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = ("profile", packaged.folder, "--run", trained.run, "--rounds", "3", "--batch", "1,2", "--threads", "1")
    document = here(*command, "--json", "--report", report).ended(0).document
    assert json.loads(report.read_text()) == document
    backbone, task = document["artefacts"]
    assert [(one["name"], one["kind"], one["task"]) for one in document["artefacts"]] == [
        ("backbone", "backbone", None), ("pictures", "task", "pictures")
    ]  # fmt: skip
    expected = trained.outcome.document["accuracy"]["test"]
    assert (task["accuracy"]["split"], task["accuracy"]["images"]) == ("test", expected["images"])
    assert task["accuracy"]["accuracy"] == pytest.approx(expected["accuracy"])
    assert task["preprocessing"]["source"] == "test split"
    assert task["neurons"] == trained.outcome.document["neurons"][-1]
    for one in (backbone, task):
        assert [measured["batch"] for measured in one["measurements"]] == [1, 2]
        assert all(len(measured["latency_ns"]) == 3 for measured in one["measurements"])
        assert one["memory"]["host_bytes"] > 0
        assert one["failure"] is None


def test_profile_closes_with_a_table(trained: Trained, packaged: Packaged) -> None:
    said = here("profile", packaged.folder, "--run", trained.run, "--rounds", "3").ended(0).out
    for words in (
        f"{trained.task_file.stat().st_size:,} bytes",
        f"{packaged.outcome.document['backbone_bytes']:,} bytes",
        "test accuracy, exported graph",
        "p50 / p90 / p99, merged graph",
        "all sites",
    ):
        assert words in said


def test_predict_names_the_class_of_each_image(trained: Trained, packaged: Packaged) -> None:
    images = [trained.data / name / "0.png" for name in CLASSES]
    document = here("predict", packaged.folder, *images, "--json").ended(0).document
    assert [Path(one["path"]) for one in document["predictions"]] == images
    for one in document["predictions"]:
        assert one["label"] in CLASSES
        assert sum(share for _, share in one["top"]) == pytest.approx(1, abs=1e-4)
    assert document["unusable"] == {}


def test_predict_goes_on_without_an_image_that_cannot_be_used(
    trained: Trained, packaged: Packaged, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes((trained.data / "plain" / "0.png").read_bytes()[:100])
    gone = tmp_path / "[gone].png"
    outcome = here("predict", packaged.folder, broken, trained.data / "plain" / "0.png", gone, "--json").ended(1)
    assert len(outcome.document["predictions"]) == 1
    assert set(outcome.document["unusable"]) == {str(broken), str(gone)}
    assert str(gone) in outcome.err
    assert "2 of 3 images" in outcome.err


def test_predict_refuses_a_task_that_the_package_lacks(trained: Trained, packaged: Packaged) -> None:
    said = here("predict", packaged.folder, trained.data / "plain" / "0.png", "--task", "birds").ended(2).err
    assert "birds" in said
    assert "pictures" in said


def test_inspect_shows_task_package_graph_and_run(trained: Trained, packaged: Packaged) -> None:
    task = here("inspect", trained.task_file, "--json").ended(0).document
    assert task["size_bytes"] == trained.task_file.stat().st_size
    assert task["classes"] == sorted(CLASSES)
    neurons = {site: entry["neurons"] for site, entry in task["sites"].items()}
    assert neurons == {site: count for site, count in trained.outcome.document["neurons"][-1].items() if count}
    package = here("inspect", packaged.folder, "--json").ended(0).document
    assert package["tasks"]["pictures"]["task_file_bytes"] == task["size_bytes"]
    graph = here("inspect", packaged.folder / "pictures.onnx", "--json").ended(0).document
    assert graph["task"]["classes"] == task["classes"]
    assert graph["size_bytes"] == (packaged.folder / "pictures.onnx").stat().st_size
    run = here("inspect", trained.run, "--json").ended(0).document
    assert run["finished"]
    assert run["task"]["name"] == "pictures"


@pytest.mark.parametrize("what", ["task", "package", "run", "graph"])
def test_inspect_prints_names_as_they_are(what: str, trained: Trained, packaged: Packaged) -> None:
    places = {
        "task": trained.task_file,
        "package": packaged.folder,
        "run": trained.run,
        "graph": packaged.folder / "pictures.onnx",
    }
    said = here("inspect", places[what]).ended(0).out
    assert "pictures" in said
    if what != "package":
        assert all(name in said for name in CLASSES)


def test_tasks_join_a_package_and_replace_their_namesakes(trained: Trained, packaged: Packaged, tmp_path: Path) -> None:
    package = tmp_path / "package"
    shutil.copytree(packaged.folder, package)
    options = ("--data", trained.data, *SMALL, "--budget-mb")
    here("train", *options, "0.03", "--name", "other", "--run", tmp_path / "other").ended(0)
    here("export", tmp_path / "other", "--output", package).ended(0)
    here("train", *options, "0.02", "--run", tmp_path / "again").ended(0)
    document = here("export", tmp_path / "again", "--output", package, "--json").ended(0).document
    assert set(document["tasks"]) == {"pictures"}
    tasks = here("inspect", package, "--json").ended(0).document["tasks"]
    assert {name: task["task_file_bytes"] <= 30_000 for name, task in tasks.items()} == {
        "other": True,
        "pictures": True,
    }
    assert (package / "pictures.safetensors").read_bytes() == (tmp_path / "again" / "pictures.safetensors").read_bytes()
    predicted = here("predict", package, trained.data / "plain" / "0.png", "--json").ended(0).document["predictions"]
    assert [one["task"] for one in predicted] == ["other", "pictures"]


def test_a_run_is_told_with_the_tasks_on_its_way_and_each_can_be_taken(
    trained: Trained, packaged: Packaged, tmp_path: Path
) -> None:
    rounds = here("inspect", trained.run, "--json").ended(0).document["rounds"]
    assert [one["round"] for one in rounds] == list(range(1, len(rounds) + 1))
    assert len(rounds) > 1
    shown = here("inspect", trained.run).ended(0).out
    assert all(f"{one['size_bytes']:,}" in shown for one in rounds)
    package, first = tmp_path / "package", trained.run / rounds[0]["file"]
    shutil.copytree(packaged.folder, package)
    here("export", first, "--weights", "random", "--output", package, "--json").ended(0)
    assert first.read_bytes() in [path.read_bytes() for path in package.rglob("*.safetensors")]
