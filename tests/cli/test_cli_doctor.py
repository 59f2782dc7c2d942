"""`mimi-edge doctor` from outside: on this machine, on a device without parts, and with broken libraries planted."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cli_world import Outcome, apart

from mimi_edge.cli.app import SUMMARIES
from mimi_edge.parts import TRAIN, install_line

TRAINING = ("torch", "torchvision", "timm", "onnxscript")
HIDE = """
import importlib.metadata as metadata, sys
from pathlib import Path

hidden = {hidden}
here = {{path.stem for path in Path(__file__).parent.iterdir()}}
sys.modules.update(dict.fromkeys(name for name in hidden if name not in here))
whole, all_of_them = metadata.Distribution.from_name, metadata.distributions

def from_name(name):
    if name.replace("-", "_") in hidden:
        raise metadata.PackageNotFoundError(name)
    return whole(name)

metadata.Distribution.from_name = from_name
metadata.distributions = lambda **wanted: (
    one for one in all_of_them(**wanted) if "tensorrt" not in one.metadata["Name"]
)
"""
"""Makes libraries not installed, for Python and for pip, in every process; modules planted beside it are found."""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """On this machine as it is."""
    return apart("doctor", "--json", folder=tmp_path_factory.mktemp("here"))


def with_planted(folder: Path, modules: Mapping[str, str], *options: str, **variables: str) -> Outcome:
    """With these modules before all others, and without what takes time to load."""
    hidden = {*TRAINING, "matplotlib", "tensorrt_rtx_bindings", "tensorrt_rtx"}
    planted = folder / "planted"
    planted.mkdir()
    for name, source in {**modules, "sitecustomize": HIDE.format(hidden=hidden)}.items():
        (planted / f"{name}.py").write_text(source)
    return apart("doctor", *options, folder=folder, PYTHONPATH=str(planted), **variables)


def states(document: Any) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for finding in document["findings"]:
        found.setdefault(finding["state"], set()).add(finding["topic"])
    return found


def test_this_machine_can_do_what_its_tests_do(here: Outcome) -> None:
    document = here.document
    assert here.code == (0 if document["healthy"] else 1)
    assert "looking: " in here.err or here.err == ""
    can = {one["command"]: one["can"] for one in document["commands"]}
    assert can["predict, profile --backend ort-cpu"] == "yes"
    assert (can["train, plan"] == "yes") == all(importlib.util.find_spec(name) for name in TRAINING[:3])
    assert document["facts"]["ort-cpu"]["computes"] is True
    assert document["facts"]["cache"]["why_not"] is None


def test_every_command_is_spoken_of(here: Outcome) -> None:
    words = " ".join(one["command"] for one in here.document["commands"]).replace(",", "").split()
    assert set(SUMMARIES) - {"doctor"} <= set(words)


def test_a_device_without_parts_is_healthy_and_told_how_to_get_them(tmp_path: Path) -> None:
    outcome = with_planted(tmp_path, {}, COLUMNS="80", FORCE_COLOR="1").ended(0)  # as on a terminal
    lines = re.sub(r"\x1b\[[0-9;]*m", "", outcome.out).splitlines()
    assert install_line(TRAIN) in [line.strip() for line in lines]
    assert "missing, training: torch, torchvision, timm and onnxscript are not" in "\n".join(lines)
    # A line to type is whole, however long the folder of the checkout is.
    too_long = [line for line in lines if len(line.rstrip()) > 80 and "pip install" not in line]
    assert too_long == []


def test_broken_libraries_are_findings_and_not_the_end(tmp_path: Path) -> None:
    modules = {
        "torch": "import os; os.abort()",
        "timm": "raise SystemExit(0)",
        "onnxruntime": "import ctypes; ctypes.string_at(0)",
        "matplotlib": "raise ImportError('libfreetype.so.6: cannot open shared object file')",
        "pynvml": "print('loud'); __version__ = object()",
    }
    outcome = with_planted(tmp_path, modules, "--json")
    document = outcome.ended(1).document
    assert {"torch", "timm", "onnxruntime", "matplotlib"} <= states(document)["broken"]
    assert "pynvml" not in states(document)["broken"]
    by_topic = {one["topic"]: one for one in document["findings"]}
    assert "SIGABRT" in by_topic["torch"]["text"]
    assert "SIGSEGV" in by_topic["onnxruntime"]["text"]
    assert "libfreetype" in by_topic["matplotlib"]["text"]
    assert by_topic["onnxruntime"]["line"].startswith(f"mv {tmp_path / 'planted' / 'onnxruntime.py'} ")
    can = {one["command"]: one["can"] for one in document["commands"]}
    assert can["train, plan"] == "no"
    assert next(value for command, value in can.items() if "inspect" in command) == "yes"


def test_a_broken_core_is_told_as_well(tmp_path: Path) -> None:
    outcome = with_planted(tmp_path, {"numpy": "raise RuntimeError('built for another machine')"}).ended(1)
    assert "broken, numpy: " in outcome.out
    assert "built for another machine" in " ".join(outcome.out.split())
    assert "all commands" in outcome.out


def test_a_library_that_hangs_costs_its_limit_and_no_more(tmp_path: Path) -> None:
    outcome = with_planted(tmp_path, {"pynvml": "import time; time.sleep(1000)"}, "--json", "--limit", "3").ended(1)
    finding = next(one for one in outcome.document["findings"] if one["topic"] == "pynvml")
    assert "it takes longer than 3 s" in finding["text"]


def test_a_cache_that_cannot_be_written_is_broken(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    outcome = with_planted(tmp_path, {}, MIMI_EDGE_CACHE=str(tmp_path / "file" / "cache")).ended(1)
    assert "broken, cache: " in outcome.out
    assert "export MIMI_EDGE_CACHE=FOLDER" in [line.strip() for line in outcome.out.splitlines()]
