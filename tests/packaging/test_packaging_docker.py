"""The Dockerfile for L4T, as far as its lines can be checked without Docker and without a Jetson."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

import mimi_edge
from mimi_edge import parts


@pytest.fixture(scope="module")
def dockerfile(repository: Path) -> list[tuple[str, str]]:
    """Instructions and what follows them, continued lines joined, without comments."""
    text = (repository / "docker" / "Dockerfile.l4t").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]  # type: ignore[misc]


def of(dockerfile: list[tuple[str, str]], instruction: str) -> list[str]:
    return [rest for name, rest in dockerfile if name == instruction]


def test_it_stands_on_an_image_that_is_named_when_it_is_built(dockerfile: list[tuple[str, str]]) -> None:
    assert dockerfile[0] == ("ARG", "L4T_IMAGE")
    assert dockerfile[1] == ("FROM", "${L4T_IMAGE}")
    known = {"ARG", "FROM", "RUN", "COPY", "ENV", "WORKDIR", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in dockerfile} <= known


def test_its_commands_are_what_a_shell_can_read(dockerfile: list[tuple[str, str]]) -> None:
    for line in of(dockerfile, "RUN"):
        subprocess.run([shutil.which("sh") or "/bin/sh", "-n", "-c", line], check=True)


def test_its_environment_sees_jetpacks_tensorrt_and_gets_only_parts_that_a_jetson_can_have(
    dockerfile: list[tuple[str, str]],
) -> None:
    runs = of(dockerfile, "RUN")
    (venv,) = (line for line in runs if "venv --" in line)
    assert "--system-site-packages" in shlex.split(venv)
    environment = shlex.split(venv)[-1]
    (install,) = (line for line in runs if "pip install" in line)
    assert f"{environment}/bin/python -m pip install" in install
    asked = re.findall(r"\[([a-z,]+)\]", install)[0].split(",")
    assert asked == [parts.CPU]
    assert not parts.FOR_GPUS & set(asked)
    assert f"{environment}/bin:" in of(dockerfile, "ENV")[0]


def test_the_wheel_that_it_copies_is_the_one_that_make_wheel_makes(
    dockerfile: list[tuple[str, str]], repository: Path
) -> None:
    source = of(dockerfile, "COPY")[0].split()[0]
    assert fnmatch(f"dist/mimi_edge-{mimi_edge.__version__}-py3-none-any.whl", source)
    assert re.search(
        r"^wheel:.*\n(?:\t.*\n)*\t.*--wheel-dir dist ", (repository / "Makefile").read_text(), re.MULTILINE
    )


def test_the_page_on_jetsons_has_the_lines_that_messages_print(repository: Path) -> None:
    page = (repository / "docs" / "jetson.md").read_text()
    for line in (parts.JETPACK, "sudo apt install python3-pip python3-venv", "python3 -m venv --system-site-packages"):
        assert line in page
    assert not re.search(r"\[(gpu|trt|rtx)\]", page)
    assert "docker/Dockerfile.l4t" in page
