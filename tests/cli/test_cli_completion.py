"""What the shell offers when somebody presses Tab."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_world import apart

LIBRARIES = ("torch", "timm", "numpy")
PROGRAM = "__C"
"""How Typer spells `-c`, which is what Python calls a program that it was given as text."""


@pytest.mark.parametrize(
    ("option", "begun", "offered"),
    [
        ("--score", "sn", ["snip"]),
        ("--backbone", "swin_t", ["swin_tiny_patch4_window7_224"]),
        ("--backbone", "buil", ["builtin"]),
        ("--device", "", ["auto", "cpu", "cuda"]),
        ("--augment", "flip", ["flip", "flip+shift"]),
    ],
)
def test_options_complete_without_a_library(option: str, begun: str, offered: list[str], tmp_path: Path) -> None:
    shell = {
        f"{PROGRAM}_COMPLETE": "complete_bash",
        "COMP_WORDS": f"mimi-edge train {option} {begun}",
        "COMP_CWORD": "3",
    }
    outcome = apart(folder=tmp_path, missing=LIBRARIES, **shell).ended(0)
    assert outcome.out.split() == offered
