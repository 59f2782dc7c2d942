"""Archives that are damaged or meant badly: refused, with nothing written anywhere."""

from __future__ import annotations

import gzip
import json
import tarfile
import unicodedata
import zipfile

import onnx
import pytest
from archive_samples import assert_refused, content, forged, tarred, unpacked, written
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mimi_edge.errors import ArtifactError
from mimi_edge.export.archives import contents as limits
from mimi_edge.export.archives.install import install_from
from mimi_edge.export.archives.read import examine, unpack
from mimi_edge.export.archives.tar import END, member_header
from mimi_edge.export.archives.verify import checked_archive, verify
from mimi_edge.files import sha256_of

SHARED = settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def test_what_was_packed_is_whole(full, delta):
    for archive, kind in ((full, "full archive"), (delta, "tasks archive")):
        verdict = verify(archive)
        assert verdict.faults == ()
        assert (verdict.kind, verdict.tasks, verdict.sha256) == (kind, ("a", "b"), sha256_of(archive))


@SHARED
@given(st.data())
def test_no_bit_can_be_turned(full, delta, place, data):
    whole = data.draw(st.sampled_from([full, delta])).read_bytes()
    altered = bytearray(whole)
    altered[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    archive = place.parent / "altered.tar"
    archive.write_bytes(altered)
    assert_refused(archive, place)


def test_nothing_can_stand_between_the_files(full, place):
    """Where tar reads nothing, neither in a header nor behind a file, nothing can be hidden."""
    whole = bytearray(full.read_bytes())
    archive = place.parent / "altered.tar"
    position, gaps = 0, []
    for name, data in unpacked(full).items():
        gaps += [position + 500, position + 511]
        position += len(member_header(name, len(data))) + len(data)
        gaps += [position, position + -len(data) % 512 - 1] if len(data) % 512 else []
        position += -len(data) % 512
    for gap in (*gaps, position, len(whole) - 1):
        assert whole[gap] == 0
        whole[gap] = 1
        archive.write_bytes(whole)
        assert examine(archive).faults, gap
        whole[gap] = 0
    archive.write_bytes(whole)
    assert not examine(archive).faults


@SHARED
@given(st.data())
def test_nothing_can_be_missing_at_the_end_or_come_after_it(full, place, data):
    whole = full.read_bytes()
    archive = place.parent / "altered.tar"
    if data.draw(st.booleans()):
        archive.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    else:
        archive.write_bytes(whole + data.draw(st.binary(min_size=1, max_size=2000)))
    assert_refused(archive, place)


NAMES = st.one_of(
    st.sampled_from(
        ["../x", "/etc/x", "a/../../x", "..", ".", "", "C:\\x", "\\\\host\\x", "x\0y", "engines/x.engine", ".bashrc"]
    ),
    st.text(max_size=20),
)


@SHARED
@given(NAMES)
def test_no_file_of_another_name_is_taken(full, place, name):
    archive = forged(full, place.parent / "forged.tar", files={_encodable(name): b"evil"})
    if name in unpacked(full):
        return
    assert repr(_encodable(name)) in assert_refused(archive, place)


@SHARED
@given(NAMES.filter(lambda name: name != "a"))
def test_no_file_of_a_task_has_another_name(delta, place, name):
    def spoil(document):
        document["tasks"]["a"]["graph"] = name
        document["files"][name] = document["files"].pop("a.onnx")

    members = {name if old == "a.onnx" else old: data for old, data in unpacked(delta).items()}
    document = json.loads(members.pop("manifest.json"))
    members.pop("SHA256SUMS")
    spoil(document)
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    members = {_encodable(old): data for old, data in members.items()}
    assert_refused(written(place.parent / "forged.tar", text, members), place)


def _encodable(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


@SHARED
@given(st.sampled_from(["../a", "/a", "a/b", ".a", "", "backbone", "a\nb", "a\x1b[2J", "MANIFEST", "x" * 201]))
def test_no_task_has_a_name_that_files_should_not_have(full, place, name):
    def spoil(document):
        document["tasks"][name] = {"task": f"{name}.safetensors", "graph": f"{name}.onnx", "check": {}}

    data = {f"{name}{suffix}": unpacked(full)[f"a{suffix}"] for suffix in (".onnx", ".safetensors")}
    assert "cannot be called" in assert_refused(
        forged(full, place.parent / "forged.tar", files=data, spoil=spoil), place
    )


@pytest.mark.parametrize(
    ("one", "other"), [("A", "a"), ("é", unicodedata.normalize("NFD", "é")), ("straße", "STRASSE"), ("Å", "\u212b")]
)
def test_names_that_some_disks_take_for_one_are_refused(full, place, one, other):
    def spoil(document):
        for name in (one, other):
            document["tasks"][name] = {"task": f"{name}.safetensors", "graph": f"{name}.onnx", "check": {}}

    found = unpacked(full)
    data = {f"{name}{end}": found[f"a{end}"] for name in (one, other) for end in (".onnx", ".safetensors")}
    assert "only in case" in assert_refused(forged(full, place.parent / "forged.tar", files=data, spoil=spoil), place)


SPOILS = {
    "a missing task file": lambda document: document["files"].pop("a.safetensors"),
    "no files": lambda document: document.update(files={}),
    "no tasks": lambda document: document.update(tasks={}),
    "a list": lambda document: document.update(files=[]),
    "a size as a text": lambda document: document["files"]["a.onnx"].update(size_bytes="1"),
    "a size below nothing": lambda document: document["files"]["a.onnx"].update(size_bytes=-1),
    "a size without end": lambda document: document["files"]["a.onnx"].update(size_bytes=float("inf")),
    "a hash that is none": lambda document: document["files"]["a.onnx"].update(sha256="../../x"),
    "a hash that is a number": lambda document: document["files"]["a.onnx"].update(sha256=5),
    "another hash": lambda document: document["files"]["a.onnx"].update(sha256="0" * 64),
    "a key too many": lambda document: document.update(more=1),
    "a file's key too many": lambda document: document["files"]["a.onnx"].update(mode=0o4755),
    "pending files": lambda document: document.update(pending=["a.onnx"]),
    "leaving files": lambda document: document.update(leaving=["x.onnx"]),
    "kept files": lambda document: document.update(previous={"a": None}),
    "another kind": lambda document: document["archive"].update(kind="tasks"),
    "no kind": lambda document: document.pop("archive"),
    "another need": lambda document: document["archive"].update(needs={"x": document["files"]["a.onnx"]}),
    "another backbone": lambda document: document["backbone"].update(sha256="8" * 64),
    "another size of images": lambda document: document["backbone"].update(input_size=8),
    "a backbone that is none": lambda document: document["backbone"].update(name=[]),
    "a check that is none": lambda document: document["tasks"]["a"].update(check=[]),
    "half a letter": lambda document: document["tasks"]["a"]["check"].update(x="\ud800"),
    "exchanged tasks": lambda document: document["tasks"].update(a=document["tasks"]["b"]),
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS.keys())
def test_a_manifest_that_is_wrong_is_refused_though_every_hash_agrees(full, place, spoil):
    assert_refused(forged(full, place.parent / "forged.tar", spoil=spoil), place)


def test_what_is_forged_without_a_fault_is_taken(full, place):
    """The counterpart: the forger above forges well."""
    assert forged(full, place.parent / "forged.tar").read_bytes() == full.read_bytes()


@pytest.mark.parametrize(
    "text", ["{}", "[]", "7", '"x"', "", "{", "\xff", "[" * 100_000, '{"archive": {"format": 1e999}}']
)
def test_a_manifest_that_is_none_is_refused(full, place, text):
    members = {name: data for name, data in unpacked(full).items() if name not in {"manifest.json", "SHA256SUMS"}}
    assert_refused(written(place.parent / "forged.tar", text.encode("latin-1"), members), place)


def test_a_manifest_that_says_a_thing_twice_is_refused(full, place):
    members = unpacked(full)
    text = members.pop("manifest.json").replace(b'{\n "archive"', b'{\n "schema": 1,\n "archive"')
    members.pop("SHA256SUMS")
    assert "not written as" in assert_refused(written(place.parent / "forged.tar", text, members), place)


@pytest.mark.parametrize("newer", [lambda it: it["archive"].update(format=2), lambda it: it.update(schema=2)])
@pytest.mark.usefixtures("from_an_index")
def test_a_newer_archive_says_to_upgrade(full, place, newer):
    assert "--upgrade" in assert_refused(forged(full, place.parent / "forged.tar", spoil=newer), place)


def test_a_huge_manifest_is_not_read(place):
    """Neither one that says so nor one that is."""
    archive = place.parent / "huge.tar"
    for size_bytes in (limits.LARGEST_MANIFEST_BYTES + 1, 8**11 - 1):
        with archive.open("wb") as opened:
            opened.write(member_header("manifest.json", size_bytes))
            opened.truncate(20_000_000)
        assert "are allowed" in assert_refused(archive, place)


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("a.onnx", 64_000_000),
        ("a.safetensors", 256_000_000),
        ("README.txt", 8_000_000),
        ("backbone.weights", 8**11 - 1),
    ],
)
def test_sizes_beyond_measure_are_refused_before_they_are_believed(full, place, name, most):
    for size_bytes in (most + 1, 10**15):
        archive = forged(
            full,
            place.parent / "forged.tar",
            spoil=lambda document, size_bytes=size_bytes: document["files"][name].update(size_bytes=size_bytes),
        )
        assert f"{name}: it is said to have {size_bytes:,} bytes; at most {most:,}" in assert_refused(archive, place)


