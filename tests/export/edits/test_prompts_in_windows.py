"""VPT-shallow on Swin: against the paper's own way of doing it, written down anew, and counted in the merged graph."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from method_contracts import CLASSES, Case, case_of, differ, images, random_task
from timm.models.swin_transformer import window_partition, window_reverse
from torch import Tensor

from mimi_edge.export.backbone_graph import export_backbone
from mimi_edge.export.merge import merge
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.images.image_size import ImageSize
from mimi_edge.methods.catalogue import METHODS
from mimi_edge.methods.costs import flops_of
from mimi_edge.tasks.files import write_task
from mimi_edge.tasks.task import Task, decode_tensors
from mimi_edge.training.backbones import LoadedBackbone, described
from mimi_edge.training.edited_model import EditedModel
from mimi_edge.training.flops import FlopsCount, count_flops
from mimi_edge.training.references import reference_logits

SIDES = {32: "four windows, then one", 56: "windows and merging that pad", 64: "as many windows as tokens in one"}
TOLERANCE = 3e-6
PROMPTS = 3

each_side = pytest.mark.parametrize("side", SIDES, ids=SIDES.values())


@cache
def swin(side: int) -> LoadedBackbone:
    torch.manual_seed(0)
    module = timm.create_model(
        "swin_tiny_patch4_window7_224",
        img_size=side,
        window_size=4,
        embed_dim=24,
        depths=(2, 1, 1),
        num_heads=(2, 4, 4),
        num_classes=0,
    )
    module.pretrained_cfg |= {"input_size": (3, side, side), "crop_pct": 1.0}
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return described(module.eval().requires_grad_(False), f"swin of {side}")


def the_case(side: int) -> Case:
    return case_of(swin(side), METHODS["vpt-shallow"])


def as_in_the_paper(module, prompts: Tensor, image: Tensor) -> Tensor:
    """Features [1, F] of one image: blocks and mergings of github.com/KMnP/vpt, on timm's modules.

    Its PromptedSwinTransformer averages the prompts, too, at the end; ours leave behind the last block, as on ViT.
    """
    grid, prompts = module.patch_embed(image), prompts[None]
    for layer in module.layers:
        if hasattr(layer.downsample, "reduction"):
            prompts = torch.cat([prompts] * 4, -1)
            prompts = layer.downsample.reduction(layer.downsample.norm(prompts))
            grid = layer.downsample(grid)
        for block in layer.blocks:
            grid, prompts = _block(block, grid, prompts)
    return module.norm(grid).mean((1, 2))


def _block(block, grid: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor]:
    _, high, wide, width = grid.shape
    side, shift = block.window_size[0], block.shift_size
    image = torch.roll(block.norm1(grid), (-shift[0], -shift[1]), (1, 2))
    image = torch.nn.functional.pad(image, (0, 0, 0, -wide % side, 0, -high % side))
    padded_high, padded_wide = image.shape[1:3]
    windows = window_partition(image, block.window_size).view(-1, side * side, width)
    seen = torch.cat([block.norm1(prompts).expand(len(windows), -1, -1), windows], 1)
    answers = block.attn.proj(_attention(block, seen, prompts.shape[1]))
    became, windows = answers[:, : prompts.shape[1]], answers[:, prompts.shape[1] :]
    image = window_reverse(windows.reshape(-1, side, side, width), block.window_size, padded_high, padded_wide)
    grid = grid + torch.roll(image[:, :high, :wide], tuple(shift), (1, 2))
    prompts = prompts + became.mean(0, keepdim=True)
    return grid + block.mlp(block.norm2(grid)), prompts + block.mlp(block.norm2(prompts))


def _attention(block, seen: Tensor, before: int) -> Tensor:
    attention, (windows, tokens, width) = block.attn, seen.shape
    q, k, v = attention.qkv(seen).reshape(windows, tokens, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    scores = q @ k.mT * attention.scale
    scores[:, :, before:, before:] += attention._get_rel_pos_bias()
    if block.attn_mask is not None:
        scores[:, :, before:, before:] += block.attn_mask[:, None]
    return (scores.softmax(-1) @ v).transpose(1, 2).reshape(windows, tokens, width)


@pytest.fixture(scope="module")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("swins")


def merged(case: Case, task: Task, folder: Path, cache_folder: Path) -> Path:
    graph = export_backbone(case.backbone, cache_folder)
    shutil.copytree(graph.folder, folder, dirs_exist_ok=True)
    write_task(task, folder / "t.safetensors")
    return merge(folder / "backbone.onnx", folder / "t.safetensors", folder / "t.onnx").path


@each_side
@torch.no_grad()
def test_torch_and_the_graph_answer_what_the_papers_own_way_gives(
    side: int, tmp_path: Path, cache_folder: Path
) -> None:
    case = the_case(side)
    task, shown = random_task(case), images(case.backbone)
    weights = {name: torch.from_numpy(values) for name, values in decode_tensors(task.tensors).items()}
    one_by_one = [
        as_in_the_paper(case.backbone.module, weights["prompts"], torch.from_numpy(image[None])) for image in shown
    ]
    expected = (torch.cat(one_by_one) @ weights["head.weight"].T + weights["head.bias"]).numpy()
    assert differ(reference_logits(case.backbone, task)(shown), expected) < TOLERANCE
    graph = open_graph(merged(case, task, tmp_path, cache_folder))
    assert differ(graph.run(shown), expected) < TOLERANCE
    assert differ(graph.run(shown[:1]), expected[:1]) < TOLERANCE


def products_in(path: Path, side: int) -> int:
    """2 x multiply-accumulates of a graph's matrix products for one image, as they ran; its head is a Gemm and none."""
    model = onnx.load(path)
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    constants = {one.name for one in model.graph.initializer}
    watched = {name for node in products for name in (node.input[0], node.output[0])} - constants
    here = {one.name for one in model.graph.output}
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in sorted(watched - here))
    onnx.save(model, path.with_name("watched.onnx"))
    session = onnxruntime.InferenceSession(path.with_name("watched.onnx"), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    image = np.zeros((1, 3, side, side), np.float32)
    shapes = {name: value.shape for name, value in zip(names, session.run(names, {"images": image}), strict=True)}
    return sum(2 * int(np.prod(shapes[node.output[0]])) * shapes[node.input[0]][-1] for node in products)


@each_side
def test_operations_are_those_of_the_merged_graph(side: int, tmp_path: Path, cache_folder: Path) -> None:
    case = the_case(side)
    path = merged(case, random_task(case), tmp_path, cache_folder)
    more = products_in(path, side) - products_in(tmp_path / "backbone.onnx", side)
    assert more == flops_of(case.description, case.backbone.network)


def test_torch_projects_tokens_once_a_window_and_the_graph_once_an_image() -> None:
    case, network = the_case(64), swin(64).network
    counts = [block.attention.tokens // network.window(block.attention.name) for block in network.blocks]
    assert counts == [16, 16, 4, 1]
    bare = count_flops(case.backbone.module, ImageSize.of(64), FlopsCount.FULL)
    model = EditedModel(case.backbone, case.description, CLASSES)
    try:
        counted = (
            count_flops(model, ImageSize.of(64), FlopsCount.FULL) - bare - 2 * case.backbone.identity.features * CLASSES
        )
    finally:
        model.release()
    again = sum(
        (windows - 1) * PROMPTS * 2 * 4 * block.width**2 for windows, block in zip(counts, network.blocks, strict=True)
    )
    assert counted - flops_of(case.description, network) == again


def test_the_backbone_is_as_it_was_when_the_tokens_are_gone() -> None:
    case, shown = the_case(32), torch.from_numpy(images(swin(32)))
    with torch.no_grad():
        before = case.backbone.module(shown)
        model = EditedModel(case.backbone, case.description, CLASSES)
        changed = case.backbone.module(shown)
        model.release()
        assert torch.equal(case.backbone.module(shown), before)
    assert (changed - before).abs().max() > 100 * TOLERANCE


@pytest.mark.parametrize(
    "arguments", [{"window_size": (4, 2)}, {"window_size": 4, "strict_img_size": False}], ids=["oblong", "any size"]
)
def test_windows_that_no_table_tells_are_refused(arguments: dict) -> None:
    torch.manual_seed(0)
    module = timm.create_model(
        "swin_tiny_patch4_window7_224",
        img_size=32,
        embed_dim=24,
        depths=(1,),
        num_heads=(2,),
        num_classes=0,
        **arguments,
    )
    module.pretrained_cfg |= {"input_size": (3, 32, 32), "crop_pct": 1.0}
    assert not described(module.eval().requires_grad_(False), "another swin").network.takes_prompts
