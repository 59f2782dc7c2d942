"""Headers of members: what we write is what tar reads."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimi_edge.export.archives.tar import (
    BLOCK,
    END,
    LARGEST_MEMBER_BYTES,
    described,
    member_header,
    padding,
    stated_size,
)

NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/\\"), min_size=1, max_size=150)


@given(st.dictionaries(NAMES, st.binary(max_size=1500), max_size=4))
def test_tar_reads_what_we_write(files):
    written = b"".join(member_header(name, len(data)) + data + padding(len(data)) for name, data in files.items()) + END
    assert len(written) % BLOCK == 0
    with tarfile.open(fileobj=io.BytesIO(written)) as opened:
        found = opened.getmembers()
        assert {one.name: opened.extractfile(one).read() for one in found} == files
    for one in found:
        assert (one.mode, one.uid, one.gid, one.uname, one.gname, one.mtime) == (0o644, 0, 0, "", "", 0)
        assert one.isreg()


@pytest.mark.parametrize("size_bytes", [0, 1, 511, 512, LARGEST_MEMBER_BYTES])
def test_the_size_is_read_back(size_bytes):
    header = member_header("name", size_bytes)
    assert stated_size(header) == size_bytes
    assert tarfile.TarInfo.frombuf(header, "utf-8", "strict").size == size_bytes


@pytest.mark.parametrize("block", [b"", bytes(BLOCK), b"\x80" * BLOCK, b"PK\3\4" + bytes(BLOCK), b"x" * 100])
def test_no_size_is_read_from_what_is_no_header(block):
    assert stated_size(block) is None
    assert described(block)


def test_a_compressed_file_is_called_so():
    assert described(b"\x1f\x8b" + bytes(BLOCK)) == "gzip data"
