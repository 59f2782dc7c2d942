"""What is printed, where, and how it looks where it is looked at."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from cli_world import Packaged, Trained, apart, ended, started

from mimi_edge.cli import output, progress
from mimi_edge.events import Advance, Note
from mimi_edge.profiles.rendering.table import Table

ON_A_TERMINAL = """
from mimi_edge.cli.output import say_on
from mimi_edge.cli.progress import watching
from mimi_edge.events import Advance, Note
with watching() as listener:
    listener(Advance("reading train images", 0, 10))
    listener(Advance("reading train images", 10, 10))
    for step in range(1, 101):
        figures = {"epoch": f"{step}/100", "loss": "0.1234", "images/s": "123456", "val": "100.0%"}
        listener(Advance("training 12 of 14", step, 100, figures))
    listener(Note("Pruned [bold]much[bold]."))
"""


def _on_a_terminal(program: str, columns: int, **variables: str) -> str:
    """Everything that a program writes to a terminal of so many columns."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    environment |= {"TERM": "xterm-256color", **variables}
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=slave, stdout=slave, stderr=slave, env=environment
    )
    os.close(slave)
    said = b""
    try:
        while chunk := os.read(master, 65536):
            said += chunk
    except OSError:  # the other side is closed
        pass
    os.close(master)
    assert process.wait() == 0, said.decode()
    return said.decode()


def _lines(said: str) -> list[str]:
    """The lines, as they are on the screen before anything is written over them."""
    return [
        line for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said).replace("\r", "\n").split("\n") if line.strip()
    ]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_progress_fits_the_terminal(columns: int) -> None:
    said = _on_a_terminal(ON_A_TERMINAL, columns)
    lines = _lines(said)
    assert max(map(len, lines)) <= max(
        columns, len("training 12 of 14: epoch 100/100  loss 0.1234  images/s 123456  val 100.0%")
    )
    assert "training 12 of 14: epoch 100/100  loss 0.1234  images/s 123456  val 100.0%" in lines
    assert "Pruned [bold]much[bold]." in lines
    assert not any(line.startswith("reading") for line in lines[-2:])


HOSTILE = """
from mimi_edge.cli.output import say
from mimi_edge.cli.progress import watching
from mimi_edge.events import Advance, Note
name = "a\\x1b]0;owned\\x07b\\x9b31m\\u202ec"
with watching() as listener:
    for step in range(3):
        listener(Advance(name, step, 2, {name: name}))
    listener(Note(name))
say(name)
"""


def test_a_name_from_elsewhere_steers_no_terminal_through_progress() -> None:
    said = _on_a_terminal(HOSTILE, 200)
    assert "\x1b]0;" not in said
    assert not set(said) & set("\x07\x9b\u202e")
    assert said.count(r"a\x1b]0;owned\x07b\x9b31m\u202ec") >= 4


def test_without_colour_there_is_none() -> None:
    assert re.search(r"\x1b\[[0-9;]*3[0-9]", _on_a_terminal(ON_A_TERMINAL, 80))
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", _on_a_terminal(ON_A_TERMINAL, 80, NO_COLOR="1"))


def test_away_from_a_terminal_short_stages_are_silent_and_figures_are_said_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress.watching() as listener:
        for done in range(11):
            listener(Advance("reading train images", done, 10))
        for step in range(101):
            listener(Advance("training 1 of 2", step, 100, {"loss": str(step)}))
        listener(Note("[bold]"))
    said = capsys.readouterr()
    assert said.err.splitlines() == ["training 1 of 2: 100/100  loss 100", "[bold]"]
    assert said.out == ""


def test_away_from_a_terminal_a_long_stage_is_heard_of(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.watching() as listener:
        for done in range(31):
            listener(Advance("reading", done, 30))
    assert capsys.readouterr().err.splitlines() == [
        "reading: 1/30",
        "reading: 11/30",
        "reading: 21/30",
        "reading: 30/30",
    ]


def test_tables_mean_what_they_say(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("[bold]red[/bold]", 1), ("\x1b[31mred\x07", 2), ("日本語" * 30, 3), ("🙂" * 60, 12_345)]
    output.show_table(Table.of("[i]title[/i]", ("name", "[b]figure"), rows))
    said = capsys.readouterr().out
    assert "[i]title[/i]" in said
    assert "[b]figure" in said
    assert "[bold]red[/bold]" in said
    assert r"\x1b[31mred\x07" in said
    assert "\x1b" not in said
    assert said.replace(" ", "").replace("\n", "").count("🙂") == 60
    assert "12345" in said


@pytest.mark.parametrize("title", ["Installed in a folder, a new package", "/long" * 60])
def test_a_title_is_whole_where_its_table_is_narrow(title: str, capsys: pytest.CaptureFixture[str]) -> None:
    output.show_facts(title, {"added": "x"})
    output.show_table(Table.of(title, ("name", "bytes"), [("x", 1)]))
    assert [line for line in capsys.readouterr().out.splitlines() if line == title] == 2 * [title]


def test_headings_are_whole_where_columns_are_narrow() -> None:
    program = (
        "from mimi_edge.cli.output import show_table\nfrom mimi_edge.profiles.rendering.table import Table\n"
        "columns = ('training', 'epochs', 'neurons, about', 'task file, bytes at most', 'GFLOPs at most')\n"
        "show_table(Table.of('Plan', columns, [(1, 12, '12,345', '1,247,782', '0.1405')]))\n"
    )
    lines = _lines(_on_a_terminal(program, 80))
    assert all(len(line) <= 80 for line in lines)
    words = " ".join(lines).split()
    assert words.count("most") == 2
    assert {"about", "12,345", "1,247,782", "0.1405"} <= set(words)


def test_figures_are_not_broken_where_columns_are_narrow() -> None:
    program = (
        "from mimi_edge.cli.output import show_table\nfrom mimi_edge.profiles.rendering.table import Table\n"
        "rows = [(f'layers.{site}.blocks.0.attn', *range(100, 108)) for site in range(4)]\n"
        "show_table(Table.of('Neurons per site', ('site', *map(str, range(1, 9))), rows))\n"
    )
    lines = _lines(_on_a_terminal(program, 80))
    assert all(len(line) <= 80 for line in lines)
    assert sum(line.split()[1:] == [str(number) for number in range(100, 108)] for line in lines) == 4


def test_json_is_what_any_encoding_can_hold(trained: Trained, tmp_path: Path) -> None:
    plain = apart("inspect", trained.task_file, "--json", folder=tmp_path, PYTHONIOENCODING="ascii").ended(0)
    assert plain.out.isascii()
    assert plain.document == apart("inspect", trained.task_file, "--json", folder=tmp_path).ended(0).document
    apart("inspect", trained.task_file, folder=tmp_path, PYTHONIOENCODING="ascii").ended(0)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_goes_away_is_no_error(options: list[str], packaged: Packaged, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = started("inspect", packaged.folder, *options, folder=tmp_path, stdout=writer)
    os.close(writer)
    outcome = ended(process)
    assert outcome.err == ""
    assert outcome.code == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_result_that_cannot_be_written_is_an_error(options: list[str], trained: Trained, tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123  (a device)
        process = started("inspect", trained.task_file, *options, folder=tmp_path, stdout=full.fileno())
        outcome = ended(process).ended(1)
    assert "No space left" in outcome.err


def test_talk_goes_to_stderr_and_one_document_to_stdout(trained: Trained, packaged: Packaged) -> None:
    for outcome in (trained.outcome, packaged.outcome):
        assert json.loads(outcome.out)
        assert outcome.err
