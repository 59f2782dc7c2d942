"""What `predict` costs beside the runtime: 500 image files through our stream, over a plain loop with the same graph.

The plain loop is what one would write: Pillow opens, resizes and crops, numpy normalises and stacks, ONNX Runtime runs
a batch, one after the other in one thread. Ours reads the same files with all its checks, ahead of the runtime. Both
open the graph, answer all files with the same batch, and give a class for each; that these agree is made sure of first.
Images are JPEG files of 640 x 480 with smooth random content.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from common import Row, compared, parser, show
from graphs import exported, with_task
from PIL import Image

from mimi_edge.choices import Backend
from mimi_edge.errors import ExportMismatchError
from mimi_edge.export.packages import create_or_extend
from mimi_edge.export.prediction import predictions
from mimi_edge.export.serving.find import serving
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.profiles.environment import current_environment
from mimi_edge.profiles.latency import WarmUp, measure
from mimi_edge.runtimes import PROVIDERS

BACKBONES = {"built-in": "builtin", "Swin-T": "swin_tiny_patch4_window7_224"}
WIDTH, HEIGHT = 640, 480


def main() -> None:
    """Measures and prints."""
    options = read_options()
    environment = current_environment(threads=options.threads, providers=PROVIDERS[Backend.ORT_CPU])
    with tempfile.TemporaryDirectory() as name:
        pictures = made_up(Path(name), options.images, options.seed)
        rows = [row for label in options.backbone or BACKBONES for row in compare(label, pictures, options)]
    show(rows, environment, as_json=options.json)


def read_options() -> argparse.Namespace:
    """The command line."""
    options = parser(__doc__, rounds=5)
    options.add_argument("--backbone", choices=BACKBONES, action="append", help="one of the two only")
    options.add_argument("--images", type=int, default=500, help="(default %(default)s)")
    options.add_argument("--batch", type=int, default=16, help="(default %(default)s)")
    options.add_argument("--threads", type=int, help="of ONNX Runtime (default: it chooses)")
    options.add_argument(
        "--cpu-time",
        action="store_true",
        help="count processor time: where others share the machine, more threads get more",
    )
    return options.parse_args()


def made_up(folder: Path, count: int, seed: int) -> list[Path]:
    """Writes so many photographs of nothing."""
    random = np.random.default_rng(seed)
    paths = [folder / f"{index:04}.jpg" for index in range(count)]
    for path in paths:
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8))
        coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(path, quality=90)
    return paths


def compare(label: str, pictures: Sequence[Path], options: argparse.Namespace) -> Iterator[Row]:
    """Our stream and the plain loop on one package."""
    with tempfile.TemporaryDirectory() as name:
        backbone = exported(BACKBONES[label], Path(name), options.seed)
        task, _ = with_task(backbone, options.seed)
        package = create_or_extend(Path(name, "package"), backbone.folder, [backbone.folder / "random.safetensors"])
        graph, preprocessing = package.task("random").graph, task.header.preprocessing
        ours, plain = f"{label}: predict", f"{label}: plain loop"
        runnables = {
            ours: partial(answered, package.folder, pictures, options),
            plain: partial(answered_plainly, graph, preprocessing, pictures, options),
        }
        print(f"{label}, {len(pictures)} images", file=sys.stderr)
        labels = [list(run()) for run in runnables.values()]
        if labels[0] != [task.header.classes[index] for index in labels[1]]:
            raise ExportMismatchError("The plain loop and predict answer with different classes.")
        warm_up = WarmUp(most_rounds=0)  # Both have run once, to be compared.
        clock = time.process_time_ns if options.cpu_time else time.perf_counter_ns
        samples = measure(runnables, rounds=options.rounds, seed=options.seed, warm_up=warm_up, clock=clock)
        yield compared(ours, plain, samples, f"{len(pictures)} images, batch {options.batch}")


def answered(package: Path, pictures: Sequence[Path], options: argparse.Namespace) -> list[str]:
    """The classes that we give."""
    found = serving(package, threads=options.threads)
    return [one.label for one in predictions(found, pictures, batch=options.batch)]


def answered_plainly(
    graph: Path, preprocessing: Preprocessing, pictures: Sequence[Path], options: argparse.Namespace
) -> list[int]:
    """Indices of the classes that a plain loop gives."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    if options.threads is not None:
        settings.intra_op_num_threads = options.threads
    session = onnxruntime.InferenceSession(str(graph), settings, providers=["CPUExecutionProvider"])
    mean, std = (np.array(values, np.float32) for values in (preprocessing.mean, preprocessing.std))
    best: list[int] = []
    for start in range(0, len(pictures), options.batch):
        batch = []
        for path in pictures[start : start + options.batch]:
            pixels = np.asarray(cut(Image.open(path).convert("RGB"), preprocessing), np.float32) / 255
            batch.append(((pixels - mean) / std).transpose(2, 0, 1))
        (logits,) = session.run(None, {"images": np.ascontiguousarray(np.stack(batch))})
        best += logits.argmax(axis=1).tolist()
    return best


def cut(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """The shorter side made as long as it should be, and the middle of that; the benchmark's images are squares."""
    size, resize = preprocessing.size.height, preprocessing.resize.height
    scale = resize / min(image.size)
    width, height = int(image.width * scale), int(image.height * scale)
    resized = image.resize((width, height), Image.Resampling[preprocessing.interpolation.upper()])
    left, top = round((width - size) / 2), round((height - size) / 2)
    return resized.crop((left, top, left + size, top + size))


if __name__ == "__main__":
    main()
