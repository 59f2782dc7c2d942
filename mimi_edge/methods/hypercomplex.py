"""PHM adapters (arXiv 2102.08597) and Compacter (arXiv 2106.04647): bottlenecks of Kronecker products.

Each matrix is sum_i A_i x B_i with A_i [n, n]. A PHM adapter has rules A_i of its own for each matrix. In Compacter
all matrices share one set of rules, and each B_i is a product of two thin matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from mimi_edge.errors import ConfigError
from mimi_edge.methods.bottlenecks import DOWN, FIRST_STD, UP
from mimi_edge.methods.description import ZEROS, Description, Filled, Normal, StoredTensor, together
from mimi_edge.methods.edits import Branch
from mimi_edge.methods.method import Method, setting
from mimi_edge.methods.network import Network
from mimi_edge.methods.weights import Stored, Weight, add, dot, kron, piece
from mimi_edge.sites import Site

SHARED_RULES = "compacter.rules"
RULE_STD = 0.5
"""So that a sum of n = 4 products starts about as large as its B_i."""


@dataclass(frozen=True)
class PhmSettings:
    """How large the bottlenecks are, and into how many parts they fall."""

    neurons: int = setting(32, "N, neurons at every site, a multiple of --parts.")
    parts: int = setting(4, "n, Kronecker products in a sum; divides the channels of every site.")


@dataclass(frozen=True)
class CompacterSettings(PhmSettings):
    """Also how thin the products are."""

    rank: int = setting(1, "Columns of the thin matrices.")


def describe_phm(network: Network, settings: PhmSettings) -> Description:
    """A bottleneck behind every attention and every MLP."""
    _check(network, settings)
    return together(_phm(site, settings) for site in network.sites)


def describe_compacter(network: Network, settings: CompacterSettings) -> Description:
    """A bottleneck behind every attention and every MLP, and the rules they share."""
    _check(network, settings)
    rules = Description((_rules(SHARED_RULES, settings.parts),))
    return rules + together(_compacter(site, settings) for site in network.sites)


def _check(network: Network, settings: PhmSettings) -> None:
    widths = sorted({site.width for site in network.sites})
    if settings.neurons % settings.parts or any(width % settings.parts for width in widths):
        raise ConfigError(
            f"--parts {settings.parts} must divide --neurons {settings.neurons} and the channels of every site, "
            f"{', '.join(map(str, widths))}."
        )


def _phm(site: Site, settings: PhmSettings) -> Description:
    tensors: list[StoredTensor] = []
    matrices = []
    for name, rows, columns, first in _matrices(site, settings.neurons):
        n, parts = settings.parts, f"{name}.parts"
        tensors += [
            _rules(f"{name}.rules", n),
            StoredTensor(parts, (rows, columns // n), first),  # n matrices [rows / n, columns / n], one below the other
        ]
        matrices.append(_summed(f"{name}.rules", [piece(Stored(parts), i, rows // n) for i in range(n)]))
    down, up = matrices
    return Description(tuple(tensors), (), (Branch(site.name, down, up, "gelu"),))


def _compacter(site: Site, settings: CompacterSettings) -> Description:
    tensors: list[StoredTensor] = []
    matrices = []
    for name, rows, columns, first in _matrices(site, settings.neurons):
        n, rank, left, right = settings.parts, settings.rank, f"{name}.left", f"{name}.right"
        tensors += [
            StoredTensor(left, (rows, rank), Normal(FIRST_STD**0.5)),
            StoredTensor(right, (n * rank, columns // n), first if first is ZEROS else Normal(FIRST_STD**0.5)),
        ]
        thin = [
            dot(
                piece(Stored(left), i, rows // n),
                piece(Stored(right), i, rank),
            )
            for i in range(n)
        ]
        matrices.append(_summed(SHARED_RULES, thin))
    down, up = matrices
    return Description(tuple(tensors), (), (Branch(site.name, down, up, "gelu"),))


def _matrices(site: Site, neurons: int) -> tuple[tuple[str, int, int, Normal | Filled], ...]:
    down = (site.name + DOWN, site.width, neurons, Normal(FIRST_STD))
    return down, (site.name + UP, neurons, site.width, ZEROS)


def _rules(name: str, parts: int) -> StoredTensor:
    """n matrices [n, n], one below the other."""
    return StoredTensor(name, (parts * parts, parts), Normal(RULE_STD))


def _summed(rules: str, parts: Sequence[Weight]) -> Weight:
    n = len(parts)
    products = [kron(piece(Stored(rules), i, n), one) for i, one in enumerate(parts)]
    return reduce(add, products)


PHM = Method(
    "phm", "PHM adapter", "arXiv 2102.08597", describe_phm, PhmSettings, size="neurons", step=lambda it: int(it.parts)
)
COMPACTER = Method(
    "compacter",
    "Compacter",
    "arXiv 2106.04647",
    describe_compacter,
    CompacterSettings,
    size="neurons",
    step=lambda it: int(it.parts),
)
