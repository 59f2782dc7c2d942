"""A real package that is made in milliseconds and without torch: a backbone of two sites on 4 x 4 images."""

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from mimi_edge.export.graphs import BACKBONE_GRAPH, BACKBONE_WEIGHTS, OPSET, GraphInfo, describe
from mimi_edge.export.packages import create_or_extend
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.sites import Site
from mimi_edge.tasks.files import write_task
from mimi_edge.tasks.stores import Store
from mimi_edge.tasks.task import (
    AdapterWeights,
    BackboneIdentity,
    HeadWeights,
    SplitAccuracy,
    Task,
    TaskHeader,
    encode_weights,
)

SIZE = 4
WIDTH = 8
CLASSES = ("one", "two", "three")
SITES = tuple(Site(f"blocks.{block}.mlp", WIDTH, SIZE * SIZE) for block in (0, 1, 2))
IDENTITY = BackboneIdentity("tiny", "7" * 64, WIDTH)
PREPROCESSING = Preprocessing(SIZE, SIZE, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def make_backbone(folder):
    """Writes `backbone.onnx` and its weights as an export would."""
    random = np.random.default_rng(7)

    def weight(name, *shape):
        return numpy_helper.from_array(random.standard_normal(shape, np.float32), name)

    weights = [weight("stem", 3, WIDTH), *(weight(f"w{block}", WIDTH, WIDTH) for block in range(len(SITES)))]
    weights.append(numpy_helper.from_array(np.array([0, 3, -1]), "flat"))
    weights.append(numpy_helper.from_array(np.array([1]), "tokens"))
    nodes = [
        helper.make_node("Reshape", ["images", "flat"], ["channels"]),
        helper.make_node("Transpose", ["channels"], ["rgb"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["rgb", "stem"], ["h0"]),
    ]
    for block, site in enumerate(SITES):
        nodes.append(helper.make_node("MatMul", [f"h{block}", f"w{block}"], [site.name]))
        nodes.append(helper.make_node("Tanh", [site.name], [f"h{block + 1}"]))
    nodes.append(helper.make_node("ReduceMean", [f"h{len(SITES)}", "tokens"], ["features"], keepdims=0))
    graph = helper.make_graph(
        nodes,
        "backbone",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", WIDTH])],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    onnx.checker.check_model(made)
    model = ir.from_proto(made)
    describe(model, GraphInfo(IDENTITY, PREPROCESSING, SITES))
    folder.mkdir()
    ir.save(model, folder / BACKBONE_GRAPH, external_data=BACKBONE_WEIGHTS, size_threshold_bytes=64)
    return folder


def make_task(name, neurons):
    """A task of random weights, with so many neurons at each site."""
    random = np.random.default_rng(len(name))

    def weights(*shape):
        return random.standard_normal(shape, np.float32)

    adapters = {
        site.name: AdapterWeights(weights(WIDTH, count), weights(count, WIDTH))
        for site, count in zip(SITES, neurons, strict=True)
    }
    header = TaskHeader(
        name=name,
        backbone=IDENTITY,
        classes=CLASSES,
        preprocessing=PREPROCESSING,
        activation="gelu",
        store=Store.FP16,
        accuracy={"test": SplitAccuracy(0.75, 40)},
        training_sha256="0" * 64,
        versions={},
    )
    head = HeadWeights(weights(len(CLASSES), WIDTH), weights(len(CLASSES)))
    return Task(header, encode_weights(adapters, head, Store.FP16))


def make_package(folder, tasks):
    """A package of these tasks, given as neurons of each site by name."""
    task_files = []
    for name, neurons in tasks.items():
        task_files.append(folder / f"{name}.task.safetensors")
        write_task(make_task(name, neurons), task_files[-1])
    return create_or_extend(folder / "package", make_backbone(folder / "exported"), task_files)
