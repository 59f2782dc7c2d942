"""What people ask for when they train, as the configuration of a run: units, absolute paths, a name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mimi_edge.budgets import Budget, budget_from_units
from mimi_edge.builtin import BACKBONE_NAME, DEFAULT_DATA
from mimi_edge.errors import ConfigError
from mimi_edge.images.sources.names import TABLES, bare_name, is_named, require_known
from mimi_edge.training.backbone_choice import chosen_backbone
from mimi_edge.training.config import PRETRAINED, RANDOM, TrainingConfig
from mimi_edge.training.mimi_plus import as_mimi
from mimi_edge.training.recipes import QUICK, with_recipe

FAULT = "  - "
"""What stands before each of several faults in a message."""


def asked_config(
    *,
    data: str = DEFAULT_DATA,
    budget_mb: float | None = None,
    budget_gflops: float | None = None,
    backbone: str | None = None,
    weights: str = PRETRAINED,
    name: str | None = None,
    target_accuracy: float | None = None,
    data_root: str = "",
    recipe: str = QUICK,
    **settings: Any,
) -> TrainingConfig:
    """The configuration of a run.

    Args:
        data: a folder, or one of the built-in data sets.
        budget_mb: largest size of the task file, in MB of 1000^2 bytes.
        budget_gflops: most operations of a forward pass, in GFLOPs of 1000^3.
        backbone: as of `chosen_backbone`; None where nobody named one.
        weights: of the backbone.
        name: of the task; that of the data if None.
        target_accuracy: that ends the run instead of a budget, or as well as one.
        data_root: folder of named data; as of `TrainingConfig`.
        recipe: that decides the entries of its own which are None, or missing, in settings.
        settings: everything else in a `TrainingConfig`.

    Raises:
        ConfigError: something does not make sense, or a backbone must be named.
    """
    none = budget_mb is None and budget_gflops is None
    errors: list[ConfigError] = []
    budget, chosen = Budget() if none and target_accuracy is not None else None, BACKBONE_NAME
    try:
        budget = budget or budget_from_units(budget_mb, budget_gflops)
    except ConfigError as error:
        errors.append(error)
    try:
        chosen = chosen_backbone(backbone, data, weights)
    except ConfigError as error:
        errors.append(error)
    try:
        config = TrainingConfig(
            budget=budget or Budget(size_bytes=1),
            data=data_wherever(data),
            backbone=chosen,
            weights=weights if weights in (PRETRAINED, RANDOM) else absolute(weights),
            name=name or default_name(data),
            target_accuracy=target_accuracy,
            data_root=absolute(data_root) if data_root else "",
            **with_recipe(recipe, as_mimi(settings)),
        )
    except ConfigError as error:
        errors.append(error)
    if errors:
        raise together(errors)
    return config


def together(errors: Sequence[ConfigError]) -> ConfigError:
    """One error that says what all of them say; one of a list has each of its faults in a line of its own."""
    if len(errors) == 1:
        return errors[0]
    said = [line for error in errors for line in faults_said(error)]
    return ConfigError("These options do not make sense:\n" + "\n".join(f"{FAULT}{one}" for one in said))


def faults_said(error: ConfigError) -> list[str]:
    """What an error lists, or all that it says, a line each."""
    listed = [line.removeprefix(FAULT) for line in str(error).splitlines() if line.startswith(FAULT)]
    return listed or [" ".join(str(error).split())]


def absolute(path: str) -> str:
    """The same path from wherever the run is gone on with later."""
    return str(Path(path).expanduser().absolute())


def data_wherever(data: str) -> str:
    """What names the data from wherever the run is gone on with later: its name, or its path.

    Raises:
        ConfigError: it is written like a name, and there is none such.
    """
    require_known(data)
    return data if is_named(data) else absolute(data)


def default_name(data: str) -> str:
    """What a task is called after its data: a folder's name, a table's without its ending, or that of named data."""
    if is_named(data):
        return bare_name(data).rpartition("/")[2]
    path = Path(data).expanduser().resolve()
    return (path.stem if path.suffix.lower() in TABLES else path.name) or "task"
