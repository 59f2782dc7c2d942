"""The probes themselves, on this machine and on folders made for them."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from full_disk import room_for

from mimi_edge.profiles.doctor.ask import ask
from mimi_edge.profiles.doctor.probes import engines, gpus, machine
from mimi_edge.profiles.doctor.probes.runtimes import ONE_NODE
from mimi_edge.profiles.doctor.steps import CACHE, WORKING_FOLDER, Step

CACHE_STEP = Step(CACHE, "machine", "cache")


def facts_of(probe: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for facts in probe:
        found |= facts
    return found


def test_the_written_out_graph_is_one_multiplication() -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(ONE_NODE)
    onnx.checker.check_model(model, full_check=True)
    assert [(node.op_type, list(node.input), list(node.output)) for node in model.graph.node] == [
        ("MatMul", ["a", "b"], ["c"])
    ]


def test_the_cpu_provider_computes_and_others_are_tried_only_where_they_are_built_in() -> None:
    pytest.importorskip("onnxruntime")
    names = ("ort-cpu", "ort-cuda")
    answers = ask(*(Step(name, "runtimes", "provider", (name,)) for name in names))
    assert answers["ort-cpu"].facts["computes"] is True
    cuda = answers["ort-cuda"]
    assert ("computes" in cuda.facts or cuda.failure is not None) == cuda.facts["built_in"]


def test_a_cache_that_can_be_written_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (tmp_path, tmp_path / "not" / "made"):
        monkeypatch.setenv("MIMI_EDGE_CACHE", str(folder))
        facts = facts_of(machine.cache())
        assert facts["path"] == str(folder)
        assert facts["why_not"] is None
        assert facts["free_bytes"] > 0
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MIMI_EDGE_CACHE", str(tmp_path / "file" / "cache"))
    assert facts_of(machine.cache())["why_not"] == "Not a directory"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_of_somebody_else_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o500)
    monkeypatch.setenv("MIMI_EDGE_CACHE", str(tmp_path))
    assert facts_of(machine.cache())["why_not"] == "Permission denied"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIMI_EDGE_CACHE", str(tmp_path))
    with room_for(100_000):
        answer = ask(CACHE_STEP)[CACHE]
    assert answer.failure is None
    assert answer.facts["why_not"]
    assert list(tmp_path.iterdir()) == []


def test_a_working_folder_that_is_gone_is_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    answer = ask(Step(WORKING_FOLDER, "machine", "working_folder"))[WORKING_FOLDER]
    assert answer.failure is not None
    assert "FileNotFoundError" in answer.failure.text


def test_the_version_of_a_library_is_what_it_tells_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        def getInferLibVersion(self) -> int:  # noqa: N802  (as TensorRT calls it)
            return 101503

    asked: list[str] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda path: asked.append(path) or Library())
    maps = tmp_path / "maps"
    maps.write_text("7f00-7f01 r-xp 00000000 08:01 1  /usr/lib/libnvinfer.so.10.15.3\n")
    assert engines.library_version("libnvinfer.so", maps) == "10.15.3"
    assert asked == ["/usr/lib/libnvinfer.so.10.15.3"]
    assert engines.library_version("libtensorrt_rtx.so", maps) is None
    assert engines.library_version("libnvinfer.so", tmp_path / "nowhere") is None


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a shell")
@pytest.mark.parametrize("code", [0, 9])
def test_what_nvidia_smi_says_is_kept(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho Failed to initialize NVML >&2\nexit {code}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert facts_of(gpus.nvidia_smi()) == {"path": str(tool), "code": code, "said": ["Failed to initialize NVML"]}


def test_tensorrt_for_rtx_is_looked_at_where_it_is() -> None:
    answers = ask(*(Step(f"trt-rtx {what}", "engines", what, ("trt-rtx",)) for what in ("bindings", "builder")))
    bindings = answers["trt-rtx bindings"]
    if not bindings.facts["installed"]:
        pytest.skip("needs TensorRT for RTX")
    assert bindings.failure is None
    assert bindings.facts["version"].startswith(bindings.facts["library"])
    assert set(bindings.facts["wheels"].values()) == {bindings.facts["version"]}
    assert answers["trt-rtx builder"].facts["made"] is True
