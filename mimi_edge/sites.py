"""Where adapters go: the output of each attention and MLP sub-layer, before LayerScale, drop-path and the residual."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Site:
    """One place for an adapter.

    Attributes:
        name: path of the sub-layer's module in the backbone, such as `layers.0.blocks.1.attn`.
        width: M, channels there.
        tokens: how many tokens pass for one image at the backbone's input size.
    """

    name: str
    width: int
    tokens: int


Neurons = Mapping[str, int]
"""How many neurons each site has; a site that is missing or 0 has no adapter."""


def network_order(names: Iterable[str]) -> list[str]:
    """Names of sites as the network has them: block 2 before block 10, attention before the MLP of its block."""
    return sorted(names, key=_in_figures)


def _in_figures(name: str) -> list[tuple[str, int]]:
    """Words and numbers in turns, the numbers by their value."""
    parts = re.split(r"(\d+)", name)
    return [(word, int(figures or -1)) for word, figures in zip(parts[::2], [*parts[1::2], ""], strict=True)]


def uniform_neurons(sites: Iterable[Site], ratio: float) -> dict[str, int]:
    """N = M / ratio at every site, rounded down, at least 1."""
    return {site.name: max(1, int(site.width / ratio)) for site in sites}
