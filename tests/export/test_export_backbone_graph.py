from __future__ import annotations

import json

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from export_samples import FAMILIES, assert_close, random_images, tiny_backbone

from mimi_edge.errors import ExportMismatchError
from mimi_edge.export import backbone_graph
from mimi_edge.export.backbone_graph import export_backbone
from mimi_edge.export.graphs import GraphInfo, read_backbone_graph
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.images.image_size import ImageSize

UNKNOWN_TO_TENSORRT_10_3 = {"Attention", "RMSNormalization", "RotaryEmbedding", "Swish"}


@pytest.mark.parametrize("family", FAMILIES)
def test_bare_graph_gives_torchs_features_at_every_batch(family, exported):
    backbone, graph = exported(family)
    model = open_graph(graph.path)
    for batch in (1, 2, 5):
        images = random_images(batch, seed=batch)
        with torch.no_grad():
            expected = backbone.module(torch.from_numpy(images)).numpy()
        assert_close(model.run(images), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_graph_is_plain(family, exported):
    backbone, graph = exported(family)
    model = onnx.load(graph.path, load_external_data=False)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]
    assert not model.functions
    assert not {node.op_type for node in model.graph.node} & UNKNOWN_TO_TENSORRT_10_3
    assert [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [
        "batch",
        3,
        32,
        32,
    ]
    assert [dim.dim_param or dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim] == [
        "batch",
        backbone.identity.features,
    ]
    assert "probes." not in str(model)
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    places = {
        entry.value for each in model.graph.initializer for entry in each.external_data if entry.key == "location"
    }
    assert places == {"backbone.weights"}
    onnx.checker.check_model(str(graph.path), full_check=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_sites_are_in_the_graph_in_the_order_they_run(family, exported):
    backbone, graph = exported(family)
    assert read_backbone_graph(graph.folder).info.sites == backbone.sites
    produced = [value.name for node in ir.load(graph.path).graph for value in node.outputs]
    places = [produced.index(site.name) for site in backbone.sites]
    assert places == sorted(places)


@pytest.mark.parametrize("family", ["swin", "swinv2"])
def test_shape_arithmetic_is_gone(family, exported):
    _, graph = exported(family)
    kinds = {node.op_type for node in ir.load(graph.path).graph}
    assert not kinds & {"Shape", "Pad", "Expand", "ConstantOfShape", "Range", "Constant", "GatherND"}


def test_description_comes_back(exported):
    backbone, graph = exported("vit")
    info = read_backbone_graph(graph.folder).info
    assert (info.backbone, info.preprocessing, info.task) == (backbone.identity, backbone.preprocessing, None)
    assert info.input_size == ImageSize(32, 32)


def test_second_export_comes_from_the_cache(exported, monkeypatch):
    backbone, graph = exported("vit")
    monkeypatch.setattr(backbone_graph, "_traced", lambda *_: pytest.fail("exported again"))
    assert export_backbone(backbone, graph.folder.parents[1]) == graph


@pytest.fixture(scope="module")
def trace():
    """What torch makes of the tiny ViT, once: tracing takes most of the time of an export."""
    backbone = tiny_backbone("vit")
    info = GraphInfo(backbone.identity, backbone.preprocessing, backbone.sites)
    return ir.to_proto(backbone_graph._traced(backbone, info))


@pytest.fixture
def traced(trace, monkeypatch):
    monkeypatch.setattr(backbone_graph, "_traced", lambda *_: ir.from_proto(trace))


@pytest.mark.usefixtures("traced")
def test_damaged_cache_entry_is_exported_again_to_the_same_bytes(tmp_path, capfd):
    backbone = tiny_backbone("vit")
    graph = export_backbone(backbone, tmp_path)
    whole = {path.name: path.read_bytes() for path in graph.folder.iterdir()}
    weights = bytearray(graph.weights.read_bytes())
    weights[1000] ^= 1
    graph.weights.write_bytes(weights)
    notes = []
    again = export_backbone(backbone, tmp_path, notes.append)
    assert {path.name: path.read_bytes() for path in again.folder.iterdir()} == whole
    assert "damaged" in str(notes[0])
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("traced")
def test_another_version_of_an_exporter_makes_another_entry(tmp_path, monkeypatch):
    backbone = tiny_backbone("vit")
    first = export_backbone(backbone, tmp_path)
    monkeypatch.setattr(backbone_graph, "version", lambda name: "0.3" if name == "onnxscript" else "1")
    assert export_backbone(backbone, tmp_path).folder != first.folder


def test_export_leaves_the_module_as_it_was(exported):
    backbone, _ = exported("vit")
    assert not any(part._forward_hooks for part in backbone.module.modules())
    assert all(part.fused_attn for part in backbone.module.modules() if hasattr(part, "fused_attn"))


@pytest.mark.usefixtures("traced")
def test_wrong_graph_is_refused_and_not_cached(tmp_path, monkeypatch):
    def spoil(model: ir.Model) -> bool:
        name = next(name for name in model.graph.initializers if name.endswith("mlp.fc1.bias"))
        value = model.graph.initializers[name]
        value.const_value = ir.tensor(value.const_value.numpy() + np.float32(1), name=name)
        return True

    monkeypatch.setattr(backbone_graph, "PASSES", (*backbone_graph.PASSES, spoil))
    with pytest.raises(ExportMismatchError, match="does not give torch's features"):
        export_backbone(tiny_backbone("vit"), tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.usefixtures("traced")
def test_lost_site_is_refused(tmp_path, monkeypatch):
    def lose(model: ir.Model) -> bool:
        next(value for node in model.graph for value in node.outputs if value.name == "blocks.1.mlp").name = "other"
        return True

    monkeypatch.setattr(backbone_graph, "PASSES", (*backbone_graph.PASSES, lose))
    with pytest.raises(ExportMismatchError, match=r"blocks\.1\.mlp"):
        export_backbone(tiny_backbone("vit"), tmp_path)


def test_seal_lists_the_graph_and_its_weights(exported):
    _, graph = exported("vit")
    assert set(json.loads((graph.folder / "sha256.json").read_text())) == {"backbone.onnx", "backbone.weights"}


def test_export_is_quiet_and_the_same_twice(exported, tmp_path, capfd):
    backbone, graph = exported("vit")
    again = export_backbone(backbone, tmp_path)
    assert again.path.read_bytes() == graph.path.read_bytes()
    assert again.weights.read_bytes() == graph.weights.read_bytes()
    assert capfd.readouterr() == ("", "")
