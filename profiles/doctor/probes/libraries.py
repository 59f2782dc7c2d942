"""Loads a library, as the commands would."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mimi_edge.numpy_versions import numpy_misfit

Facts = Mapping[str, Any]


def library(module: str, *names: str) -> Iterator[Facts]:
    """Where it is and what pip knows of it, then whether it can be loaded.

    Args:
        module: to load.
        names: of the distributions that bring it.
    """
    top = module.split(".", maxsplit=1)[0]
    known = distributions(names)
    yield {"distributions": {name: one.version for name, one in known.items()}}
    spec = find_spec(top)
    if spec is None:
        yield {"installed": False}
        return
    yield {"installed": True, "at": spec.origin or str(next(iter(spec.submodule_search_locations or ()), ""))}
    yield {"shadows": spec.origin is not None and bool(known) and not _inside(Path(spec.origin), known.values())}
    if spec.origin is None:
        raise ImportError(f"an empty folder is in its place: {next(iter(spec.submodule_search_locations or ()), '')}")
    try:
        import_module(module)
    except ImportError as error:
        if (misfit := numpy_misfit(error)) is not None:
            yield {"numpy_misfit": {"text": misfit.text, "line": misfit.line}}
        raise
    version = getattr(sys.modules[top], "__version__", None)
    yield {"version": None if version is None else str(version)}


def distributions(names: Sequence[str]) -> dict[str, Distribution]:
    """Those that pip has installed, by name."""
    found = {}
    for name in names:
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue
    return found


def cuda_of_torch(module: str) -> Iterator[Facts]:
    """Whether torch can compute on a GPU, by computing something small there."""
    if find_spec(module) is None:
        return
    torch = import_module(module)
    yield {"built_for": torch.version.cuda}
    if torch.cuda.is_available():
        yield {"sum": float(torch.ones(3, device="cuda").sum().item()), "name": torch.cuda.get_device_name(0)}


def _inside(origin: Path, known: Any) -> bool:
    """Whether a file lies where one of the distributions was installed."""
    folders = [Path(str(one.locate_file(""))).resolve() for one in known]
    return any(folder in origin.resolve().parents for folder in folders)
