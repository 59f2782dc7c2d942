"""`pack`, `verify` and `install-task`, from the command line; tasks without training, so that it takes no time."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import pytest
from cli_world import apart, content, here
from full_disk import room_for
from tiny_package import make_package, make_task

from mimi_edge.files import sha256_of
from mimi_edge.tasks.files import write_task

NOT_ON_A_DEVICE = ("torch", "torchvision", "timm", "onnxscript", "matplotlib", "onnxruntime")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return make_package(tmp_path / "source", {"a": (2, 0, 1), "b": (1, 1, 1)}).folder


@pytest.fixture
def archive(package: Path, tmp_path: Path) -> Path:
    here("pack", package, "-o", tmp_path / "full.tar").ended(0)
    return tmp_path / "full.tar"


@pytest.fixture
def task_file(tmp_path: Path) -> Path:
    write_task(make_task("a", (0, 0, 2)), tmp_path / "new.safetensors")
    return tmp_path / "new.safetensors"


def test_a_device_installs_verifies_and_goes_back(package: Path, task_file: Path, tmp_path: Path) -> None:
    def on_device(*arguments: str | Path) -> dict[str, object]:
        document = apart(*arguments, "--json", folder=tmp_path, missing=NOT_ON_A_DEVICE).ended(0).document
        assert isinstance(document, dict)
        return document

    packed = on_device("pack", package)
    assert packed["archive"] == "package.tar"
    assert packed["sha256"] == sha256_of(tmp_path / "package.tar")
    assert packed["size_bytes"] == (tmp_path / "package.tar").stat().st_size
    verified = on_device("verify", "package.tar", "--sha256", str(packed["sha256"]))
    assert (verified["kind"], verified["whole"], verified["tasks"]) == ("full archive", True, ["a", "b"])
    installed = on_device("install-task", "package.tar", "device", "--sha256", str(packed["sha256"]))
    assert (installed["created"], installed["added"]) == (True, ["a", "b"])
    before = content(tmp_path / "device")
    replaced = on_device("install-task", task_file, "device")
    assert replaced["replaced"] == ["a"]
    assert replaced["kept_bytes"] == sum(len(before[name]) for name in ("a.onnx", "a.safetensors"))
    assert on_device("verify", "device")["kept_bytes"] == replaced["kept_bytes"]
    back = on_device("install-task", "--rollback", "device")
    assert (back["rolled_back"], back["replaced"], back["removed"]) == (True, ["a"], [])
    assert content(tmp_path / "device") == before


def test_the_tables_say_what_to_do_next(
    package: Path, task_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    packed = here("pack", package, "--delta").ended(0).out
    assert sha256_of(Path("package-tasks.tar")) in packed
    assert "install-task package-tasks.tar package" in packed
    assert "is whole" in here("verify", "package-tasks.tar").ended(0).out
    said = here("install-task", task_file, package).ended(0).out
    assert "install-task --rollback" in said
    assert "bytes" in said
    assert "returned" in here("install-task", "--rollback", package).ended(0).out


def test_every_fault_is_named_with_exit_code_4_and_as_json(archive: Path, tmp_path: Path) -> None:
    with tarfile.open(archive) as opened:
        places = {member.name: member.offset_data for member in opened}
    whole = bytearray(archive.read_bytes())
    whole[places["a.onnx"]] ^= 1
    whole[places["b.safetensors"]] ^= 1
    archive.write_bytes(whole)
    outcome = here("verify", archive, "--json").ended(4)
    assert outcome.document["whole"] is False
    assert len(outcome.document["faults"]) == 2
    for name in ("a.onnx", "b.safetensors"):
        assert name in outcome.err
    refused = here("install-task", archive, tmp_path / "device").ended(4)
    assert "a.onnx" in refused.err
    assert refused.out == ""
    assert not (tmp_path / "device").exists()


def test_a_damaged_package_ends_with_exit_code_4(package: Path) -> None:
    (package / "a.onnx").write_bytes(b"x")
    assert "a.onnx" in here("verify", package).ended(4).err


def test_another_hash_than_expected_is_refused(archive: Path, package: Path, tmp_path: Path) -> None:
    for command in (("verify", archive), ("install-task", archive, tmp_path / "device")):
        said = here(*command, "--sha256", "0" * 64).ended(4).err
        assert sha256_of(archive) in said
        assert "0" * 64 in said
        assert "64" in here(*command, "--sha256", "abc").ended(2).err
    assert not (tmp_path / "device").exists()
    assert "folder" in here("verify", package, "--sha256", "0" * 64).ended(2).err


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["pack", "nowhere"], 4, "nowhere"),
        (["pack", "PACKAGE", "--task", "c"], 2, "'c'"),
        (["pack", "PACKAGE", "-o", "PACKAGE"], 2, "folder"),
        (["verify", "nowhere"], 4, "nowhere"),
        (["install-task", "ARCHIVE"], 2, "and then the package; got"),
        (["install-task", "ARCHIVE", "x", "y"], 2, "x, y. For instance: mimi-edge install-task"),
        (["install-task", "--rollback", "ARCHIVE", "PACKAGE"], 2, "--rollback"),
        (["install-task", "--rollback", "PACKAGE"], 2, "no earlier version"),
        (["install-task", "--rollback", "nowhere"], 4, "nowhere"),
        (["install-task", "nowhere.tar", "PACKAGE"], 4, "nowhere.tar"),
        (["install-task", "nowhere.safetensors", "PACKAGE"], 4, "nowhere.safetensors"),
        (["install-task", "PACKAGE", "x"], 2, "folder"),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: list[str], code: int, named: str, package: Path, archive: Path
) -> None:
    before = content(package.parent.parent)
    real = {"PACKAGE": str(package), "ARCHIVE": str(archive)}
    assert named in here(*(real.get(argument, argument) for argument in arguments)).ended(code).err
    assert content(package.parent.parent) == before


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(package: Path, archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    with room_for(600):
        assert "x.tar" in here("pack", package, "-o", folder / "x.tar").ended(1).err
    largest = max(len(data) for data in content(package).values())
    with room_for(largest - 1):
        assert str(folder / "device") in here("install-task", archive, folder / "device").ended(1).err
    assert list(folder.iterdir()) == []


def test_names_that_steer_a_terminal_do_not(archive: Path, tmp_path: Path) -> None:
    """A forged archive is refused, and what it would have said is shown as text."""
    with tarfile.open(archive) as opened:
        text = opened.extractfile("manifest.json").read()  # type: ignore[union-attr]
    document = json.loads(text)
    document["files"]["\x1b[2Jx"] = document["files"].pop("a.onnx")
    forged = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"
    info = tarfile.TarInfo("manifest.json")
    info.size = len(forged)
    rest = archive.read_bytes()[512 + len(text) + -len(text) % 512 :]
    archive.write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + forged + bytes(-len(forged) % 512) + rest)
    said = here("verify", archive).ended(4)
    assert "\x1b[2J" not in said.err + said.out


def test_an_installed_package_is_inspected_like_any_other(archive: Path, tmp_path: Path) -> None:
    here("install-task", archive, tmp_path / "device").ended(0)
    shutil.rmtree(tmp_path / "source")
    assert here("inspect", tmp_path / "device", "--json").ended(0).document["kind"] == "package"
