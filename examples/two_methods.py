"""Two methods under the same budget, with the same number of passes over the images.

    python examples/two_methods.py --epochs 1 --folder work

`mimi-edge compare` does this for all methods, seeds and learning rates, and draws the picture.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mimi_edge import train

BUDGET_MB = 0.1


def main(data: str, epochs: int, folder: Path) -> None:
    """Trains MiMi, then LoRA of the largest rank that fits, for as long as MiMi took."""
    mimi = train(data, backbone="builtin", budget_mb=BUDGET_MB, epochs=epochs, method="mimi", run=folder / "mimi")
    passes = epochs * len(mimi.validation)  # one training more than there were prunings
    lora = train(data, backbone="builtin", budget_mb=BUDGET_MB, epochs=passes, method="lora", run=folder / "lora")
    print("method   bytes   passes   test accuracy")
    for name, report in (("mimi", mimi), ("lora", lora)):
        print(f"{name} {report.cost.size_bytes:>9,} {passes:>8} {report.accuracy['test'].accuracy:>15.2%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="builtin:digits", help="or a folder with a folder of images for each digit")
    parser.add_argument("--epochs", type=int, default=1, help="of each of MiMi's trainings")
    parser.add_argument("--folder", type=Path, default=Path("example"), help="new folder for the two runs")
    main(**vars(parser.parse_args()))
