"""What a method allows on a device: one rule, read off its edits.

Bottlenecks whose matrices are stored as they are share one backbone in memory, one graph and mixed batches: their
weights are inputs of the graph, and zeros pad the smaller ones. Everything else is part of a task's own graph.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from mimi_edge.images.image_size import ImageSize
from mimi_edge.methods.edits import Branch, Edit, Hidden, Prompts, Replace, Side, Tokens
from mimi_edge.methods.method import Method
from mimi_edge.methods.network import Network
from mimi_edge.methods.weights import Stored
from mimi_edge.sites import Site


def why_not_shared(method: Method, settings: Any) -> str | None:
    """Why tasks of a method cannot be served by one graph for all; None where they can."""
    edits = method.describe(_any_network(settings), settings).edits
    reasons = [reason for edit in edits if (reason := _reason(edit)) is not None]
    return reasons[0] if reasons else None


def _reason(edit: Edit) -> str | None:
    match edit:
        case Branch(down=Stored(), up=Stored(), scale=1.0, down_bias=None, up_bias=None, parallel=False):
            return None
        case Branch():
            return "its bottlenecks have more than two stored matrices (biases, scales, products, another input)"
        case Replace():
            return "it changes weights of the backbone itself"
        case Tokens() | Prompts():
            return "its tokens go through the backbone's own layers"
        case Hidden():
            return "its head has several layers"
        case Side():
            return "it brings a network of its own"


def _any_network(settings: Any) -> Network:
    """One block of any network that takes every method; what edits a method makes does not depend on the network."""
    numbers = [value for value in asdict(settings).values() if isinstance(value, int) and value > 0]
    width = 4 * math.lcm(*numbers)
    shapes = {
        "attn.qkv": (3 * width, width),
        "attn.proj": (width, width),
        "mlp.fc1": (4 * width, width),
        "mlp.fc2": (width, 4 * width),
    }
    parameters: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        parameters |= {f"blocks.0.{name}.weight": shape, f"blocks.0.{name}.bias": shape[:1]}
    sites = tuple(Site(f"blocks.0.{part}", width, 1) for part in ("attn", "mlp"))
    return Network(sites, width, parameters, ImageSize(16, 16), ("blocks.0.attn",), takes_prompts=True)
