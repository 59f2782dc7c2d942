"""Where what takes long to make is kept between runs, and under which names."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

CACHE_VARIABLE = "MIMI_EDGE_CACHE"


def default_cache() -> Path:
    """The folder that the environment variable MIMI_EDGE_CACHE names, else this user's cache folder."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("mimi-edge"))


def content_key(*parts: object) -> str:
    """A file name for whatever is made from these parts (anything JSON can hold)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, allow_nan=False).encode()).hexdigest()[:32]
