"""Turns inputs of a graph into weights with names, which a refittable engine can take other values for later."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from mimi_edge.tasks.stores import Floats


def freeze_inputs(model: ir.Model, tensors: Mapping[str, Floats]) -> bool:
    """Gives inputs fixed values, in the data types that the inputs have.

    Args:
        model: changed in place.
        tensors: value of each input to freeze, by its name.
    """
    frozen = [value for value in model.graph.inputs if value.name in tensors]
    for value in frozen:
        name = str(value.name)
        dtype = ir.DataType.FLOAT if value.dtype is None else value.dtype
        value.const_value = ir.tensor(tensors[name].astype(dtype.numpy()), dtype=dtype, name=name)
        model.graph.inputs.remove(value)
        model.graph.register_initializer(value)
    return bool(frozen)
