"""A method of one's own, which is a description: what is stored, and what it does to the frozen network.

    python examples/own_method.py --epochs 3 --folder work

This one trains the scales and shifts of all normalisations and nothing else. Training, budget, task file, export and
prediction need to know no more than that; a process that opens its tasks adds the method first, as this one does.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mimi_edge import export, train
from mimi_edge.methods.catalogue import add_method
from mimi_edge.methods.description import Description, StoredTensor
from mimi_edge.methods.edits import Replace
from mimi_edge.methods.method import Method, NoSettings
from mimi_edge.methods.network import Network
from mimi_edge.methods.weights import Frozen, Stored


def describe(network: Network, _: NoSettings) -> Description:
    """Every parameter of a normalisation begins as it is, and becomes what the task stores."""
    named = {name: shape for name, shape in network.parameters.items() if "norm" in name}
    tensors = tuple(StoredTensor(name, shape, first=Frozen(name)) for name, shape in named.items())
    return Description(tensors, axes=(), edits=tuple(Replace(name, Stored(name)) for name in named))


def main(data: str, epochs: int, folder: Path) -> None:
    """Trains a task by this method and merges it."""
    add_method(Method("norms", "normalisations", "this file", describe))
    report = train(
        data, backbone="builtin", budget_mb=0.5, epochs=epochs, method="norms", name="digits", run=folder / "digits"
    )
    print(f"trained: {report.cost.size_bytes:,} bytes, test accuracy {report.accuracy['test'].accuracy:.2%}")
    package = export(folder / "digits", folder / "package")
    print(f"merged: {package.task('digits').graph}, which answers like what was trained")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="builtin:digits", help="or a folder with a folder of images for each digit")
    parser.add_argument("--epochs", type=int, default=3, help="of the training")
    parser.add_argument("--folder", type=Path, default=Path("example"), help="new folder for the run and the package")
    main(**vars(parser.parse_args()))
