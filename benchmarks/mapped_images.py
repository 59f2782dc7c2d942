"""Peak memory of decoding made-up images into memory and into a file, and of an epoch of batches from them.

python benchmarks/mapped_images.py --images 4000
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from mimi_edge.images.dataset import Split, decode_split
from mimi_edge.images.mapped import entry_of
from mimi_edge.images.preprocessing import Preprocessing

SIDE, BATCH = 224, 64
HALF = (0.5, 0.5, 0.5)


def main() -> None:
    """Measures each way in a process of its own, and prints."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--images", type=int, default=4000)
    arguments.add_argument("--one", choices=("memory", "mapped"), help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.one:
        measure(given.one, given.images)
        return
    print(f"{given.images} images of {SIDE} x {SIDE}: {given.images * 3 * SIDE**2 / 1e6:.0f} MB decoded")
    print("| kept in | decoding, own MB | decoding, MB in all | an epoch, own MB | an epoch, MB in all | seconds |")
    print("|---|---:|---:|---:|---:|---:|", flush=True)
    for kind in ("memory", "mapped"):
        subprocess.run([sys.executable, __file__, "--images", str(given.images), "--one", kind], check=True)


def measure(kind: str, count: int) -> None:
    """One row; in a process of its own, because a peak never goes down."""
    preprocessing = Preprocessing(SIDE, SIDE, "bilinear", HALF, HALF)
    split = Split("train", ("a", "b"), np.arange(count) % 2, tuple(map(str, range(count))), made_up)
    with tempfile.TemporaryDirectory() as folder:
        entry = entry_of(split, preprocessing, Path(folder)) if kind == "mapped" else None
        before, started = megabytes("RssAnon"), time.perf_counter()
        decoded = decode_split(split, preprocessing, entry=entry)
        seconds = time.perf_counter() - started
        own, peak = megabytes("RssAnon") - before, megabytes("VmHWM")
        for first in range(0, count, BATCH):
            decoded.images[first : first + BATCH].sum()
        epoch = megabytes("RssAnon") - before
        print(
            f"| {kind} | {own:.0f} | {peak:.0f} | {epoch:.0f} | {megabytes('VmHWM'):.0f} | {seconds:.1f} |", flush=True
        )


def made_up(index: int) -> Image.Image:
    """Noise, another for each."""
    values = np.random.default_rng(index).integers(0, 256, (64, 64, 3), np.uint8)
    return Image.fromarray(values)


def megabytes(entry: str) -> float:
    """What Linux says of this process: `RssAnon`, memory of its own now; `VmHWM`, the most with pages of files."""
    status = Path(f"/proc/{os.getpid()}/status").read_text("ascii")
    return int(next(line for line in status.splitlines() if line.startswith(entry)).split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    main()
