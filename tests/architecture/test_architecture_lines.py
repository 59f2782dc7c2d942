"""Lines that install something are made in one place, which knows how this copy was installed and on what."""

from __future__ import annotations

import ast
from pathlib import Path

ROOMS = ("mimi_edge", "cli", "export", "profiles")
MADE_IN = {Path("mimi_edge/parts.py"), Path("mimi_edge/installation.py"), Path("mimi_edge/builtin/make_data.py")}
"""make_data.py is run by whoever makes the built-in data again, in a checkout."""
TEXTS_FOR_OTHERS = {Path("export/archives/readme.py")}
"""What is read on another machine."""
WORDS = ("pip install ", "pip uninstall ", '"mimi-edge[')
PARTS_OF_LINES = {"pip install", "pip install --force-reinstall"}
"""A line that was made is changed by these."""


def written_out(source: str) -> list[str]:
    """Texts in a module's code that spell out such a line; docstrings are no messages."""
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]
    return [text for text in texts if any(word in f"{text} " for word in WORDS) and text not in PARTS_OF_LINES]


def test_no_message_spells_out_a_line_that_installs(repository: Path) -> None:
    found = {
        str(path): lines
        for room in ROOMS
        for file in sorted((repository / room).rglob("*.py"))
        if (path := file.relative_to(repository)) not in MADE_IN | TEXTS_FOR_OTHERS
        and (lines := written_out(file.read_text("utf-8")))
    }
    assert found == {}


def test_such_a_line_would_be_found() -> None:
    assert written_out('def f():\n    raise ValueError("It is missing: pip install x")\n')
    assert written_out("def f(x):\n    raise ValueError(f'It is missing ({x}): pip install x')\n")
    assert not written_out('"""Made with pip install x."""\n')
