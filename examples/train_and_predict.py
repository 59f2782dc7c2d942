"""A task is trained under a budget, merged into a graph, and asked about images that it never saw.

    python examples/train_and_predict.py --epochs 1 --folder work

It runs on the built-in digits; where the images are one's own, their files are what the predictor is asked about.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from mimi_edge import Predictor, export, train
from mimi_edge.builtin.data import load_builtin


def main(data: str, epochs: int, folder: Path) -> None:
    """Trains, merges, predicts."""
    report = train(data, backbone="builtin", budget_mb=0.5, epochs=epochs, name="digits", run=folder / "digits")
    print(f"trained: {report.cost.size_bytes:,} bytes, test accuracy {report.accuracy['test'].accuracy:.2%}")

    export(folder / "digits", folder / "package")  # merges the task, and checks the graph against what was trained

    unseen = load_builtin("digits")["test"]
    with Predictor(folder / "package") as predictor:  # needs no torch from here on
        answers = predictor([Image.fromarray(image) for image in unseen.images])
    right = sum(answer.label == str(label) for answer, label in zip(answers, unseen.labels, strict=True))
    print(f"predicted: {right} of {len(answers)} right; the first is a {answers[0].label}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="builtin:digits", help="or a folder with a folder of images for each digit")
    parser.add_argument("--epochs", type=int, default=1, help="of each training; MiMi trains once more than it prunes")
    parser.add_argument("--folder", type=Path, default=Path("example"), help="new folder for the run and the package")
    main(**vars(parser.parse_args()))
