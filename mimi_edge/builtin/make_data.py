"""Makes the built-in data sets from their sources: `python -m mimi_edge.builtin.make_data --out DIR`.

Digits come from scikit-learn (`pip install scikit-learn`), Fashion-MNIST from Debian's and Ubuntu's package
dataset-fashion-mnist (`apt install dataset-fashion-mnist`), or from any folder with its four idx files.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mimi_edge.errors import ConfigError
from mimi_edge.files import write_whole

SEED = 0
DIGIT_SHARES = {"val": 0.2, "test": 0.2}
"""Of the 1797 digits; the rest trains."""
FASHION_COUNTS = {"train": 3000, "val": 1000, "test": 2000}
FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time a zip file can state; all members have it, so that the same arrays give the same bytes."""

Bytes = NDArray[np.uint8]
Indices = NDArray[np.int64]


def chosen(labels: Bytes, counts: Mapping[str, int], seed: int = SEED) -> dict[str, Indices]:
    """Draws images for splits, class by class, in an order of hashes that depends on nothing but the seed.

    Args:
        labels: [n] of all images.
        counts: images wanted for each split; they are spread evenly over the classes, the first ones get one more
            where that does not come out even.
        seed: another one draws others.

    Returns:
        Indices of each split, ascending; no index is in two splits.
    """
    queues = {label: _drawn(np.flatnonzero(labels == label), seed) for label in np.unique(labels).tolist()}
    parts = {}
    for split, count in counts.items():
        each, over = divmod(count, len(queues))
        taken: list[int] = []
        for place, label in enumerate(queues):
            quota = each + (place < over)
            taken += queues[label][:quota]
            queues[label] = queues[label][quota:]
        parts[split] = np.array(sorted(taken), np.int64)
    return parts


def digits() -> dict[str, Bytes]:
    """The arrays of digits.npz: all 1797 images, 8 x 8, values 0..16.

    Raises:
        ConfigError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped]
    except ImportError as error:
        raise ConfigError("The digits come with scikit-learn. Install it: pip install scikit-learn") from error
    source = load_digits()
    images, labels = source.images.astype(np.uint8), source.target.astype(np.uint8)
    return _arrays(images, labels, digit_indices(labels))


def digit_indices(labels: Bytes) -> dict[str, Indices]:
    """Indices of each split, about 60, 20 and 20 percent of each class."""
    counts = {split: round(len(labels) * share) for split, share in DIGIT_SHARES.items()}
    held_out = chosen(labels, counts)
    rest = np.setdiff1d(np.arange(len(labels)), np.concatenate(list(held_out.values())))
    return {"train": rest, **held_out}


def fashion(folder: Path = FASHION_FOLDER) -> dict[str, Bytes]:
    """The arrays of fashion.npz: 28 x 28; train and val from the source's training file, test from its test file.

    Raises:
        ConfigError: the source's files are not in the folder.
    """
    labels = read_idx(folder / "train-labels-idx1-ubyte.gz")
    images = read_idx(folder / "train-images-idx3-ubyte.gz")
    test_labels = read_idx(folder / "t10k-labels-idx1-ubyte.gz")
    test_images = read_idx(folder / "t10k-images-idx3-ubyte.gz")
    learnt = {split: count for split, count in FASHION_COUNTS.items() if split != "test"}
    return _arrays(images, labels, chosen(labels, learnt)) | _arrays(
        test_images, test_labels, chosen(test_labels, {"test": FASHION_COUNTS["test"]})
    )


def read_idx(path: Path) -> Bytes:
    """Reads a gzipped idx file of bytes: magic number, sizes as big-endian 32-bit numbers, values.

    Raises:
        ConfigError: the file is missing or is not of this format.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"Cannot read {path} ({error}). Get the files of Fashion-MNIST with apt install dataset-fashion-mnist, "
            "or name the folder that has them: --fashion DIR"
        ) from error
    if content[:3] != b"\x00\x00\x08":
        raise ConfigError(f"{path} is not an idx file of bytes. Get an unaltered copy.")
    start = 4 + 4 * content[3]
    shape = np.frombuffer(content[4:start], ">u4").astype(int)
    return np.frombuffer(content[start:], np.uint8).reshape(shape)


def npz_bytes(arrays: Mapping[str, Bytes]) -> bytes:
    """An .npz file that is the same whenever it is made, by the same zlib, of the same arrays."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, values in arrays.items():
            member = io.BytesIO()
            np.save(member, np.ascontiguousarray(values), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", EPOCH)
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, member.getvalue(), zipfile.ZIP_DEFLATED, 9)
    return whole.getvalue()


def main() -> None:
    """Writes digits.npz and fashion.npz."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--fashion", type=Path, default=FASHION_FOLDER, help="folder of Fashion-MNIST's idx files")
    options = parser.parse_args()
    try:
        made = {"digits.npz": npz_bytes(digits()), "fashion.npz": npz_bytes(fashion(options.fashion))}
    except ConfigError as error:
        parser.exit(error.exit_code, f"{error}\n")
    for name, content in made.items():
        write_whole(options.out / name, content)
        sys.stdout.write(f"{name}: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}\n")


def _drawn(indices: Indices, seed: int) -> list[int]:
    return sorted(indices.tolist(), key=lambda index: hashlib.sha256(f"{seed}/{index}".encode()).digest())


def _arrays(images: Bytes, labels: Bytes, indices: Mapping[str, Indices]) -> dict[str, Bytes]:
    arrays = {}
    for split, part in indices.items():
        arrays[f"{split}_images"] = images[part]
        arrays[f"{split}_labels"] = labels[part]
    return arrays


if __name__ == "__main__":
    main()
