"""docs/results.md says what docs/equal-bytes.csv has."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_tables_of_equal_bytes_are_those_of_the_file() -> None:
    page = (ROOT / "docs" / "results.md").read_text("utf-8")
    renewed = runpy.run_path(str(ROOT / "benchmarks" / "equal_bytes.py"))["renewed"]
    without_titles = re.sub(r"(<!-- equal_bytes.py .*\n)\|.*\n", r"\1", page)
    assert without_titles != page
    assert renewed(page) == page, "renew them: python benchmarks/equal_bytes.py --page docs/results.md"
    assert renewed(without_titles) == page
