"""What the tests of the passes ask of every pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
from export_samples import assert_close, random_images

from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.tasks.stores import Floats

Pass = Callable[[ir.Model], bool]
ROUNDING = 1e-5


def kinds(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def content_of(model: ir.Model) -> bytes:
    return ir.to_proto(model).SerializeToString(deterministic=True)


def produced(model: ir.Model) -> set[str]:
    return {value.name for node in model.graph for value in node.outputs}


def answers(model: ir.Model, beside: Path, images: Floats) -> Floats:
    """What ONNX Runtime says of a graph in memory whose weights lie beside `beside`."""
    path = beside.with_name("changed.onnx")
    ir.save(model, path)
    return open_graph(path).run(images)


def assert_pass(apply: Pass, path: Path, before: Pass | None = None) -> tuple[Counter[str], Counter[str]]:
    """A pass changes a graph once, to one that answers the same and has every site; gives nodes before and after."""
    model = ir.load(path)
    if before is not None:
        assert before(model)
    had, sites = kinds(model), {name for name in produced(model) if name.endswith((".attn", ".mlp"))}
    assert apply(model)
    once = content_of(model)
    assert not apply(model)
    assert content_of(model) == once
    assert sites <= produced(model)
    for batch in (1, 3):
        images = random_images(batch, seed=batch)
        assert_close(answers(model, path, images), open_graph(path).run(images), ROUNDING)
    assert_tidy(model)
    return had, kinds(model)


def assert_tidy(model: ir.Model) -> None:
    """No constant without a user, no name twice."""
    assert all(value.uses() for value in model.graph.initializers.values())
    names = [value.name for node in model.graph for value in node.outputs] + list(model.graph.initializers)
    assert len(names) == len(set(names))


def assert_untouched(apply: Pass, model: ir.Model) -> None:
    """A pass says that it changed nothing, and did not."""
    before = content_of(model)
    assert not apply(model)
    assert content_of(model) == before


def in_memory(model: ir.Model) -> set[str]:
    """Names of the constants of any size that no file holds."""
    return {
        name
        for name, value in model.graph.initializers.items()
        if not isinstance(value.const_value, ir.ExternalTensor) and value.const_value.size > 64
    }


def held(model: ir.Model, name: str) -> Floats:
    return np.asarray(model.graph.initializers[name].const_value.numpy())
