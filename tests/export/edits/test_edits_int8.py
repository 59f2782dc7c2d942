"""INT8 is of the backbone's layers, whatever a task did to their weights, and of no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from method_contracts import case_of, images, merged_task

from mimi_edge.choices import Backend, Precision
from mimi_edge.export.engine_graphs import engine_graph
from mimi_edge.export.engine_passes import default_passes, tune
from mimi_edge.export.graph_files import save_graph
from mimi_edge.export.graphs import load_graph
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.export.precision.quantise import quantised_model
from mimi_edge.methods.catalogue import METHODS
from mimi_edge.tasks.stores import Store

OWN = {"mimi": 8, "adapters": 8, "phm": 8, "compacter": 8, "sparse-adapter": 8, "adaptformer": 4, "adapter-plus": 4}
OWN |= {"vpt-deep": 4, "mlp-head": 2, "sidetune": 4}
"""Products of images with a weight that methods bring along on two blocks of a ViT, beside the classifier."""
ROUNDED = 0.6
"""Of the largest logit, what 8 bits may cost tiny random networks; the scale of a wrong channel costs more."""


def answers_pair_by_pair(path: Path, shown: np.ndarray) -> np.ndarray:
    """As the graph says: the integer kernels that ONNX Runtime fuses pairs into round otherwise."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": shown})[0]


@pytest.mark.parametrize(
    ("method", "family"),
    [
        *((method, "vit") for method in METHODS),
        *((method, "swin") for method in ("lora", "ssf", "fact-tk", "vpt-deep", "full")),
    ],
)
def test_the_layers_of_the_backbone_are_quantised_and_no_others(method, family, exported, tmp_path):
    backbone, graph = exported(family)
    shown = images(backbone)
    _, bare = quantised_model(graph.path, shown)
    assert bare.left == ()
    path = merged_task(case_of(backbone, METHODS[method]), graph, tmp_path, Store.FP16)
    model = load_graph(path)
    tune(model, default_passes(Backend.TRT))
    with engine_graph(model, tmp_path) as ready:
        quantised, layers = quantised_model(ready, shown, rest=Precision.FP32)
        save_graph(quantised, tmp_path / "int8.onnx")
    assert len(layers.quantised) == len(bare.quantised)
    if family == "vit":
        assert len(layers.left) == 1 + OWN.get(method, 0)
    products = {node.name: node for node in quantised.graph}
    for name in layers.quantised:
        weight, scale, _ = products[name].inputs[1].producer().inputs[0].producer().inputs
        channels = weight.const_value.numpy()
        over = tuple(range(1, channels.ndim)) if products[name].op_type == "Conv" else (0,)
        assert scale.const_value.numpy() == pytest.approx(np.abs(channels).max(over) / 127, rel=1e-5)
    got, expected = answers_pair_by_pair(tmp_path / "int8.onnx", shown), open_graph(path).run(shown)
    assert 1e-4 < np.abs(got - expected).max() / np.abs(expected).max() < ROUNDED
