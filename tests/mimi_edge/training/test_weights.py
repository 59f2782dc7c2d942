"""Weights of backbones: from files, from a stand-in of the hub on this machine, and from nowhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save, save_file

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.training.backbones import load_backbone

MODEL = "test_vit"
"""timm's own test model: a plain ViT with 0.3 M parameters."""
REPOSITORY = "timm/test_vit.r160_in1k"


def full_model(name: str = MODEL, seed: int = 5) -> torch.nn.Module:
    """With its classifier, as checkpoints are published."""
    torch.manual_seed(seed)
    return timm.create_model(name)


def loaded(path: Path, name: str = MODEL) -> Mapping[str, torch.Tensor]:
    return load_backbone(name, str(path)).module.state_dict()


@pytest.mark.parametrize("classifier", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_files_load_with_and_without_a_classifier(tmp_path: Path, classifier: bool, dtype: torch.dtype) -> None:
    tensors = {name: value.to(dtype) for name, value in full_model().state_dict().items()}
    if not classifier:
        tensors = {name: value for name, value in tensors.items() if not name.startswith("head.")}
    save_file(tensors, tmp_path / "weights.safetensors")
    got = loaded(tmp_path / "weights.safetensors")
    assert got.keys() == {name for name in tensors if not name.startswith("head.")}
    for name, value in got.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, tensors[name].float())


def test_both_classifiers_of_a_distilled_model_are_left_out(tmp_path: Path) -> None:
    model = full_model("deit_tiny_distilled_patch16_224")
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    got = loaded(tmp_path / "weights.safetensors", "deit_tiny_distilled_patch16_224")
    assert model.state_dict().keys() - got.keys() == {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"}


def test_the_hash_is_that_of_the_content_in_fp32(tmp_path: Path) -> None:
    state = full_model().state_dict()
    halves = {name: value.half() for name, value in state.items()}
    save_file(halves, tmp_path / "halves.safetensors")
    save_file({name: value.float() for name, value in halves.items()}, tmp_path / "same.safetensors")
    save_file(state, tmp_path / "other.safetensors")
    hashes = [
        load_backbone(MODEL, str(tmp_path / f"{name}.safetensors")).identity.sha256
        for name in ("halves", "same", "other")
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_files_of_another_model_are_refused_with_names(tmp_path: Path) -> None:
    state = full_model().state_dict()
    state["extra.weight"] = torch.zeros(2)
    state["norm.weight"] = torch.zeros(3)
    del state["cls_token"]
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(ArtifactError) as refused:
        loaded(tmp_path / "weights.safetensors")
    for fault in (
        "cls_token is missing",
        "extra.weight is unknown",
        "norm.weight: expected [64], got [3]",
        "--weights",
    ):
        assert fault in str(refused.value)


def test_a_wholly_different_model_is_refused_in_few_lines(tmp_path: Path) -> None:
    save_file({f"layer{index}.weight": torch.zeros(1) for index in range(99)}, tmp_path / "weights.safetensors")
    with pytest.raises(ArtifactError, match=r"and \d+ more") as refused:
        loaded(tmp_path / "weights.safetensors")
    assert len(str(refused.value).splitlines()) < 15


@pytest.mark.parametrize("content", [b"", b"not safetensors", b"\x80\x04K\x01.", None])
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "weights.safetensors").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"Cannot read weights from .*weights\.safetensors"):
        loaded(tmp_path / "weights.safetensors")


