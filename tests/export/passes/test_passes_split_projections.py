from __future__ import annotations

import onnx_ir as ir
import pytest
from export_samples import FAMILIES
from passes_samples import assert_pass, assert_untouched

from mimi_edge.export.passes.projections import projections
from mimi_edge.export.passes.split_projections import split_projections

BLOCKS = {"vit": 2, "deit": 2, "swin": 3, "swinv2": 3}


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_are_taken_apart_before_they_are_rearranged(family, merged):
    before, after = assert_pass(split_projections, merged(family))
    blocks = BLOCKS[family]
    assert after["Split"] == blocks
    assert after["Squeeze"] == 0
    assert before["Slice"] - after["Slice"] == 3 * blocks
    assert after["Reshape"] - before["Reshape"] == 2 * blocks


def test_keys_are_turned_once(merged):
    before, after = assert_pass(split_projections, merged("swin"))
    assert after["Transpose"] - before["Transpose"] == BLOCKS["swin"]


def _first(model: ir.Model) -> ir.Node:
    """The node that rearranges the first block's three parts together."""
    squeezed = projections(model.graph)[0].parts[0].producer()
    return squeezed.inputs[0].producer().inputs[0].producer()


def test_parts_in_another_order_stay(merged):
    model = ir.load(merged("vit"))
    assert len(projections(model.graph)) == BLOCKS["vit"]
    _first(model).attributes["perm"] = ir.AttrInt64s("perm", (2, 0, 1, 3, 4))
    assert len(projections(model.graph)) == BLOCKS["vit"] - 1


def test_parts_that_are_also_used_together_stay(merged):
    model = ir.load(merged("vit"))
    other = ir.node("Relu", [_first(model).outputs[0]], name="other")
    model.graph.append(other)
    model.graph.outputs.append(other.outputs[0])
    assert len(projections(model.graph)) == BLOCKS["vit"] - 1
    assert split_projections(model)
    assert_untouched(split_projections, model)
