"""A configuration in the words of the command line: what `--config` of another run takes."""

from __future__ import annotations

import math
from typing import Any

from mimi_edge.budgets import GIGA, whole_units
from mimi_edge.files import MEGABYTE
from mimi_edge.training.config import TrainingConfig, config_document
from mimi_edge.version import __version__

RENAMED = {"learning_rate": "lr", "head_store": "store-head"}
"""Entries that have another name as an option; all others have their own, with dashes."""
HEAD = """\
# What this run was asked to do, as the options of mimi-edge {version}. For another run like it:
#   mimi-edge train --config options.yaml
# Options beside --config go before what is written here.
"""


def option_values(config: TrainingConfig) -> dict[str, Any]:
    """The values of the options of `mimi-edge train` that give this configuration; what is open is left out."""
    document = config_document(config)
    budget, settings = config.budget, document.pop("settings")
    del document["budget"]
    if config.image_size is not None and not config.image_size.is_square:
        document["image_size"] = str(config.image_size)
    values: dict[str, Any] = {}
    if budget.size_bytes is not None:
        values["budget-mb"] = _in_units(budget.size_bytes, MEGABYTE)
    if budget.flops is not None:
        values["budget-gflops"] = _in_units(budget.flops, GIGA)
    for name, value in (document | settings).items():
        if value is not None and value != ():
            values[RENAMED.get(name, name).replace("_", "-")] = list(value) if isinstance(value, tuple) else value
    return values


def options_text(config: TrainingConfig) -> str:
    """The same as YAML."""
    import yaml

    values = yaml.safe_dump(option_values(config), allow_unicode=True, sort_keys=False, width=math.inf)
    return HEAD.format(version=__version__) + str(values)


def _in_units(count: int, unit: int) -> float:
    """The number of units that is read as this count again: a quotient may be a hair below it."""
    value = count / unit
    while whole_units(value, unit) < count:
        value = math.nextafter(value, math.inf)
    return value