def test_buffers_that_a_model_works_out_itself_may_be_in_the_file(tmp_path: Path) -> None:
    """Older checkpoints of Swin have them, and timm's own loading passes over them."""
    name = "swin_tiny_patch4_window7_224"
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in timm.create_model(name, num_classes=0).state_dict().items()}
    state = {key: torch.zeros(shape) for key, shape in shapes.items()}
    state["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.long)
    state["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    save_file(state, tmp_path / "weights.safetensors")
    backbone = load_backbone(name, str(tmp_path / "weights.safetensors"))
    assert sum(value.numel() for value in backbone.module.parameters()) == 27_519_354
    assert backbone.module.layers[0].blocks[0].attn.relative_position_index.max() > 0


def test_random_weights_follow_the_seed() -> None:
    first, again, other = (load_backbone(MODEL, "random", seed=seed).identity.sha256 for seed in (1, 1, 2))
    assert first == again != other


def test_the_built_in_backbone_loads() -> None:
    backbone = load_backbone("builtin", "pretrained")
    assert backbone.identity.sha256 != load_backbone("builtin", "random").identity.sha256
    assert {site.width for site in backbone.sites} == {48, 96, 192}
    assert len(backbone.sites) == 18
    features = backbone.module(torch.randn(2, 3, 32, 32))
    assert features.shape == (2, 192)
    assert np.isfinite(features.numpy()).all()


def test_models_without_published_weights_are_refused() -> None:
    with pytest.raises(ConfigError, match="--weights FILE"):
        load_backbone("vit_base_patch32_plus_256", "pretrained")


@pytest.mark.parametrize(
    ("name", "image_size", "why"),
    [("test_resnet", None, "ResNet is not a supported family"), (MODEL, 100, "Take --image-size 96 or 112")],
)
def test_what_is_not_supported_is_said_before_anything_is_fetched(name: str, image_size: int | None, why: str) -> None:
    with pytest.raises(ConfigError, match=why):  # there is no network here
        load_backbone(name, "pretrained", image_size=image_size)


class Hub(BaseHTTPRequestHandler):
    """Answers what the hub's client asks for files of one repository; where it has none at all, it is out of order."""

    files: Mapping[str, bytes]
    asked: list[str]

    def _answer(self, *, with_body: bool) -> None:
        self.asked.append(self.path)
        if not self.files:
            self.send_error(503)
            return
        name = self.path.partition(f"/{REPOSITORY}/resolve/main/")[2]
        content = self.files.get(name)
        if content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("ETag", f'"{len(content):040d}"')
        self.send_header("X-Repo-Commit", "c" * 40)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def hub(files: Mapping[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """Its address, and what it was asked."""
    asked: list[str] = []
    handler = type("HubWithFiles", (Hub,), {"files": files, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def load_from_hub(address: str, home: Path, image_size: int | None = None) -> dict[str, str]:
    """What another process makes of `--weights pretrained`; this one has no network by its settings."""
    program = (
        "import json\n"
        "from mimi_edge.errors import MimiEdgeError\n"
        "from mimi_edge.training.backbones import load_backbone\n"
        "try:\n"
        f"    loaded = load_backbone({MODEL!r}, 'pretrained', image_size={image_size})\n"
        "    print(json.dumps({'sha256': loaded.identity.sha256}))\n"
        "except MimiEdgeError as error:\n"
        "    print(json.dumps({'error': str(error), 'code': error.exit_code}))\n"
    )
    environment = os.environ | {
        "HF_ENDPOINT": address,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
    }
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=100, env=environment
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout.splitlines()[-1])


@pytest.mark.slow
def test_pretrained_weights_come_from_the_hub_once(tmp_path: Path) -> None:
    state = full_model().state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    expected = load_backbone(MODEL, str(tmp_path / "weights.safetensors")).identity.sha256
    with hub({"model.safetensors": save(state, {"format": "pt"})}) as (address, asked):
        assert load_from_hub(address, tmp_path / "home") == {"sha256": expected}
        assert any(path.endswith(f"{REPOSITORY}/resolve/main/model.safetensors") for path in asked)
        assert not [path for path in asked if path.endswith((".bin", ".pth", ".pt"))]
    # The hub is gone now, and nobody needs it any more; another size is made of the same file.
    resized = load_backbone(MODEL, str(tmp_path / "weights.safetensors"), image_size=96).identity.sha256
    assert load_from_hub(address, tmp_path / "home", image_size=96) == {"sha256": resized} != {"sha256": expected}


@pytest.mark.slow
def test_without_a_network_the_wanted_file_is_named(tmp_path: Path) -> None:
    said = load_from_hub("http://127.0.0.1:9", tmp_path / "home")
    for part in ("model.safetensors", REPOSITORY, "--weights FILE.safetensors", "try again"):
        assert part in said["error"]
    assert said["code"] == 1


@pytest.mark.slow
def test_a_hub_that_cannot_answer_is_asked_once(tmp_path: Path) -> None:
    with hub({}) as (address, asked):
        said = load_from_hub(address, tmp_path / "home")
    assert said["error"].startswith(f"Could not get the pretrained weights of '{MODEL}'")
    assert len([path for path in asked if REPOSITORY in path]) == 1


@pytest.mark.slow
def test_weights_that_are_published_pickled_only_are_not_taken(tmp_path: Path) -> None:
    with hub({"pytorch_model.bin": b"\x80\x04K\x01."}) as (address, asked):
        said = load_from_hub(address, tmp_path / "home")
    assert "model.safetensors" in said["error"]
    assert not [path for path in asked if path.endswith(".bin")], asked
