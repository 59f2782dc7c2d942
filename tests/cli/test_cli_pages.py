"""README and docs name only commands, options, parts and pages that there are."""

from __future__ import annotations

import re
import subprocess
import sys
from inspect import cleandoc
from pathlib import Path

import pytest
from typer.main import get_command

from mimi_edge.cli.app import SUMMARIES, app

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
LINE = re.compile(r"^(?:\S*/)?mimi-edge +([a-z-]+)([^#\n]*)", re.MULTILINE)
OPTION = re.compile(r"(?<!\S)(--?[a-zA-Z][a-z0-9-]*)")
PART = re.compile(r"(?:mimi-edge|whl|\.)\[([a-z,]+)\]")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


def lines_to_type(page: Path) -> list[tuple[str, str]]:
    """Commands in a page's blocks of code, and what follows them."""
    blocks = re.findall(r"^```.*?$(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in LINE.findall(block)]


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    """What each command takes."""
    commands = get_command(app).commands  # type: ignore[attr-defined]
    return {
        name: {"--help", "-h", *(option for parameter in command.params for option in parameter.opts)}
        for name, command in commands.items()
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_to_type_are_commands_with_their_options(page: Path, options: dict[str, set[str]]) -> None:
    for command, rest in lines_to_type(page):
        assert command in options, f"{page.name}: mimi-edge {command}"
        unknown = set(OPTION.findall(rest)) - options[command]
        assert not unknown, f"{page.name}: mimi-edge {command}{rest}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_parts_are_those_that_can_be_installed(page: Path) -> None:
    known = set(re.findall(r"^([a-z]+) = \[", (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE))
    assert {part for named in PART.findall(page.read_text()) for part in named.split(",")} <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()] == []


def test_every_page_is_linked_from_another() -> None:
    linked = {(page.parent / link).resolve() for page in PAGES for link in LINK.findall(page.read_text())}
    assert [page.name for page in PAGES[1:] if page not in linked] == []


def test_the_readme_begins_with_the_three_bare_commands() -> None:
    first = lines_to_type(REPOSITORY / "README.md")[:3]
    assert [(command, rest.strip()) for command, rest in first] == [
        ("train", "--budget-mb 0.5"),
        ("export", "--format trt"),
        ("profile", ""),
    ]


def test_the_list_of_commands_says_what_each_command_s_own_help_begins_with() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert {name: cleandoc(command.help).split("\n\n")[0].replace("\n", " ") for name, command in commands.items()} == (
        SUMMARIES
    )


def test_help_loads_no_command() -> None:
    """Nor does one command load another."""
    run = "from mimi_edge.cli.app import app; app(sys.argv[1:], standalone_mode=False)"
    seen = f"import sys; {run}; print(*sys.modules)"
    for words, loaded in ((["--help"], set()), (["pack", "--help"], {"pack"})):
        done = subprocess.run([sys.executable, "-c", seen, *words], capture_output=True, text=True, check=True)
        modules = {name for name in SUMMARIES if f"mimi_edge.cli.{name.replace('-', '_')}" in done.stdout.split()}
        assert modules == loaded
