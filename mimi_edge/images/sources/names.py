"""What `--data` says, by its spelling alone: data that has a name and is no path, and tables."""

from __future__ import annotations

import re

from mimi_edge.builtin import DATA_PREFIX

GENERATED_PREFIX = "generated:"
"""What the names of data sets begin with whose images are made by formula."""
TABLES = (".csv", ".tsv")
"""Endings of tables of images."""
NAME_LIKE = re.compile(r"[a-z_]{2,}:")
"""How names of data begin, known or not; a drive of Windows has one letter."""
PREFIXES = (DATA_PREFIX, GENERATED_PREFIX)


def is_named(spec: str) -> bool:
    """Whether data is named, and so the same on every machine, its splits included; else it is a path."""
    return spec.startswith(PREFIXES)


def bare_name(spec: str) -> str:
    """Of named data, without what says where it is from."""
    return spec.partition(":")[2]
