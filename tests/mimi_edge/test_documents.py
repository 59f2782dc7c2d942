"""What documents from elsewhere may do to whoever reads them: nothing."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimi_edge.documents import (
    DocumentKind,
    FaultyError,
    json_value,
    opened_regular,
    parse_document,
    read_bytes,
    read_document,
    require_regular,
    typed,
    yaml_value,
)
from mimi_edge.errors import ArtifactError, ConfigError

NOTE = DocumentKind("a note", 10_000, "Write it again.", "Write one.")


class Ink(Enum):
    BLACK = "black"
    RED = "red"


@dataclass(frozen=True)
class Page:
    number: int
    width: float | None = None

    def __post_init__(self):
        if self.number < 0:
            raise ConfigError(f"a page has a number from 0, got {self.number}")


@dataclass(frozen=True)
class Note:
    title: str
    pages: tuple[Page, ...]
    ink: Ink = Ink.BLACK
    by_name: Mapping[str, Page] = field(default_factory=dict)
    size: tuple[float, float] = (1, 1)
    free: Mapping[str, Any] | str = ""


WHOLE = {"schema": 1, "title": "ä", "pages": [{"number": 1}], "ink": "red", "by_name": {"a.b": {"number": 2}}}


def written(tmp_path, content):
    path = tmp_path / "note.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def faults(value, **options):
    with pytest.raises(FaultyError) as caught:
        typed(value, Note, **options)
    return list(caught.value.faults)


def refusal(content, read=json_value):
    with pytest.raises(FaultyError) as caught:
        read(content)
    assert len(str(caught.value)) < 1000
    return str(caught.value)


def test_a_document_becomes_the_dataclass_that_was_asked_for(tmp_path):
    note = read_document(written(tmp_path, WHOLE), NOTE, Note)
    assert note == Note("ä", (Page(1),), Ink.RED, {"a.b": Page(2)})


def test_every_fault_is_named_with_its_place_what_was_expected_and_got():
    assert faults(
        {
            "pages": [{"number": True}, {"number": 1.5, "width": "x"}, {"number": -3}, 7],
            "ink": "blue",
            "by_name": {"a\x1b": {}},
            "size": [1],
            "free": 5,
            "extra": 1,
        }
    ) == [
        "by_name.'a\\x1b'.number is missing",
        "extra is not known; known are title, pages, ink, by_name, size, free",
        "free: expected a table or a text, got 5",
        "ink: expected one of black, red, got 'blue'",
        "pages[0].number: expected a whole number, got True",
        "pages[1].number: expected a whole number, got 1.5",
        "pages[1].width: expected a number, got 'x'",
        "pages[2]: a page has a number from 0, got -3",
        "pages[3]: expected a table, got 7",
        "size: expected a list of a number, a number, got [1]",
        "title is missing",
    ]


def test_entries_that_a_schema_does_not_know_may_be_passed_over():
    assert typed({"number": 1, "extra": 2}, Page, unknown_entries=True) == Page(1)
    with pytest.raises(FaultyError, match="extra is not known"):
        typed({"number": 1, "extra": 2}, Page)


def test_a_message_does_not_grow_with_the_document(tmp_path):
    hostile = {"title": 5, "pages": [{"x" * 1000: "y" * 9000}] * 3, "schema": 1} | {f"e{i}": i for i in range(2000)}
    path = written(tmp_path, hostile)
    kind = DocumentKind("a note", 10**6, "Write it again.")
    with pytest.raises(ArtifactError, match="more\nWrite it again") as caught:
        read_document(path, kind, Note)
    assert len(str(caught.value)) < 3000


def test_a_newer_version_says_what_to_do(tmp_path):
    with pytest.raises(ArtifactError, match=r"has schema 2; this mimi-edge reads up to 1\. Upgrade"):
        read_document(written(tmp_path, {"schema": 2, "new": 1}), NOTE, Note)


@pytest.mark.parametrize("version", [None, "1", True, 0, -1, 1.5, [1]])
def test_a_version_is_a_whole_number(tmp_path, version):
    with pytest.raises(ArtifactError, match="schema: expected a whole number from 1"):
        read_document(written(tmp_path, WHOLE | {"schema": version}), NOTE, Note)


def test_errors_are_of_the_kind_that_was_asked_for(tmp_path):
    kind = DocumentKind("a note", 100, "Mend it.", "Write one.", error=ConfigError)
    with pytest.raises(ConfigError, match=r"No such file or directory.*Write one"):
        read_document(tmp_path / "none", kind, Note)
    with pytest.raises(ConfigError, match=re.escape("it is no JSON")):
        parse_document("{", "somewhere", kind, Note)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[" * 100_000, "levels"),
        (b"[" * 26 + b"]" * 26, "levels"),
        (b'{"a":' * 30 + b"1" + b"}" * 30, "levels"),
        (b"NaN", "no JSON"),
        (b"[-Infinity]", "no JSON"),
        (b"1e999", "no JSON"),
        (b"9" * 4000, "no JSON|bits"),
        (b"9" * 400, "bits"),
        (b"\xff", "no JSON|UTF-8"),
        (b'"\xff"', "UTF-8"),
        (b'"\\ud800"', "no JSON"),
        (b"", "no JSON"),
        (b"{} {}", "no JSON"),
        (b"\0" * 100, "no JSON"),
    ],
)
def test_json_that_no_document_of_ours_is(content, said):
    assert re.search(said, refusal(content))


def test_json_of_some_depth_is_read():
    assert json_value(b"[" * 20 + b"]" * 20)
    assert json_value('{"a": [1, -1.5, null, true, "\\u0000"]}') == {"a": [1, -1.5, None, True, "\0"]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: &x [1]\nb: *x", "aliases .line 1"),
        (b"a: !!bool abc", "tags"),
        (b"a: !!python/object/apply:os.system [id]", "tags"),
        (b"[" * 60_000, "levels"),
        (b"- " * 40_000, "levels"),
        (b"? " * 30_000, "levels"),
        (b"- a\n" * 25_000, "values"),
        (b"a: " + b"1:" * 40_000 + b"1", "characters"),
        (b"a: 1\na: 2", "'a' is given twice .line 2"),
        (b"? [a]\n: 1", "no key"),
        (b'a: "\\ud800"', "no YAML"),
        (b"\xff", "UTF-8"),
        (b"a: [", "no YAML"),
        (b"a: \x01", "no YAML"),
    ],
)
def test_yaml_that_no_document_of_ours_is(content, said):
    assert re.search(said, refusal(content, yaml_value))


def test_yaml_has_texts_numbers_and_words_and_nothing_else():
    text = b"a: 1\nb: 1.5\nc: yes\nd: ~\ne: 2020-99-99\nf: _\ng: 1:1:1\nh: .inf\ni: 0x10\nj:\n<<: {k: x}\nl: -\n"
    with pytest.raises(FaultyError):
        yaml_value(text)  # a lone dash in a mapping
    assert yaml_value(text[:-5]) == {
        "a": 1,
        "b": 1.5,
        "c": True,
        "d": None,
        "e": "2020-99-99",
        "f": "_",
        "g": "1:1:1",
        "h": ".inf",
        "i": "0x10",
        "j": None,
        "<<": {"k": "x"},
    }


def test_only_a_regular_file_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(written(tmp_path, b"{}"))
    reasons = {tmp_path / "pipe": "a pipe", tmp_path: "a folder", "/dev/zero": "a device"}
    for path, reason in reasons.items():
        with pytest.raises(OSError, match=f"it is {reason}, no regular file") as caught:
            read_bytes(path, 100)
        assert caught.value.filename == str(path)
    assert read_bytes(tmp_path / "link", 100) == b"{}"
    with pytest.raises(OSError, match="it is a link"):
        read_bytes(tmp_path / "link", 100, follow_links=False)


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "sparse"
    with path.open("wb") as opened:
        opened.truncate(3 * 1000**3)
    with pytest.raises(OSError, match="3,000,000,000 bytes; expected at most 100"):
        read_bytes(path, 100)
    assert require_regular(path) == 3 * 1000**3
    with pytest.raises(ArtifactError, match=r"3,000,000,000 bytes.*Write one"):
        read_document(path, NOTE, Note)


def test_a_file_without_a_size_is_read_no_further_than_allowed():
    with opened_regular("/proc/self/status") as opened:
        assert os.fstat(opened.fileno()).st_size == 0
    with pytest.raises(OSError, match="more than 10 bytes"):
        read_bytes("/proc/self/status", 10)


MUTATIONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*WHOLE, "size", "free", "other"]), MUTATIONS))
def test_whatever_a_document_holds_reading_gives_a_value_or_our_error(changes):
    try:
        note = parse_document(json.dumps(WHOLE | changes), "here", NOTE, Note)
    except ArtifactError as error:
        note = str(error)
    assert isinstance(note, Note) or (note.startswith("here ") and len(note) < 10_000)
