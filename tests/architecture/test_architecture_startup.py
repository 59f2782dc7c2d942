"""What importing loads, seen from outside in a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

HEAVY = ["torch", "torchvision", "timm", "onnx", "onnx_ir", "onnxruntime", "matplotlib", "tensorrt", "scipy", "sklearn"]

IMPORT_AND_SAY_WHAT_CAME = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print(json.dumps([name for name in json.loads(sys.argv[2]) if name in sys.modules]))
"""

IMPORT_WITHOUT = """
import importlib, json, sys, traceback
sys.modules.update(dict.fromkeys(json.loads(sys.argv[2])))
failed = {}
for name in json.loads(sys.argv[1]):
    try:
        importlib.import_module(name)
    except ImportError as error:
        failed[name] = str(error)
print(json.dumps(failed))
"""


def _run(program: str, modules: list[str], libraries: list[str]) -> object:
    command = [sys.executable, "-c", program, json.dumps(modules), json.dumps(libraries)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _modules_free_of_torch(repository: Path) -> list[str]:
    rooms = {
        "mimi_edge": "mimi_edge",
        "cli": "mimi_edge.cli",
        "export": "mimi_edge.export",
        "profiles": "mimi_edge.profiles",
    }
    files = [file.relative_to(repository) for folder in rooms for file in sorted((repository / folder).rglob("*.py"))]
    names = {file: ".".join([rooms[file.parts[0]], *file.with_suffix("").parts[1:]]) for file in files}
    return [
        name.removesuffix(".__init__")
        for file, name in names.items()
        if file.parts[:2] != ("mimi_edge", "training")
        and file != Path("export/backbone_graph.py")
        and file.name != "__main__.py"
    ]


def _entry_module(repository: Path) -> str:
    """The module that the command `mimi-edge` starts."""
    found = re.search(r'^mimi-edge = "([\w.]+):\w+"$', (repository / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert found is not None
    return found[1]


def test_the_command_line_starts_without_heavy_libraries(repository: Path) -> None:
    entry = _entry_module(repository)
    commands = [name for name in _modules_free_of_torch(repository) if name.startswith("mimi_edge.cli")]
    assert entry in commands
    assert _run(IMPORT_AND_SAY_WHAT_CAME, [entry], HEAVY) == []
    assert _run(IMPORT_AND_SAY_WHAT_CAME, commands, HEAVY) == []


def test_the_method_and_its_task_files_load_no_heavy_library() -> None:
    light = ["mimi_edge", "mimi_edge.errors", "mimi_edge.budgets", "mimi_edge.tasks.task", "mimi_edge.tasks.files"]
    assert _run(IMPORT_AND_SAY_WHAT_CAME, light, HEAVY) == []


def test_a_name_of_the_package_is_loaded_when_it_is_asked_for() -> None:
    rooms = [f"mimi_edge.{room}" for room in ("cli", "export", "profiles", "training", "images", "errors")]
    assert _run(IMPORT_AND_SAY_WHAT_CAME, ["mimi_edge"], [*rooms, "numpy", *HEAVY]) == []
    asked = f"from mimi_edge import Predictor\n{IMPORT_AND_SAY_WHAT_CAME}"
    assert _run(asked, [], [*HEAVY, "mimi_edge.export.predictor"]) == ["mimi_edge.export.predictor"]


def test_everything_but_training_and_backbone_export_imports_where_torch_cannot_be(repository: Path) -> None:
    modules = _modules_free_of_torch(repository)
    assert {"mimi_edge.export.merge", "mimi_edge.profiles.latency", "mimi_edge.cli"} <= set(modules)
    assert _run(IMPORT_WITHOUT, modules, ["torch", "torchvision", "timm"]) == {}


def test_training_is_where_torch_is_missed() -> None:
    """The counterpart: hiding torch does what the test above takes it to do."""
    failed = _run(IMPORT_WITHOUT, ["mimi_edge.training.edited_model"], ["torch", "torchvision", "timm"])
    assert isinstance(failed, dict)
    assert "torch" in failed["mimi_edge.training.edited_model"]
