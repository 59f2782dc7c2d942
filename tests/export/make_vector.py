"""Makes docs/test-vector/: a package of a few kilobytes, a photograph, and what must come out; run by hand.

python tests/export/make_vector.py docs/test-vector
"""

import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from mimi_edge.export.answers import softmax
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.images.preprocessing import Preprocessing, fit, normalise
from mimi_edge.images.read_image import read_rgb
from mimi_edge.sites import Site

SIZE, RESIZE = 8, 10
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PHOTO = "photo.png"


def make(folder: Path) -> None:
    """Fills the folder; the same libraries give the same bytes."""
    # Last on the path, and late: beside this package lie folders that are called like our own.
    sys.path.append(str(Path(__file__).parents[1]))
    import tiny_package

    tiny_package.SIZE = SIZE
    tiny_package.SITES = tuple(Site(site.name, site.width, SIZE * SIZE) for site in tiny_package.SITES)
    tiny_package.PREPROCESSING = Preprocessing(SIZE, RESIZE, "bicubic", MEAN, STD)
    with tempfile.TemporaryDirectory() as name:
        package = tiny_package.make_package(Path(name), {"sample": (2, 0, 3)})
        shutil.copytree(package.folder, folder / "package")
    _photo().save(folder / PHOTO)
    (folder / "expected.json").write_text(json.dumps(expected(folder), indent=1) + "\n", "utf-8")


def _photo() -> Image.Image:
    """60 x 45 pixels of slopes under noise: what shrinking does to noise is where resizers differ."""
    across, down = np.meshgrid(np.linspace(0, 255, 60), np.linspace(0, 255, 45))
    slopes = np.stack([across, down, 255 - across], axis=-1)
    noise = np.random.default_rng(11).integers(-90, 91, slopes.shape)
    return Image.fromarray(np.clip(slopes + noise, 0, 255).astype(np.uint8))


def expected(folder: Path) -> dict:
    """What our own code makes of the photograph."""
    model = open_graph(folder / "package" / "sample.onnx")
    pixels = fit(read_rgb(folder / PHOTO), model.info.preprocessing)
    tensor = normalise(pixels[None], model.info.preprocessing)
    logits = model.run(tensor)
    return {
        "pixels": pixels.tolist(),
        "tensor": {
            "shape": list(tensor.shape),
            "sha256": hashlib.sha256(tensor.astype("<f4").tobytes()).hexdigest(),
            "first": tensor.ravel()[:8].tolist(),
        },
        "logits": logits[0].tolist(),
        "probabilities": softmax(logits)[0].tolist(),
    }


if __name__ == "__main__":
    make(Path(sys.argv[1]))
