"""Samples of other rooms: tiny backbones of every family, and a package that is made in milliseconds."""

import sys
from pathlib import Path

TESTS = Path(__file__).parents[2]
sys.path[:0] = [str(TESTS / "export"), str(TESTS / "profiles")]
