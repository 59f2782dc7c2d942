"""Data that torchvision and the hub's library know how to find: with files and answers made here in their place."""

import inspect
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets as torchvision_datasets

from mimi_edge.errors import ConfigError
from mimi_edge.events import Note
from mimi_edge.images.dataset import Dataset, load_dataset, split_document
from mimi_edge.images.limits import learning_from_val
from mimi_edge.images.sources.torchvision_sets import SETS


def shade_of(label: int) -> int:
    """Images here are of one grey that tells their class."""
    return 20 * label + 10


def picture(path: Path, label: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 5), (shade_of(label),) * 3).save(path)


def idx(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes())


def fashion(root: Path) -> None:
    for part, count in (("train", 120), ("t10k", 40)):
        labels = np.arange(count, dtype=np.uint8) % 10
        images = np.repeat([shade_of(label) for label in labels], 28 * 28).astype(np.uint8).reshape(-1, 28, 28)
        idx(root / "FashionMNIST" / "raw" / f"{part}-images-idx3-ubyte", images)
        idx(root / "FashionMNIST" / "raw" / f"{part}-labels-idx1-ubyte", labels)


def textures(root: Path) -> None:
    base = root / "dtd" / "dtd"
    for split in ("train", "val", "test"):
        names = [f"{kind}/{kind}_{split}_{number}.jpg" for kind in ("banded", "dotted") for number in range(3)]
        for name in names:
            picture(base / "images" / name, name.startswith("dotted"))
        (base / "labels").mkdir(exist_ok=True)
        (base / "labels" / f"{split}1.txt").write_text("\n".join(names) + "\n")


def satellite(root: Path) -> None:
    for label, kind in enumerate(("Forest", "River", "SeaLake")):
        for number in range(20):
            picture(root / "eurosat" / "2750" / kind / f"{kind}_{number}.jpg", label)


def signs(root: Path) -> None:
    for label in range(3):
        for number in range(8):
            picture(root / "gtsrb" / "GTSRB" / "Training" / f"{label:05d}" / f"{number:05d}.ppm", label)
    test = root / "gtsrb" / "GTSRB" / "Final_Test" / "Images"
    rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for number in range(6):
        picture(test / f"{number:05d}.ppm", number % 3)
        rows.append(f"{number:05d}.ppm;6;5;0;0;6;5;{number % 3}")
    (root / "gtsrb" / "GT-final_test.csv").write_text("\n".join(rows) + "\n")


def counts(root: Path) -> None:
    import json

    base = root / "clevr" / "CLEVR_v1.0"
    for split in ("train", "val"):
        scenes = []
        for number in range(24):
            name, count = f"CLEVR_{split}_{number:06d}.png", 3 + number % 3
            picture(base / "images" / split / name, count)
            scenes.append({"image_filename": name, "objects": [{}] * count})
        (base / "scenes").mkdir(exist_ok=True)
        (base / "scenes" / f"CLEVR_{split}_scenes.json").write_text(json.dumps({"scenes": scenes}))


@pytest.mark.parametrize(
    ("name", "made", "classes", "labels", "sizes"),
    [
        ("FashionMNIST", fashion, ("T-shirt/top", "Ankle boot"), range(10), (100, 20, 40)),
        ("DTD", textures, ("banded", "dotted"), range(2), (6, 6, 6)),
        ("EuroSAT", satellite, ("Forest", "SeaLake"), range(3), (42, 9, 9)),
        ("GTSRB", signs, ("0", "2"), range(3), (21, 3, 6)),
        ("CLEVRClassification", counts, ("3", "5"), range(3, 6), (21, 3, 24)),
    ],
)
def test_torchvision_s_sets_are_read_as_it_lays_them_out(
    name: str,
    made: Callable[[Path], None],
    classes: tuple[str, str],
    labels: range,
    sizes: tuple[int, int, int],
    tmp_path: Path,
) -> None:
    made(tmp_path)
    dataset = load_dataset(f"torchvision:{name.lower()}", seed=3, root=str(tmp_path))
    assert dataset.name == name
    assert (dataset.classes[0], dataset.classes[-1]) == classes
    assert tuple(len(dataset.splits[split]) for split in ("train", "val", "test")) == sizes
    for split in dataset.splits.values():
        for index in range(len(split)):
            image = split.image(index)
            assert image.mode == "RGB"
            assert abs(int(np.asarray(image).mean()) - shade_of(labels[split.labels[index]])) <= 2
    again = load_dataset(f"torchvision:{name}", seed=99, root=str(tmp_path), split=split_document(dataset))
    assert split_document(again) == split_document(dataset)


def test_every_set_is_asked_for_in_words_that_torchvision_knows() -> None:
    for row in SETS.values():
        signature = inspect.signature(getattr(torchvision_datasets, row.name).__init__)
        for arguments in row.splits.values():
            signature.bind(None, "root", **arguments)
        assert "train" in row.splits


def test_a_set_that_is_not_there_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"is not in .*--download to fetch it, which needs a network, or --data-root"):
        load_dataset("torchvision:CIFAR10", seed=0, root=str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match=r"No data set of torchvision's called 'nothing' .*torchvision:Flowers102"):
        load_dataset("torchvision:nothing", seed=0, root=str(tmp_path))

    class FashionMNIST:
        def __init__(self, root: str, train: bool, download: bool) -> None:
            assert download
            raise URLError("no network")

    monkeypatch.setattr(torchvision_datasets, "FashionMNIST", FashionMNIST)
    with pytest.raises(ConfigError, match="cannot be fetched: no network"):
        load_dataset("torchvision:FashionMNIST", seed=0, root=str(tmp_path), download=True)


