"""What `--data` says, by its spelling alone: data that has a name and is no path, and tables."""

from __future__ import annotations

import re
from pathlib import Path

from mimi_edge.builtin import DATA_PREFIX
from mimi_edge.errors import ConfigError
from mimi_edge.texts import excerpt

GENERATED_PREFIX = "generated:"
"""What the names of data sets begin with whose images are made by formula."""
TORCHVISION_PREFIX = "torchvision:"
"""Those that torchvision knows where to find."""
HUB_PREFIX = "hf:"
"""Those of the Hugging Face hub."""
PARQUET = ".parquet"
TEXT_TABLES = (".csv", ".tsv")
TABLES = (*TEXT_TABLES, PARQUET)
"""Endings of tables of images."""
NAME_LIKE = re.compile(r"[a-z_]{2,}:")
"""How names of data begin, known or not; a drive of Windows has one letter."""
PREFIXES = (DATA_PREFIX, GENERATED_PREFIX, TORCHVISION_PREFIX, HUB_PREFIX)


def is_named(spec: str) -> bool:
    """Whether data is named, and so is the same on every machine; else it is a path."""
    return spec.startswith(PREFIXES)


def is_at_hand(spec: str) -> bool:
    """Whether data is named and comes with mimi-edge, for trying out; else it is somebody's own, or a benchmark's."""
    return spec.startswith((DATA_PREFIX, GENERATED_PREFIX))


def bare_name(spec: str) -> str:
    """Of named data, without what says where it is from."""
    return spec.partition(":")[2]


def require_known(spec: str) -> None:
    """Refuses what is written like a name, but is none.

    Raises:
        ConfigError: it is neither a name that is known nor a path that is there.
    """
    if not is_named(spec) and NAME_LIKE.match(spec) and not Path(spec).expanduser().exists():
        raise ConfigError(
            f"--data {excerpt(spec)} is neither there nor a name that is known; names begin with "
            f"{', '.join(PREFIXES)}, as builtin:digits does. Give one of these, a folder or a table."
        )
