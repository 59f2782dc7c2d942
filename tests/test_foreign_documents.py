"""Documents from elsewhere, changed in every way: reading one gives a value or an error of ours, in few words."""

import copy
import json
import os
import threading
from pathlib import Path

import pytest
from foreign_documents import Kind, kinds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mimi_edge.errors import MimiEdgeError

LONGEST_MESSAGE = 10_000
NAMES = ("manifest", "archive", "task", "graph", "adapters", "config", "split", "report", "device")
NASTY = (
    *(None, True, False, "", "x", "1", -1, 0, 1, 2**31, 2**63, 10**400, 0.5, 1e308, -1e308),
    *([], {}, [[]], [1], [None], {"a": 1}, [["a", "b"]], "y" * 5000, "\x1b[31m\u202e\x9b", "\x00", "../x", "NaN"),
)
DEEP = json.loads("[" * 60 + "]" * 60)


def places(value, before=()):
    """Every place in a document; of a list the first two."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*before, key)
            yield from places(inner, (*before, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value[:2]):
            yield (*before, index)
            yield from places(inner, (*before, index))


@st.composite
def changed(draw, document):
    """The document with one to three places changed, as bytes; now and then bytes that are no JSON any more."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from(list(places(document)) or [("x",)]))
        inner = document
        for part in above:
            inner = inner[part]
        what = draw(st.sampled_from(["replaced", "replaced", "dropped", "joined", "deep"]))
        if what == "dropped":
            del inner[last]
        elif what == "joined" and isinstance(inner, dict):
            inner[draw(st.sampled_from(["extra", "", "\x1b[2J", "z" * 3000]))] = copy.deepcopy(
                draw(st.sampled_from(NASTY))
            )
        else:
            inner[last] = copy.deepcopy(DEEP if what == "deep" else draw(st.sampled_from(NASTY)))
        if not document:
            break
    content = json.dumps(document).encode()
    damage = draw(st.sampled_from(["none", "none", "cut", "infinite", "byte"]))
    where = draw(st.integers(0, len(content)))
    if damage == "cut":
        return content[:where]
    if damage == "infinite":
        return content.replace(b": 1", draw(st.sampled_from([b": Infinity", b": NaN", b": 1e999", b": 9" * 1])), 1)
    if damage == "byte":
        return content[:where] + bytes([draw(st.integers(0, 255))]) + content[where + 1 :]
    return content


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("foreign")


@pytest.fixture(scope="module")
def known(folder) -> dict[str, Kind]:
    return kinds(folder)


def refusal(kind: Kind, folder: Path) -> str | None:
    """What is said against the document that lies there, None where it is taken."""
    try:
        kind.read(folder)
    except MimiEdgeError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_document_is_taken(name, known, folder):
    known[name].lay(folder, json.dumps(known[name].document).encode())
    said = refusal(known[name], folder)
    assert said is None or name in ("adapters", "archive")  # whose other files are not there


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_a_changed_document_is_taken_or_refused_in_few_words(name, data, known, folder):
    known[name].lay(folder, data.draw(changed(known[name].document)))
    said = refusal(known[name], folder)
    assert said is None or 0 < len(said) < LONGEST_MESSAGE


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "content",
    [b"", b"[" * 100_000, b'{"a":' * 50_000, b"{}", b"[]", b"null", b"1", b"\xff\xfe{}", b"\0" * 1000],
    ids=["empty", "lists", "tables", "table", "list", "null", "number", "utf16", "zeros"],
)
def test_no_document_at_all_is_refused(name, content, known, folder):
    if name == "graph" and not content.isascii():
        pytest.skip("protobuf takes no such text")
    known[name].lay(folder, content)
    if name == "archive":
        known[name].read(folder)  # gives faults itself
        return
    said = refusal(known[name], folder)
    assert said is not None
    assert len(said) < LONGEST_MESSAGE


FILES = {
    "manifest": f"whole{os.sep}manifest.json",
    "task": "task.safetensors",
    "graph": "graph.onnx",
    "adapters": "ort-adapters.json",
    "config": "config.json",
    "split": "split.json",
    "report": "report.json",
    "device": "board.yaml",
}


def within(seconds, call):
    """Calls in a thread, so that waiting for ever is a failure and no hang."""
    found = []
    thread = threading.Thread(target=lambda: found.append(call()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert found, "it waits"
    return found[0]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("what", ["pipe", "folder", "device"])
def test_what_is_no_file_is_refused_and_not_waited_for(name, what, known, folder):
    path = folder / FILES[name]
    kept = path.with_name(path.name + ".kept")
    if path.exists():
        path.rename(kept)
    try:
        {"pipe": os.mkfifo, "folder": os.mkdir, "device": lambda at: at.symlink_to("/dev/zero")}[what](path)
        said = within(60, lambda: refusal(known[name], folder))
    finally:
        path.rmdir() if what == "folder" else path.unlink()
        if kept.exists():
            kept.rename(path)
    assert said is not None
    assert {"pipe": "a pipe", "folder": "a folder", "device": "a device"}[what] in said


@pytest.mark.parametrize("name", FILES)
def test_a_sparse_file_is_refused_from_its_size(name, known, folder, monkeypatch):
    path = folder / FILES[name]
    kept = path.with_name(path.name + ".kept")
    if path.exists():
        path.rename(kept)
    try:
        with path.open("wb") as opened:
            opened.truncate(3 * 1000**3)
        said = within(60, lambda: refusal(known[name], folder))
    finally:
        path.unlink()
        if kept.exists():
            kept.rename(path)
    assert said is not None
    assert "3,000,000,000 bytes" in said
