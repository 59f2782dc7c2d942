"""Exports a backbone to ONNX once, with a name at every site where an adapter can be put later.

The only module of this room that imports torch.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

from mimi_edge.caches import CACHE_VARIABLE, content_key, default_cache
from mimi_edge.errors import ArtifactError, ExportMismatchError, MimiEdgeError
from mimi_edge.events import Advance, Listener, Note, silent
from mimi_edge.export.cache import VanishedError, is_whole, new_entry
from mimi_edge.export.graph_files import WRITTEN_AS, save_with_weights
from mimi_edge.export.graphs import (
    BACKBONE_GRAPH,
    BACKBONE_WEIGHTS,
    FEATURES,
    GRAPH_FORMAT,
    INPUT,
    OPSET,
    BackboneGraph,
    GraphInfo,
    describe,
    read_backbone_graph,
)
from mimi_edge.export.parameters import find_parameters
from mimi_edge.export.passes.cut_probes import PROBE_DOWN, PROBE_UP, cut_probes
from mimi_edge.export.passes.drop_broadcast_expands import drop_broadcast_expands
from mimi_edge.export.passes.drop_no_op_pads import drop_no_op_pads
from mimi_edge.export.passes.drop_unused import drop_unused
from mimi_edge.export.passes.fold_constants import fold_constants
from mimi_edge.export.passes.strip_metadata import strip_metadata
from mimi_edge.export.passes.write_kernel_shapes import write_kernel_shapes
from mimi_edge.sites import Site

if TYPE_CHECKING:
    from mimi_edge.methods.network import Network
    from mimi_edge.training.backbones import LoadedBackbone
    from mimi_edge.training.families import Family

STAGE = "export backbone"
TOLERANCE = 1e-4
"""Largest difference between the graph's features and torch's, as a share of the largest feature."""
# Probes keep sites recognisable through folding, so they are cut after it; shapes are needed by the Expand pass.
PASSES = (
    fold_constants,
    drop_no_op_pads,
    drop_broadcast_expands,
    cut_probes,
    drop_unused,
    write_kernel_shapes,
    strip_metadata,
)
EXPORTERS = ("torch", "timm", "onnxscript", "onnx-ir", "onnx")
"""Distributions whose version decides what a graph looks like."""
TRIES = 3
"""How often a backbone is exported where somebody removes the cache in the middle of it."""
NOISY_LOGGERS = ("torch.onnx", "torch.export", "torch._export", "torch.fx", "onnxscript", "onnx_ir")


def export_backbone(backbone: LoadedBackbone, cache: Path | None = None, listener: Listener = silent) -> BackboneGraph:
    """Gives the backbone's graph from the cache, exporting it first if it is not there whole.

    Args:
        backbone: the network, in evaluation mode; it is left as it was.
        cache: folder to keep graphs in; the default is `default_cache()`.
        listener: hears how far the export is, and when a damaged cache entry is replaced.

    Raises:
        ExportMismatchError: the graph does not give the features that torch gives, or a site was lost.
        MimiEdgeError: torch cannot export this network.
        ConfigError: the cache cannot be written.
    """
    info = GraphInfo(backbone.identity, backbone.preprocessing, backbone.sites)
    entry = (cache or default_cache()) / "backbones" / _key(info, backbone.network)
    for _ in range(TRIES):
        try:
            return _from_cache(backbone, info, entry, listener)
        except (VanishedError, ArtifactError):
            if entry.exists():
                raise
            listener(Note("Somebody removed the cache meanwhile; exporting the backbone again."))
    raise VanishedError(f"{entry.parent} is removed again and again. Set {CACHE_VARIABLE} to another folder.")


def _from_cache(backbone: LoadedBackbone, info: GraphInfo, entry: Path, listener: Listener) -> BackboneGraph:
    if not is_whole(entry):
        if entry.exists():
            listener(Note(f"The cached graph of {info.backbone.name} is damaged; exporting it again."))
        with new_entry(entry) as folder:
            _export(backbone, info, folder, listener)
    return read_backbone_graph(entry)


def _key(info: GraphInfo, network: Network) -> str:
    # One set of weights can serve several input sizes (Swin), so the preprocessing belongs to the key too.
    sites = [asdict(site) for site in info.sites]
    made_by = {name: version(name) for name in EXPORTERS} | {"passes": [apply.__name__ for apply in PASSES]}
    known = (asdict(info.backbone), info.preprocessing.document(), sites, list(network.parameters))
    takes = (network.takes_tokens, network.takes_prompts)
    return content_key(GRAPH_FORMAT, WRITTEN_AS, OPSET, *known, *takes, made_by)


def _export(backbone: LoadedBackbone, info: GraphInfo, folder: Path, listener: Listener) -> None:
    listener(Advance(STAGE, 0, 3, {"doing": "tracing"}))
    model = _traced(backbone, info)
    listener(Advance(STAGE, 1, 3, {"doing": "simplifying"}))
    for apply in PASSES:
        apply(model)
    _check_sites(model, info.sites)
    _name(model, _with_parameters(model, backbone, info))
    save_with_weights(model, folder / BACKBONE_GRAPH, BACKBONE_WEIGHTS)
    listener(Advance(STAGE, 2, 3, {"doing": "checking"}))
    _check_features(backbone.module, info, folder / BACKBONE_GRAPH, listener)
    listener(Advance(STAGE, 3, 3))


def _with_parameters(model: ir.Model, backbone: LoadedBackbone, info: GraphInfo) -> GraphInfo:
    """What the graph is, with all that methods may change in it."""
    network = backbone.network
    own = {name: value.detach().cpu().numpy() for name, value in backbone.module.named_parameters()}
    parameters = find_parameters(model, {name: own[name] for name in network.parameters})
    return replace(info, parameters=parameters, takes_tokens=network.takes_tokens, takes_prompts=network.takes_prompts)


def _traced(backbone: LoadedBackbone, info: GraphInfo) -> ir.Model:
    """The network as torch exports it, with a probe at every site."""
    module = backbone.module
    device = next(module.parameters()).device
    example = torch.zeros(2, 3, *info.input_size, device=device)
    with ExitStack() as stack:
        stack.enter_context(_plain_attention(module))
        probed = stack.enter_context(_probed(backbone))
        stack.enter_context(_quiet())
        stack.enter_context(torch.no_grad())
        try:
            program = torch.onnx.export(
                probed,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[FEATURES],
                dynamic_shapes={"images": {0: "batch"}},
                verbose=False,
            )
        except Exception as error:  # whatever torch raises, this network cannot be used
            raise MimiEdgeError(f"torch cannot export {info.backbone.name} to ONNX: {error}") from error
    if program is None:
        raise MimiEdgeError(f"torch exported nothing for {info.backbone.name}. Is torch 2.6 or later installed?")
    return program.model


class _Probed(nn.Module):
    """A backbone with its probes beside it, so that their names say which site they belong to."""

    def __init__(self, backbone: nn.Module, sites: tuple[Site, ...]) -> None:
        super().__init__()
        self.backbone = backbone
        self.probes = nn.Module()
        # Random, so that no exporter takes two probes for one; its own generator, so that nobody else's numbers change.
        generator = torch.Generator().manual_seed(0)
        for site in sites:
            probe = _descend(self.probes, site.name)
            probe.register_parameter(PROBE_DOWN[1:], nn.Parameter(torch.rand(site.width, 1, generator=generator)))
            probe.register_parameter(PROBE_UP[1:], nn.Parameter(torch.rand(1, site.width, generator=generator)))
        self.probes.to(next(backbone.parameters()).device)

    def forward(self, images: Tensor) -> Tensor:
        """images [B, 3, H, W] -> features [B, F]."""
        features: Tensor = self.backbone(images)
        return features


@contextmanager
def _probed(backbone: LoadedBackbone) -> Iterator[nn.Module]:
    probed = _Probed(backbone.module, backbone.sites).eval()
    hooks = []
    try:
        for site in backbone.sites:
            probing = _probe_hook(probed.probes.get_submodule(site.name), backbone.family)
            hooks.append(backbone.module.get_submodule(site.name).register_forward_hook(probing))
        yield probed
    finally:
        for hook in hooks:
            hook.remove()


def _probe_hook(probe: nn.Module, family: Family) -> Callable[[nn.Module, Any, Any], Any]:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        down, up = probe.get_parameter(PROBE_DOWN[1:]), probe.get_parameter(PROBE_UP[1:])
        tokens = family.tokens_of(output)
        return family.with_tokens(output, tokens + torch.relu(tokens @ down) @ up)

    return hook


def _descend(root: nn.Module, path: str) -> nn.Module:
    """The submodule at a dotted path, made where it is missing."""
    for part in path.split("."):
        if part not in dict(root.named_children()):
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    return root


@contextmanager
def _plain_attention(module: nn.Module) -> Iterator[None]:
    """Makes timm's attention spell out its products: fused attention exports with shape arithmetic around its keys."""
    fused = [part for part in module.modules() if getattr(part, "fused_attn", False)]
    try:
        for part in fused:
            part.fused_attn = False  # type: ignore[assignment]  # torch types every attribute as a module
        yield
    finally:
        for part in fused:
            part.fused_attn = True  # type: ignore[assignment]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter from talking: stdout is for results."""
    levels = {name: logging.getLogger(name).level for name in NOISY_LOGGERS}
    try:
        for name in levels:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _check_sites(model: ir.Model, sites: tuple[Site, ...]) -> None:
    produced = {value.name for node in model.graph for value in node.outputs}
    lost = [site.name for site in sites if site.name not in produced]
    if lost:
        raise ExportMismatchError(
            f"The exported graph lost {len(lost)} of {len(sites)} sites ({', '.join(lost[:3])}). "
            "Install the versions in constraints.txt."
        )


def _name(model: ir.Model, info: GraphInfo) -> None:
    model.producer_name = "mimi-edge"
    model.producer_version = None
    model.graph.name = "backbone"
    describe(model, info)


@torch.no_grad()
def _check_features(module: nn.Module, info: GraphInfo, path: Path, listener: Listener) -> None:
    """Compares the graph with torch on random images, where ONNX Runtime is installed."""
    from mimi_edge.export.onnx_runtime import open_graph, runtime_version

    if runtime_version() is None:
        listener(Note("ONNX Runtime is not installed, so the backbone's graph was not compared with torch."))
        return
    images = torch.randn(3, 3, *info.input_size, generator=torch.Generator().manual_seed(0))
    expected = module(images.to(next(module.parameters()).device)).float().cpu().numpy()
    got = open_graph(path).run(images.numpy())
    largest = float(abs(expected).max())
    difference = float(abs(got - expected).max()) if got.shape == expected.shape else float("inf")
    if not difference <= TOLERANCE * largest:
        raise ExportMismatchError(
            f"The exported graph of {info.backbone.name} does not give torch's features: expected a difference of at "
            f"most {TOLERANCE:g} x {largest:.3g}, got {difference:.3g}. Install the versions in constraints.txt."
        )
