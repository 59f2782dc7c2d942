"""ONNX Runtime built for NumPy 1 beside NumPy 2, planted: said by name, with the line that mends it."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

from mimi_edge.cli.output import explained
from mimi_edge.numpy_versions import OLD_DOOR, numpy_misfit
from mimi_edge.profiles.doctor.probes.libraries import library

pytestmark = pytest.mark.skipif(np.__version__.startswith("1."), reason="needs NumPy 2, which refuses such libraries")

BY_THE_OLD_DOOR = """
import warnings
warnings.simplefilter("ignore")
try:
    import importlib
    importlib.import_module("numpy.core._multiarray_umath")._ARRAY_API
except (ImportError, AttributeError):
    raise ImportError({said!r}) from None
"""
"""What a module does that was compiled with NumPy 1: NumPy's words go to stderr, and the error hides them."""
AT_ONCE = "raise ImportError({said!r})"
SAID = ("numpy.core.multiarray failed to import", "")


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Plants ONNX Runtime 1.18.0 as a package whose inner module fails like this."""

    def planting(source: str, said: str) -> None:
        package = tmp_path / "onnxruntime"
        package.mkdir()
        (package / "__init__.py").write_text("from onnxruntime import inner\n")
        (package / "inner.py").write_text(source.format(said=said))
        about = tmp_path / "onnxruntime-1.18.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime\nVersion: 1.18.0\n")
        monkeypatch.syspath_prepend(tmp_path)
        for name in [name for name in sys.modules if name.partition(".")[0] == "onnxruntime" or name == OLD_DOOR]:
            monkeypatch.delitem(sys.modules, name)
        importlib.invalidate_caches()

    yield planting
    for name in [name for name in sys.modules if name.partition(".")[0] == "onnxruntime"]:
        del sys.modules[name]


def imported() -> None:
    importlib.import_module("onnxruntime")


@pytest.mark.parametrize("source", [BY_THE_OLD_DOOR, AT_ONCE])
@pytest.mark.parametrize("said", SAID)
def test_both_are_named_with_a_line_that_installs_both(source: str, said: str, plant) -> None:
    plant(source, said)
    with pytest.raises(ImportError) as caught:
        imported()
    misfit = numpy_misfit(caught.value)
    assert misfit is not None
    assert misfit.text == (
        f"onnxruntime 1.18.0 was built for NumPy 1, and NumPy {np.__version__} is installed beside it."
    )
    assert shlex.split(misfit.line)[-3:] == ["install", "numpy<2", "onnxruntime==1.18.0"]


@pytest.mark.parametrize("said", SAID)
def test_a_command_says_it_and_promises_no_other_line(said: str, plant, capfd: pytest.CaptureFixture[str]) -> None:
    plant(BY_THE_OLD_DOOR, said)
    with pytest.raises(typer.Exit):
        explained(imported)()
    error = capfd.readouterr().err.split("Error: ")[-1]
    assert "built for NumPy 1, and NumPy" in error
    assert error.count("install ") == 1
    assert '"numpy<2" "onnxruntime==1.18.0"' in error


def _note(facts: dict[str, object]) -> None:
    for found in library("onnxruntime", "onnxruntime"):
        facts |= found


def test_doctor_hears_of_it_before_the_failure(plant) -> None:
    plant(BY_THE_OLD_DOOR, "")
    facts: dict[str, object] = {}
    with pytest.raises(ImportError):
        _note(facts)
    assert facts["shadows"] is False
    assert "built for NumPy 1" in facts["numpy_misfit"]["text"]  # type: ignore[index]


@pytest.mark.parametrize("said", ["libcublas.so.12: cannot open shared object file", "cannot import name 'x'"])
def test_other_failures_are_not_blamed_on_numpy(said: str, plant) -> None:
    plant(AT_ONCE, said)
    with pytest.raises(ImportError) as caught:
        imported()
    assert numpy_misfit(caught.value) is None


def test_a_library_that_is_not_there_is_no_misfit() -> None:
    assert numpy_misfit(ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")) is None


def test_the_oldest_onnx_runtime_that_we_ask_for_is_one_built_for_numpy_2(repository: Path) -> None:
    asked = re.findall(r'"(onnxruntime\S*)"', (repository / "pyproject.toml").read_text())
    assert asked == ["onnxruntime>=1.19", "onnxruntime-gpu>=1.19"]
