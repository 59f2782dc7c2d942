"""Lines that install something: right for how this copy was installed, and for what it runs on."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from mimi_edge import installation
from mimi_edge.installation import Origin, hides_the_system, is_tegra, origin, ours, pip_line, seeing_line
from mimi_edge.parts import CPU, GPU, RTX, TRAIN, TRT, install_line, onnx_runtime_words, upgrade_words


class Noted:
    """A distribution that pip noted something about, with its packages in a folder."""

    def __init__(self, document: object, folder: Path = Path("/elsewhere")) -> None:
        self.document, self.folder = document, folder

    def locate_file(self, name: str) -> Path:
        return self.folder / name

    def read_text(self, name: str) -> str | None:
        return None if self.document is None or name != "direct_url.json" else json.dumps(self.document)


def noted(*documents: object, package: Path = Path("/site-packages/mimi_edge")) -> Origin:
    return origin([Noted(document) for document in documents], package)  # type: ignore[list-item]


@pytest.fixture
def activated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "_is_on_path", lambda: True)
    monkeypatch.setattr(installation, "in_environment", lambda: True)


def came(monkeypatch: pytest.MonkeyPatch, source: Origin) -> None:
    monkeypatch.setattr(installation, "origin", lambda: source)


@pytest.mark.parametrize(("editable", "option"), [(True, "-e "), (False, "")])
def test_a_checkout_is_installed_from_its_folder(editable: bool, option: str, tmp_path: Path) -> None:
    checkout = tmp_path / "my copy"
    checkout.mkdir()
    source = noted({"url": checkout.as_uri(), "dir_info": {"editable": editable} if editable else {}})
    assert source == Origin(checkout, editable=editable)
    assert ours("train", source) == f'{option}"{checkout}[train]"'


def test_a_wheel_is_installed_from_its_file(tmp_path: Path) -> None:
    wheel = tmp_path / "mimi_edge-1.0-py3-none-any.whl"
    wheel.touch()
    source = noted({"url": wheel.as_uri(), "archive_info": {}})
    assert ours("cpu", source) == f'"{wheel}[cpu]"'
    assert ours(None, source) == f'"{wheel}"'


def test_a_wheel_that_is_gone_leaves_the_libraries_of_the_part(tmp_path: Path) -> None:
    source = noted({"url": (tmp_path / "gone.whl").as_uri(), "archive_info": {}})
    words = shlex.split(ours("train", source))
    assert any(word.startswith("torch>=") for word in words)
    assert any(word.startswith("timm>=") for word in words)
    assert not any("mimi-edge" in word or "onnxruntime" in word for word in words)


def test_an_archive_or_a_repository_elsewhere_keeps_its_address() -> None:
    repository = {"url": "https://example.org/m.git", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}}
    assert ours("cpu", noted(repository)) == '"mimi-edge[cpu] @ git+https://example.org/m.git@c0ffee"'
    archive = {"url": "https://example.org/m.whl", "archive_info": {}}
    assert ours("cpu", noted(archive)) == '"mimi-edge[cpu] @ https://example.org/m.whl"'


def test_what_pip_noted_nothing_of_came_from_an_index_or_lies_in_a_checkout(tmp_path: Path) -> None:
    assert noted(None) == Origin()
    assert ours("cpu", Origin()) == '"mimi-edge[cpu]"'
    assert ours(None, Origin()) == "mimi-edge"
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    assert noted(None, package=tmp_path / "mimi_edge") == Origin(tmp_path, editable=True)


def test_of_two_notes_about_us_the_one_that_says_something_counts(tmp_path: Path) -> None:
    """A build leaves its own metadata in a checkout, which comes first while one works there."""
    assert noted(None, {"url": tmp_path.as_uri(), "dir_info": {"editable": True}}).place == tmp_path


def test_of_two_copies_the_one_that_runs_counts(tmp_path: Path) -> None:
    wheel = tmp_path / "mimi_edge-1.0-py3-none-any.whl"
    wheel.touch()
    other = Noted({"url": tmp_path.as_uri(), "dir_info": {"editable": True}})
    from_wheel = Noted({"url": wheel.as_uri(), "archive_info": {}}, Path("/site-packages"))
    from_index = Noted(None, Path("/site-packages"))
    package = Path("/site-packages/mimi_edge")
    assert origin([other, from_wheel], package) == Origin(wheel)  # type: ignore[list-item]
    assert origin([other, from_index], package) == Origin()  # type: ignore[list-item]


@pytest.mark.parametrize("name", ["plain", "two words", 'with "quotes"', "$HOME", "back`tick", "it's"])
def test_a_shell_reads_back_every_folder(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    assert shlex.split(ours("cpu", Origin(folder))) == [f"{folder}[cpu]"]


def test_this_copy_names_itself(repository: Path) -> None:
    """The tests run on a checkout."""
    assert origin().place == repository


def test_the_pip_is_that_of_this_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shlex.split(pip_line("install x"))[-4:] == ["-m", "pip", "install", "x"]
    assert sys.executable in pip_line("install x")
    pip = Path(sys.executable).parent / "pip"
    monkeypatch.setattr(installation.shutil, "which", lambda name: str(pip) if name == "pip" else None)
    assert pip_line("install x") == "pip install x"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (Origin(), "pip install --upgrade mimi-edge"),
        (Origin(gone=True), "a newer wheel"),
        (Origin(Path(__file__)), "a newer wheel"),
        (Origin(Path(__file__).parent, editable=True), "git -C"),
    ],
)
@pytest.mark.usefixtures("activated")
def test_how_to_upgrade_depends_on_where_it_came_from(
    source: Origin, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    came(monkeypatch, source)
    assert words in upgrade_words()


# On a Jetson.


@pytest.fixture
def jetson(monkeypatch: pytest.MonkeyPatch, activated: None) -> None:
    monkeypatch.setattr(installation, "is_tegra", lambda: True)
    monkeypatch.setattr(installation, "hides_the_system", lambda: False)


def test_a_jetson_is_known_by_its_machine_and_its_release_or_device_tree(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(installation.platform, "machine", lambda: "aarch64")
    assert not is_tegra(tmp_path)
    tree = tmp_path / "proc" / "device-tree"
    tree.mkdir(parents=True)
    (tree / "compatible").write_bytes(b"raspberrypi,4\0brcm,bcm2711\0")
    assert not is_tegra(tmp_path)
    (tree / "compatible").write_bytes(b"nvidia,p3768-0000+p3767-0003\0nvidia,tegra234\0")
    assert is_tegra(tmp_path)
    (tree / "compatible").unlink()
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "nv_tegra_release").write_text("# R36 (release), REVISION: 4.3")
    assert is_tegra(tmp_path)
    monkeypatch.setattr(installation.platform, "machine", lambda: "x86_64")
    assert not is_tegra(tmp_path)


@pytest.mark.usefixtures("jetson")
@pytest.mark.parametrize("part", [GPU, TRT, RTX])
def test_on_a_jetson_the_gpu_parts_are_jetpacks_tensorrt(part: str) -> None:
    assert install_line(part) == "sudo apt install nvidia-jetpack"


@pytest.mark.usefixtures("jetson")
def test_an_environment_that_hides_jetpack_is_made_to_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "hides_the_system", lambda: True)
    assert install_line(TRT) == f"sudo apt install nvidia-jetpack && {seeing_line()}"
    assert shlex.split(seeing_line()) == ["python3", "-m", "venv", "--system-site-packages", sys.prefix]


@pytest.mark.parametrize(("written", "hides"), [("false", True), ("true", False)])
def test_whether_an_environment_hides_the_system_is_read_off_its_settings(
    written: str, hides: bool, tmp_path: Path
) -> None:
    (tmp_path / "pyvenv.cfg").write_text(f"home = /usr/bin\ninclude-system-site-packages = {written}\n")
    assert hides_the_system(tmp_path) is hides
    assert not hides_the_system(tmp_path / "none")


@pytest.mark.usefixtures("jetson")
def test_on_a_jetson_nothing_is_installed_over_the_systems_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    came(monkeypatch, Origin())
    assert install_line(CPU) == 'pip install "mimi-edge[cpu]"'
    monkeypatch.setattr(installation, "in_environment", lambda: False)
    for part in (CPU, TRAIN, None):
        assert install_line(part).startswith("python3 -m venv --system-site-packages .venv && .venv/bin/pip install ")


@pytest.mark.usefixtures("jetson")
def test_on_a_jetson_no_wheel_of_onnx_runtime_for_its_gpu_is_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    came(monkeypatch, Origin())
    said = onnx_runtime_words()
    assert 'pip install "mimi-edge[cpu]"' in said
    assert "--backend trt" in said
    assert "mimi-edge[gpu]" not in said
    assert 'pip install "mimi-edge[gpu]"' in onnx_runtime_words(tegra=False)