def test_a_size_that_the_file_does_not_have_is_refused(full, place):
    def spoil(document):
        document["files"]["backbone.weights"]["size_bytes"] = 7_000_000_000

    assert "by its manifest.json it has 7,000," in assert_refused(
        forged(full, place.parent / "forged.tar", spoil=spoil), place
    )


def test_all_together_may_not_be_too_much(full, monkeypatch, place):
    monkeypatch.setattr(limits, "LARGEST_ARCHIVE_BYTES", full.stat().st_size - 1)
    assert "at most" in assert_refused(full, place)


def _info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


INTRUDERS = {
    "a symbolic link": (_info("x", tarfile.SYMTYPE, "/etc/passwd"), b""),
    "a symbolic link of a file's name": (_info("a.onnx", tarfile.SYMTYPE, "../../x"), b""),
    "a hard link": (_info("x", tarfile.LNKTYPE, "manifest.json"), b""),
    "a character device": (_info("x", tarfile.CHRTYPE), b""),
    "a block device": (_info("x", tarfile.BLKTYPE), b""),
    "a pipe": (_info("x", tarfile.FIFOTYPE), b""),
    "a folder": (_info("engines", tarfile.DIRTYPE), b""),
    "a path upward": (_info("../x"), b"evil"),
    "a path from the root": (_info("/tmp/x"), b"evil"),  # noqa: S108
    "a file twice": (_info("a.onnx"), b"evil"),
    "the manifest twice": (_info("manifest.json"), b"{}"),
    "a sparse file": (_info("x", tarfile.GNUTYPE_SPARSE), b""),
    "one file more": (_info("x.onnx"), b"evil"),
}


