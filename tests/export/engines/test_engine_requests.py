"""Ranges of sizes and build requests: what makes sense, and that every fault is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimi_edge.errors import ConfigError
from mimi_edge.export.engines.building.requests import LARGEST_SIZE, BatchRange, BuildRequest


@given(st.lists(st.integers(1, LARGEST_SIZE), min_size=3, max_size=3).map(sorted))
def test_a_range_reads_as_it_is_written(sizes):
    made = BatchRange.parse(":".join(map(str, sizes)))
    assert [made.smallest, made.best, made.largest] == sizes
    assert BatchRange.parse(str(made)) == made


def test_one_number_is_all_three():
    assert BatchRange.parse("8") == BatchRange(8, 8, 8)


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("", ["'' is not a whole number"]),
        ("1:x:3:y", ["'x'", "'y'", "it has 4 numbers"]),
        ("1:2", ["it has 2 numbers"]),
        ("0:9:8", ["MIN is 0", "OPT is larger than MAX"]),
        ("3:2:1", ["MIN is larger than OPT", "OPT is larger than MAX"]),
        ("1:1:65537", ["MAX is 65537, expected at most 65536"]),
        ("-1:1:1", ["'-1'"]),
        ("1:2:\N{SUPERSCRIPT TWO}", ["is not a whole number"]),
        ("1:2:\N{ARABIC-INDIC DIGIT THREE}", ["is not a whole number"]),
    ],
)
def test_every_fault_of_a_range_is_named(text, faults):
    with pytest.raises(ConfigError) as caught:
        BatchRange.parse(text)
    assert "MIN:OPT:MAX" in str(caught.value)
    for fault in faults:
        assert fault in str(caught.value)


def test_every_fault_of_a_request_is_named():
    with pytest.raises(ConfigError) as caught:
        BuildRequest(
            Path("a.onnx"),
            compute_capabilities=("8.6", "8.6", "sm86"),
            marked=("x", "x"),
            workspace_bytes=0,
            optimization_level=6,
        )
    for fault in ("'sm86'", "compute capability 8.6 is named twice", "output x", "0 bytes", "level is 6"):
        assert fault in str(caught.value)
