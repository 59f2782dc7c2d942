"""`mimi_edge.train`: what `mimi-edge train` does, as a call."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimi_edge.builtin import DEFAULT_DATA
from mimi_edge.errors import ConfigError
from mimi_edge.events import Listener, silent
from mimi_edge.training.asked_config import asked_config
from mimi_edge.training.claims import claimed_free, claimed_new
from mimi_edge.training.config import PRETRAINED, TrainingConfig
from mimi_edge.training.recipes import QUICK

if TYPE_CHECKING:
    from mimi_edge.training.reports import TrainingReport

RUNS = Path("runs")
_SETTINGS = {field.name for field in fields(TrainingConfig)} - {"budget", "data", "weights", "name"}


def train(
    data: str | Path = DEFAULT_DATA,
    *,
    budget_mb: float | None = None,
    budget_gflops: float | None = None,
    run: str | Path | None = None,
    name: str | None = None,
    weights: str | Path = PRETRAINED,
    recipe: str = QUICK,
    threads: int | None = None,
    listener: Listener = silent,
    **settings: Any,
) -> TrainingReport:
    """Trains a task down to a budget; `mimi_edge.training.runs.resume_training` goes on with an interrupted run.

    Args:
        data: a folder with a folder of images per class, optionally under train/, val/ and test/; or a built-in set.
        budget_mb: largest size of the task file, in MB of 1000^2 bytes.
        budget_gflops: most operations of a forward pass, in GFLOPs of 1000^3.
        run: folder of the run; `runs/NAME`, or the first that is free, if None.
        name: of the task; that of the data if None.
        weights: of the backbone: `pretrained`, a .safetensors file, or `random`.
        recipe: `quick` or `paper`; it decides what nobody gives of the settings that it names.
        threads: of torch on a CPU.
        listener: hears how far it is.
        settings: everything else in a `mimi_edge.training.config.TrainingConfig`, such as `backbone` and `epochs`.

    Raises:
        BudgetInfeasibleError: the budget cannot be met; nothing was trained.
        ConfigError: options or data cannot be used, or the folder holds a run.
    """
    if unknown := sorted(settings.keys() - _SETTINGS):
        raise ConfigError(
            f"train() knows no {', '.join(unknown)}; beside its own arguments it takes {', '.join(sorted(_SETTINGS))}."
        )
    config = asked_config(
        data=str(data),
        budget_mb=budget_mb,
        budget_gflops=budget_gflops,
        weights=str(weights),
        name=name,
        recipe=recipe,
        **settings,
    )
    # Claimed before torch is loaded: another process may be looking for a folder.
    claiming = claimed_free(RUNS / config.name) if run is None else claimed_new(Path(run))
    with claiming as claim:
        from mimi_edge.training.devices import use_threads
        from mimi_edge.training.runs import train_claimed

        use_threads(threads)
        return train_claimed(config, claim, listener=listener)