@pytest.mark.parametrize("where", [0, 1, 4, -1])
@pytest.mark.parametrize("intruder", INTRUDERS.values(), ids=INTRUDERS.keys())
def test_what_is_put_between_is_refused(full, place, intruder, where):
    members = [(_info(name), data) for name, data in unpacked(full).items()]
    members.insert(where if where >= 0 else len(members), intruder)
    archive = tarred(place.parent / "forged.tar", members)
    # Python's tar fills up the end, which alone would be refused: this is the archive without.
    archive.write_bytes(archive.read_bytes().rstrip(b"\0").ljust(_end(members), b"\0") + END)
    assert_refused(archive, place)


def _end(members: list[tuple[tarfile.TarInfo, bytes]]) -> int:
    return sum(512 + -(-len(data) // 512) * 512 for _, data in members)


@pytest.mark.parametrize("drop", range(9))
def test_what_is_left_out_is_missed(full, place, drop):
    name = list(unpacked(full))[drop]
    members = {kept: data for kept, data in unpacked(full).items() if kept != name}
    parts = [member_header(kept, len(data)) + data + bytes(-len(data) % 512) for kept, data in members.items()]
    archive = place.parent / "less.tar"
    archive.write_bytes(b"".join(parts) + END)
    assert name in assert_refused(archive, place)


def test_members_in_another_order_are_refused(full, place):
    members = list(unpacked(full).items())
    members[3], members[4] = members[4], members[3]
    parts = [member_header(name, len(data)) + data + bytes(-len(data) % 512) for name, data in members]
    archive = place.parent / "order.tar"
    archive.write_bytes(b"".join(parts) + END)
    assert_refused(archive, place)


def test_compressed_files_are_refused_whatever_they_would_become(full, place):
    archive = place.parent / "archive.tar"
    archive.write_bytes(gzip.compress(full.read_bytes()))
    assert "gzip data" in assert_refused(archive, place)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("manifest.json", "0" * 10**7)
    assert "zip data" in assert_refused(archive, place)
    tarred(archive, [(_info("manifest.json"), b"0" * 10**6)], "w:bz2")
    assert "bzip2 data" in assert_refused(archive, place)


def test_graphs_that_lead_elsewhere_are_refused_though_every_hash_agrees(full, place):
    model = onnx.load_from_string(unpacked(full)["a.onnx"])
    external = next(tensor for tensor in model.graph.initializer if tensor.external_data)
    for wrong in ("../secret", "/etc/passwd", "b.safetensors", "missing"):
        next(entry for entry in external.external_data if entry.key == "location").value = wrong
        archive = forged(full, place.parent / "forged.tar", files={"a.onnx": model.SerializeToString()})
        assert wrong in assert_refused(archive, place)


def test_files_of_other_content_are_refused_though_every_hash_agrees(full, place):
    found = unpacked(full)
    for name, data, said in (
        ("a.onnx", b"no graph", "a.onnx"),
        ("a.onnx", found["backbone.onnx"], "a.onnx was not made from a.safetensors"),
        ("a.onnx", found["b.onnx"], "a.onnx"),
        ("a.safetensors", b"no task", "a.safetensors"),
        ("a.safetensors", found["b.safetensors"], "is of task 'b'"),
        ("backbone.onnx", found["a.onnx"], "expected the bare backbone"),
        ("backbone.weights", b"short", "ends at 5"),
    ):
        said_instead = assert_refused(forged(full, place.parent / "forged.tar", files={name: data}), place)
        assert said in said_instead
        assert str(place.parent) not in said_instead


def test_all_faults_are_named_together(full, place):
    whole = bytearray(full.read_bytes())
    found = unpacked(full)
    for name in ("a.onnx", "b.safetensors", "backbone.weights"):
        whole[bytes(whole).index(found[name]) + 1] ^= 1
    archive = place.parent / "altered.tar"
    archive.write_bytes(whole)
    said = assert_refused(archive, place)
    assert all(name in said for name in ("a.onnx", "b.safetensors", "backbone.weights"))


def test_what_is_altered_after_it_was_looked_at_is_noticed(full, tmp_path):
    copy = tmp_path / "copy.tar"
    copy.write_bytes(full.read_bytes())
    archive = checked_archive(copy)
    copy.write_bytes(full.read_bytes().replace(unpacked(full)["a.safetensors"], unpacked(full)["b.safetensors"]))
    (tmp_path / "out").mkdir()
    with pytest.raises(ArtifactError, match="altered"):
        unpack(archive, ["a.safetensors", "backbone.weights"], tmp_path / "out")


def test_an_archive_that_is_not_there_is_named(place):
    with pytest.raises(ArtifactError, match="gone"):
        verify(place / "gone.tar")
    before = content(place)
    with pytest.raises(ArtifactError, match="gone"):
        install_from(place / "gone.tar", place / "new")
    assert content(place) == before
