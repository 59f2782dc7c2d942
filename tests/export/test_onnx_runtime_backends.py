"""Backends of ONNX Runtime that this machine lacks are named, never replaced in silence."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from mimi_edge.choices import Backend
from mimi_edge.errors import MimiEdgeError
from mimi_edge.export import onnx_runtime
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.runtimes import PROVIDERS


class _Session:
    def __init__(self, path, options, providers) -> None:
        self.asked = providers

    def get_providers(self):
        return self.used

    def get_outputs(self):
        return [SimpleNamespace(name="features")]


def _runtime(monkeypatch, available, used):
    """A stand-in for onnxruntime that was built with some providers and gets on with others."""
    opened = []

    class Session(_Session):
        def __init__(self, *arguments, **keywords) -> None:
            super().__init__(*arguments, **keywords)
            self.used = list(used)
            opened.append(self)

    options = SimpleNamespace(add_session_config_entry=lambda *_: None)
    fake = SimpleNamespace(
        __version__="1.31.1",
        get_available_providers=lambda: list(available),
        preload_dlls=lambda: None,
        SessionOptions=lambda: options,
        InferenceSession=Session,
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    monkeypatch.setattr(onnx_runtime, "runtime_version", lambda: "1.31.1")
    return opened


@pytest.mark.parametrize("backend", [Backend.ORT_CUDA, Backend.ORT_TRT])
@pytest.mark.usefixtures("from_an_index")
def test_a_runtime_without_the_provider_says_what_to_install(workplace, backend):
    _, folder = workplace
    with pytest.raises(MimiEdgeError, match=rf"without {PROVIDERS[backend][0]}.*mimi-edge\[gpu\]"):
        open_graph(folder / "backbone.onnx", backend=backend)


def test_a_provider_that_fails_to_load_is_not_replaced_in_silence(workplace, monkeypatch):
    _, folder = workplace
    _runtime(monkeypatch, PROVIDERS[Backend.ORT_CUDA], ["CPUExecutionProvider"])
    with pytest.raises(MimiEdgeError, match=r"cannot load CUDAExecutionProvider.*would use CPUExecutionProvider"):
        open_graph(folder / "backbone.onnx", backend=Backend.ORT_CUDA)


def test_tensorrt_gets_a_cache_and_the_folder_of_the_weights(workplace, monkeypatch):
    _, folder = workplace
    everything = PROVIDERS[Backend.ORT_TRT]
    opened = _runtime(monkeypatch, everything, everything)
    open_graph(folder / "backbone.onnx", backend=Backend.ORT_TRT)
    name, options = opened[0].asked[0]
    assert (name, opened[0].asked[1:]) == (everything[0], list(everything[1:]))
    assert options["trt_engine_cache_enable"]
    assert options["trt_onnx_model_folder_path"] == str(folder)
