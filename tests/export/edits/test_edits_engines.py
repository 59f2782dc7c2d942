"""Real engines of methods whose graphs differ most from MiMi's, built by TensorRT for RTX without a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from method_contracts import case_of, images, merged_task

from mimi_edge.choices import Backend, Precision, Strategy
from mimi_edge.export.engine_graphs import engine_graph
from mimi_edge.export.engine_passes import default_passes, tune
from mimi_edge.export.engines.building.build import build_engine
from mimi_edge.export.engines.building.requests import BatchRange, BuildRequest
from mimi_edge.export.engines.tensorrt.bindings import load_bindings
from mimi_edge.export.graphs import load_graph
from mimi_edge.export.precision.half import to_half
from mimi_edge.export.precision.quantise import quantised_model
from mimi_edge.methods.catalogue import METHODS
from mimi_edge.tasks.stores import Store


@pytest.mark.parametrize(
    ("method", "precision"),
    [
        ("adaptformer", Precision.FP32),  # biases, rounded up with their neurons
        ("ssf", Precision.FP16),  # weights of a convolution that are computed
        ("compacter", Precision.FP32),  # Kronecker products
        ("vpt-shallow", Precision.FP16),  # tokens carried beside those in windows
        ("vpt-deep", Precision.FP16),  # additional keys and values
        ("lora", Precision.INT8),  # weights that are computed before they are quantised
    ],
)
def test_an_engine_is_built(method: str, precision: Precision, exported, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT for RTX is not installed")
    backbone, graph = exported("swin")
    model = load_graph(merged_task(case_of(backbone, METHODS[method]), graph, tmp_path, Store.FP16))
    tune(model, default_passes(Backend.TRT_RTX, Strategy.PER_TASK))
    if precision is Precision.INT8:
        with engine_graph(model, tmp_path) as ready:
            model, _ = quantised_model(ready, images(backbone))
    else:
        to_half(model, precision)
    with engine_graph(model, tmp_path) as path:
        request = BuildRequest(path, {"batch": BatchRange(1, 8, 32)}, compute_capabilities=("8.6",))
        assert len(build_engine(load_bindings(Backend.TRT_RTX), request).plan) > 100_000