def hub(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[tuple[Any, ...]]:
    """A stand-in for what the hub answers; gives what is asked for."""
    import datasets
    import huggingface_hub.constants

    asked = []
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)

    def load(name: str, configuration: str | None, cache_dir: str | None) -> Any:
        offline = datasets.config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE
        asked.append((name, configuration, cache_dir, offline))
        return answer

    monkeypatch.setattr(datasets, "load_dataset", load)
    return asked


def rows(count: int, **columns: Any) -> Any:
    from datasets import Dataset as Rows
    from datasets import Image as ImageFeature

    images = [Image.new("L", (4, 4), shade_of(number % 3)) for number in range(count)]
    return Rows.from_dict({"picture": images, **columns}).cast_column("picture", ImageFeature())


def told(count: int) -> Any:
    from datasets import ClassLabel

    return rows(count, kind=[number % 3 for number in range(count)]).cast_column(
        "kind", ClassLabel(names=["c", "a", "b"])
    )


def test_the_hub_s_sets_are_read_by_the_types_of_their_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = hub(monkeypatch, {"train": told(60), "validation": told(9), "test": told(12), "unsupervised": told(3)})
    dataset = load_dataset("hf:owner/shapes:small", seed=0, download=True)
    assert asked == [("owner/shapes", "small", None, (False, False))]
    assert (dataset.name, dataset.classes) == ("shapes", ("c", "a", "b"))
    assert {name: len(part) for name, part in dataset.splits.items()} == {"train": 60, "val": 9, "test": 12}
    for part in dataset.splits.values():
        for index, label in enumerate(part.labels):
            assert np.asarray(part.image(index)).flat[0] == shade_of(label)


def test_without_a_word_the_hub_is_not_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = hub(monkeypatch, {"train": told(60), "test": told(12)})
    dataset = load_dataset("hf:shapes", seed=0, root=str(tmp_path))
    assert asked == [("shapes", None, str(tmp_path), (True, True))]
    assert {name: len(part) for name, part in dataset.splits.items()} == {"train": 51, "val": 9, "test": 12}
    monkeypatch.undo()
    with pytest.raises(ConfigError, match=r"hf:nobody/nothing is not on this machine \(.*--download"):
        load_dataset("hf:nobody/nothing", seed=0, root=str(tmp_path))


def test_columns_that_are_not_plain_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    two = rows(30, coarse=["xy"[number % 2] for number in range(30)], fine=[f"{number % 3}" for number in range(30)])
    hub(monkeypatch, {"train": two})
    with pytest.raises(ConfigError, match="columns 'picture', 'coarse', 'fine': which of them has classes"):
        load_dataset("hf:two", seed=0)
    dataset = load_dataset("hf:two", seed=0, columns="label=fine")
    assert dataset.classes == ("0", "1", "2")
    with pytest.raises(ConfigError, match="The column 'coarse' of hf:two has no images"):
        load_dataset("hf:two", seed=0, columns="path=coarse,label=fine")
    hub(monkeypatch, {"all": two})
    with pytest.raises(ConfigError, match="no split train; it has 'all'"):
        load_dataset("hf:two", seed=0, columns="label=fine")


def small(monkeypatch: pytest.MonkeyPatch, **asked: Any) -> Dataset:
    kinds = [0] * 80 + [1] * 15 + [2] * 5
    uneven = rows(100, kind=[f"{kind}" for kind in kinds])
    hub(monkeypatch, {"train": uneven, "val": told(30), "test": told(30)} | {"val": uneven, "test": uneven})
    return load_dataset("hf:uneven", seed=0, columns="label=kind", **asked)


def test_fewer_images_keep_each_class_s_share(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []
    dataset = small(monkeypatch, limits={"train": 20, "val": 3}, listener=heard.append)
    assert np.bincount(dataset.splits["train"].labels).tolist() == [16, 3, 1]
    assert np.bincount(dataset.splits["val"].labels).tolist() == [1, 1, 1]
    assert len(dataset.splits["test"]) == 100
    assert Note("20 of 100 train images are used (--train-images).") in heard
    written = split_document(dataset)
    again = small(monkeypatch, limits={"train": 20, "val": 3}, split=written)
    assert split_document(again) == written
    assert split_document(small(monkeypatch, limits={"train": 1000})) == split_document(small(monkeypatch))
    with pytest.raises(ConfigError, match="--train-images 2 has no room for an image of each of the 3 classes"):
        small(monkeypatch, limits={"train": 2})


def test_classes_with_few_images_are_left_out_of_named_data(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = small(monkeypatch, min_images=10)
    assert (dataset.classes, dict(dataset.left_out)) == (("0", "1"), {"2": 5})
    assert {name: len(part) for name, part in dataset.splits.items()} == dict.fromkeys(("train", "val", "test"), 95)
    with pytest.raises(ConfigError, match="fewer than two classes with 50 images"):
        small(monkeypatch, min_images=50)


def test_learning_from_val_adds_its_images_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = small(monkeypatch, limits={"train": 20, "val": 3})
    both = learning_from_val(dataset).splits
    assert both["train"].origins == dataset.splits["train"].origins + dataset.splits["val"].origins
    assert both["train"].labels[20:].tolist() == dataset.splits["val"].labels.tolist()
    assert both["train"].image(21).tobytes() == dataset.splits["val"].image(1).tobytes()
    assert both["val"] is dataset.splits["val"]
