"""An image file becomes the same array wherever it is used, and the one that torchvision and timm would make of it."""

from __future__ import annotations

import io
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from mimi_edge.images.dataset import decode_split
from mimi_edge.images.preprocessing import INTERPOLATIONS, Preprocessing, fit, normalise
from mimi_edge.images.read_image import read_rgb
from mimi_edge.images.sources.folder import FileImages
from mimi_edge.images.splits import Split
from mimi_edge.tasks.stores import Floats

torch = pytest.importorskip("torch")
v2 = pytest.importorskip("torchvision.transforms.v2")

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GREY_LEVEL = 1
CONTENTS = ("noise", "edges", "gradient", "photo")
ROUNDING = 4e-6
"""Of normalised values, which are below 3: what the order of two operations in fp32 can make. A grey level is 0.017."""


def pixels(content: str, width: int, height: int, seed: int) -> NDArray[np.uint8]:
    """An image of some character; edges of full contrast are where filters overshoot."""
    random = np.random.default_rng(seed)
    down, across = np.mgrid[:height, :width]
    if content == "gradient":
        grey = 255 * (down + across) / max(1, width + height - 2)
        return np.stack([grey, 255 - grey, grey], -1).astype(np.uint8)
    if content == "photo":
        coarse = random.integers(0, 256, (max(1, height // 8), max(1, width // 8), 3), np.uint8)
        return np.asarray(Image.fromarray(coarse).resize((width, height)))
    values = random.integers(0, 2 if content == "edges" else 256, (height, width, 3))
    return (values * (255 if content == "edges" else 1)).astype(np.uint8)


def furthest(one: NDArray[np.uint8], other: object) -> int:
    """Most grey levels that two images differ by."""
    expected = np.asarray(other)
    assert one.shape == expected.shape
    return int(np.abs(one.astype(int) - expected).max())


@pytest.mark.filterwarnings("ignore:Anti-alias option is always applied")
@given(
    content=st.sampled_from(CONTENTS),
    width=st.integers(1, 160),
    height=st.integers(1, 160),
    size=st.integers(1, 64),
    margin=st.integers(0, 24),
    interpolation=st.sampled_from(INTERPOLATIONS),
    antialias=st.sampled_from([True, False, None]),
)
def test_images_are_those_of_torchvision_to_a_grey_level(
    content: str, width: int, height: int, size: int, margin: int, interpolation: str, antialias: bool | None
) -> None:
    image = Image.fromarray(pixels(content, width, height, seed=width * 1000 + height))
    mode = v2.functional.InterpolationMode[interpolation.upper()]
    theirs = v2.Compose([v2.Resize(size + margin, interpolation=mode, antialias=antialias), v2.CenterCrop(size)])
    fitted = fit(image, Preprocessing(size, size + margin, interpolation, MEAN, STD))
    assert furthest(fitted, theirs(image)) <= GREY_LEVEL


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (1080, 2340), (224, 224), (223, 97), (6, 653)])
def test_real_sizes_are_those_of_torchvision_to_a_grey_level(width: int, height: int, interpolation: str) -> None:
    image = Image.fromarray(pixels("edges", width, height, seed=1))
    mode = v2.functional.InterpolationMode[interpolation.upper()]
    theirs = v2.Compose([v2.Resize(256, interpolation=mode, antialias=True), v2.CenterCrop(224)])
    assert furthest(fit(image, Preprocessing(224, 256, interpolation, MEAN, STD)), theirs(image)) <= GREY_LEVEL


@pytest.mark.parametrize("crop_pct", [0.875, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_a_backbones_settings_are_read_as_timm_reads_them(crop_pct: float, interpolation: str) -> None:
    """From the model's configuration to the network's input, both ways."""
    data = pytest.importorskip("timm.data")
    from timm import create_model

    from mimi_edge.training.backbones import described

    module = create_model("vit_tiny_patch16_224", img_size=48, depth=1, embed_dim=12, num_heads=1, num_classes=0)
    settings = {"input_size": (3, 48, 48), "crop_pct": crop_pct, "interpolation": interpolation}
    module.pretrained_cfg |= settings | {"mean": MEAN, "std": STD}
    module.eval().requires_grad_(False)
    preprocessing = described(module, "tiny").preprocessing
    transform = data.create_transform(**data.resolve_model_data_config(module), is_training=False)
    image = Image.fromarray(pixels("photo", 133, 97, seed=2))
    ours = normalise(fit(image, preprocessing)[None], preprocessing)[0]
    assert np.abs(ours - transform(image).numpy()).max() <= GREY_LEVEL / 255 / min(STD)


def write_images(folder: Path) -> tuple[Path, ...]:
    """What a camera and a screen make: turned by EXIF, with alpha, grey, and of several sizes."""
    turned = Image.Exif()
    turned[0x0112] = 6
    colour = Image.fromarray(pixels("photo", 90, 61, seed=3))
    seen = Image.fromarray(np.dstack([pixels("noise", 40, 57, seed=4), pixels("noise", 40, 57, seed=5)[..., :1]]))
    colour.save(folder / "0.jpg", exif=turned)
    seen.save(folder / "1.png")
    colour.convert("L").save(folder / "2.png")
    Image.fromarray(pixels("edges", 200, 33, seed=6)).save(folder / "3.bmp")
    return tuple(folder / name for name in ("0.jpg", "1.png", "2.png", "3.bmp"))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, ...]:
    return write_images(tmp_path)


SETTING = Preprocessing(32, 36, "bicubic", MEAN, STD)


def split_of(files: tuple[Path, ...]) -> Split:
    origins = tuple(path.name for path in files)
    return Split("test", ("a", "b"), np.arange(len(files)) % 2, origins, FileImages(files))


def in_training(files: tuple[Path, ...]) -> Floats:
    """What the backbone sees while it is trained and measured there."""
    from mimi_edge.training.batches import on_device

    images = on_device(decode_split(split_of(files), SETTING), SETTING, torch.device("cpu"))
    seen: Floats = images.normalised(images.images).numpy()
    return seen


def in_prediction(files: tuple[Path, ...]) -> Floats:
    """What a runtime gets from `predict`, three files at a time."""
    from mimi_edge.export.prediction import predictions
    from mimi_edge.export.serving.served import ServedTask, Serving

    seen: list[Floats] = []
    task = ServedTask("task", ("a", "b"), SETTING, lambda images: seen.append(images) or np.zeros((len(images), 2)))
    assert len(list(predictions(Serving(("task",), lambda: iter([task])), files, batch=3))) == len(files)
    return np.concatenate(seen)


def in_profiling(files: tuple[Path, ...]) -> Floats:
    """What the artefact under measurement gets, in its process; only the pipe between the two is left out."""
    from mimi_edge.profiles.accuracy import answered_classes
    from mimi_edge.profiles.worker import Worker

    seen: list[Floats] = []
    with ExitStack() as stack:
        worker = Worker(stack, lambda images: seen.append(images) or np.zeros((len(images), 2), np.float32))

        class Crew:
            def ask(self, _name: str, _stage: str, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
                return worker.classify(json.loads(json.dumps(request)), io.BytesIO(payload))

        answered_classes(Crew(), "task", decode_split(split_of(files), SETTING), SETTING, batch=3)  # type: ignore[arg-type]
    return np.concatenate(seen)


def test_training_prediction_and_profiling_see_the_same(files: tuple[Path, ...]) -> None:
    expected = np.stack([normalise(fit(read_rgb(path), SETTING)[None], SETTING)[0] for path in files])
    np.testing.assert_array_equal(in_prediction(files), expected)
    np.testing.assert_array_equal(in_profiling(files), expected)
    np.testing.assert_allclose(in_training(files), expected, rtol=0, atol=ROUNDING)
    assert len({array.tobytes() for array in expected}) == len(files)


@given(st.integers(0, 2**31), st.sampled_from([(MEAN, STD), ((0.5,) * 3, (0.5,) * 3), ((0.0,) * 3, (1.0,) * 3)]))
def test_torch_normalises_as_numpy_does(seed: int, channels: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
    from mimi_edge.images.decode import LabelledImages
    from mimi_edge.training.batches import on_device

    setting = Preprocessing(16, 16, "bicubic", *channels)  # type: ignore[arg-type]
    images = np.stack([pixels("noise", 16, 16, seed), np.arange(768, dtype=np.uint8).reshape(16, 16, 3)])
    placed = on_device(LabelledImages(images, np.zeros(2, np.int64), ()), setting, torch.device("cpu"))
    np.testing.assert_allclose(
        placed.normalised(placed.images).numpy(), normalise(images, setting), rtol=0, atol=ROUNDING
    )
