"""Pages with tables of equal bytes say what docs/equal-bytes.csv has."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["results.md", "equal-bytes.md"])
def test_tables_of_equal_bytes_are_those_of_the_file(name: str) -> None:
    page = (ROOT / "docs" / name).read_text("utf-8")
    renewed = runpy.run_path(str(ROOT / "benchmarks" / "equal_bytes.py"))["renewed"]
    without_titles = re.sub(r"(<!-- equal_bytes.py .*\n)\|.*\n", r"\1", page)
    assert without_titles != page
    assert renewed(page) == page, f"renew them: python benchmarks/equal_bytes.py --pages docs/{name}"
    assert renewed(without_titles) == page
