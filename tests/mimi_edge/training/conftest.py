"""What the tests of training share: one thread, tiny backbones, one folder of images, one finished run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from blank_pictures import draw_blank
from training_samples import FAMILIES, small_config, tiny_backbone, tiny_runs, write_image_folder

from mimi_edge.training.backbones import LoadedBackbone
from mimi_edge.training.runs import TrainingReport, run_training


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _tiny_runs() -> Iterator[None]:
    with tiny_runs():
        yield


@pytest.fixture(scope="session", params=sorted(FAMILIES))
def backbone(request: pytest.FixtureRequest) -> LoadedBackbone:
    """Of every family in turn; tests take their hooks off again."""
    return tiny_backbone(request.param)


@pytest.fixture(scope="session")
def vit() -> LoadedBackbone:
    return tiny_backbone("vit")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train/, val/ and test/, two classes in each."""
    return write_image_folder(tmp_path_factory.mktemp("pictures"), {"train": 16, "val": 6, "test": 9})


@pytest.fixture(scope="session")
def finished(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingReport:
    """A run that nobody interrupted."""
    return run_training(small_config(pictures), tmp_path_factory.mktemp("run") / "finished")


@pytest.fixture(autouse=True)
def _blank_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    draw_blank(monkeypatch)
