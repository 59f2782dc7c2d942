"""The shelf: what is on it was put there whole, is what it was, and nothing else is opened."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from engine_samples import digest, package, sidecar
from tiny_package import make_package

from mimi_edge.choices import Precision, Strategy
from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export.archives.verify import verify
from mimi_edge.export.engines.shelf import shelf
from mimi_edge.export.engines.shelf.shelf import engine_name, open_engine, publish, read_shelf
from mimi_edge.export.engines.shelf.sidecars import sidecar_bytes
from mimi_edge.export.packages import MANIFEST

NAME = "per-task.digits.fp16"


@pytest.fixture
def folder(tmp_path):
    return package(tmp_path / "package", digits="d" * 64, fashion="f" * 64)


def put(folder, plan=b"plan", **changes):
    return publish(folder, sidecar(plan, **changes), lambda path: path.write_bytes(plan))


def visible(folder):
    return sorted(path.name for path in (folder / "engines").iterdir() if not path.name.startswith("."))


def hidden(folder):
    return sorted(path.name for path in (folder / "engines").iterdir() if path.name.startswith("."))


def test_what_is_put_on_the_shelf_is_found_and_opened(folder):
    put_there = put(folder)
    assert put_there.path == folder / "engines" / f"{NAME}.engine"
    assert read_shelf(folder) == {NAME: put_there}
    assert open_engine(put_there.path) == (b"plan", sidecar())
    assert visible(folder) == ["manifest.json", f"{NAME}.engine", f"{NAME}.json"]
    assert hidden(folder) == []
    assert put_there.path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask():
    current = os.umask(0)
    os.umask(current)
    return current


def test_a_package_without_engines_has_an_empty_shelf(folder):
    assert read_shelf(folder) == {}


def test_names():
    assert engine_name(Strategy.PER_TASK, Precision.FP16, "digits") == NAME
    assert engine_name(Strategy.SHARED, Precision.FP32) == "shared.fp32"
    assert engine_name(Strategy.SHARED, Precision.BF16, mixed=True) == "shared-mixed.bf16"
    assert engine_name(Strategy.REFIT, Precision.FP16) == "refit.fp16"


def test_engines_stand_side_by_side_and_replace_their_like(folder):
    put(folder)
    put(folder, b"shared", engine="shared.fp16.engine", strategy=Strategy.SHARED)
    put(folder, b"newer plan")
    assert sorted(read_shelf(folder)) == [NAME, "shared.fp16"]
    assert open_engine(folder / "engines" / f"{NAME}.engine")[0] == b"newer plan"
    assert open_engine(folder / "engines" / "shared.fp16.engine")[0] == b"shared"


@pytest.mark.parametrize("engine", ["manifest.engine", ".x.engine", "x.json", "x", ".engine", "a\\b.engine"])
def test_a_file_that_is_no_engine_by_name_is_not_put_there(folder, engine):
    with pytest.raises(ConfigError):
        put(folder, engine=engine)


# Failures while writing.


def test_a_failed_write_leaves_the_good_engine(folder):
    put(folder)

    def full(path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        publish(folder, sidecar(b"newer"), full)
    assert Path(caught.value.filename).name == f"{NAME}.engine"
    assert open_engine(folder / "engines" / f"{NAME}.engine")[0] == b"plan"
    assert hidden(folder) == []


def test_something_else_than_the_sidecar_says_is_not_put_there(folder):
    put(folder)
    with pytest.raises(ArtifactError, match=r"5 bytes with sha256 .* 4 bytes"):
        publish(folder, sidecar(b"newer"), lambda path: path.write_bytes(b"oops"))
    assert open_engine(folder / "engines" / f"{NAME}.engine")[0] == b"plan"
    assert hidden(folder) == []


class PowerCutError(BaseException):
    """Nothing after it runs, not even what tidies up."""


STEPS = ("replace", "sync", "write_whole")


@pytest.mark.parametrize("step", range(12))
def test_an_interruption_anywhere_leaves_the_old_engine_or_the_new_one(folder, step, monkeypatch):
    """Cuts the power at each step of the commit; what a reader gets then is one of the two, whole."""
    put(folder)
    left = [step]

    def cut(real):
        def or_not(*arguments, **keywords):
            left[0] -= 1
            if left[0] < 0:
                raise PowerCutError
            return real(*arguments, **keywords)

        return or_not

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", cut(Path.replace))
        patch.setattr(shelf, "sync", cut(shelf.sync))
        patch.setattr(shelf, "write_whole", cut(shelf.write_whole))
        patch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
        try:
            put(folder, b"newer")
        except PowerCutError:
            done = False
        else:
            done = True
    found, described = open_engine(folder / "engines" / f"{NAME}.engine")
    assert found in ({b"newer"} if done else {b"plan", b"newer"})
    assert described.sha256 == digest(found)
    assert read_shelf(folder)[NAME].sidecar == described
    put(folder, b"newest")
    assert open_engine(folder / "engines" / f"{NAME}.engine")[0] == b"newest"
    assert [name for name in hidden(folder) if name.endswith(".new")] == []


def test_the_steps_that_are_cut_are_all_of_them(folder, monkeypatch):
    """The test before this one would say nothing about steps that come later."""
    calls = []
    real = Path.replace
    put(folder)
    monkeypatch.setattr(Path, "replace", lambda self, target: (calls.append("replace"), real(self, target))[1])
    sync, write = shelf.sync, shelf.write_whole
    monkeypatch.setattr(shelf, "sync", lambda path: (calls.append("sync"), sync(path))[1])
    monkeypatch.setattr(shelf, "write_whole", lambda *two: (calls.append("write"), write(*two))[1])
    put(folder, b"newer")
    assert 6 <= len(calls) <= 12


def test_what_killed_processes_left_is_swept_after_a_while(folder):
    put(folder)
    old, young = folder / "engines" / ".x.engine.1.part", folder / "engines" / ".x.engine.2.part"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    put(folder, b"newer")
    assert hidden(folder) == [young.name]


def test_engines_put_there_at_once_are_all_there(folder):
    plans = {f"shared.{index}.fp16": f"plan {index}".encode() for index in range(12)}
    threads = [
        threading.Thread(target=put, args=(folder, plan), kwargs={"engine": f"{name}.engine"})
        for name, plan in plans.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(read_shelf(folder)) == sorted(plans)
    for name, plan in plans.items():
        assert open_engine(folder / "engines" / f"{name}.engine")[0] == plan


def test_one_engine_replaced_all_the_time_is_always_whole(folder):
    put(folder)
    stop = threading.Event()

    def replace_it():
        for index in range(30):
            put(folder, f"plan {index}".encode() * (index + 1))
        stop.set()

    writer = threading.Thread(target=replace_it)
    writer.start()
    while not stop.is_set():
        content, described = open_engine(folder / "engines" / f"{NAME}.engine")
        assert described.sha256 == digest(content)
    writer.join()


# Trust.


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("content", [b"plan!", b"pla", b"PLAN", b""])
def test_an_altered_engine_is_refused_even_when_trusted(folder, content, trust):
    put(folder).path.write_bytes(content)
    with pytest.raises(ArtifactError, match="altered"):
        open_engine(folder / "engines" / f"{NAME}.engine", trust=trust)


def test_an_altered_sidecar_is_refused(folder):
    put(folder)
    (folder / "engines" / f"{NAME}.json").write_bytes(sidecar_bytes(sidecar(gpu="Other")))
    for look in (lambda: read_shelf(folder), lambda: open_engine(folder / "engines" / f"{NAME}.engine", trust=True)):
        with pytest.raises(ArtifactError, match=r"json was altered"):
            look()


def test_a_sidecar_of_another_engine_is_refused(folder):
    put(folder)
    engines = folder / "engines"
    other = sidecar_bytes(sidecar(b"other"))
    (engines / f"{NAME}.json").write_bytes(other)
    manifest = json.loads((engines / MANIFEST).read_text())
    manifest["engines"][NAME]["files"][f"{NAME}.json"] = {"sha256": digest(other), "size_bytes": len(other)}
    (engines / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="describes another engine"):
        read_shelf(folder)


def test_a_foreign_engine_needs_trust_and_its_sidecar(tmp_path):
    path = tmp_path / "x.engine"
    path.write_bytes(b"plan")
    with pytest.raises(ArtifactError, match=r"--trust"):
        open_engine(path)
    with pytest.raises(ArtifactError, match=r"Cannot read .*x\.json"):
        open_engine(path, trust=True)
    foreign = sidecar(engine="x.engine")
    (tmp_path / "x.json").write_bytes(sidecar_bytes(foreign))
    assert open_engine(path, trust=True) == (b"plan", foreign)
    path.write_bytes(b"nalp")
    with pytest.raises(ArtifactError, match="sha256 differs"):
        open_engine(path, trust=True)


def test_an_unlisted_engine_on_a_shelf_is_foreign(folder):
    put(folder)
    (folder / "engines" / "x.engine").write_bytes(b"plan")
    with pytest.raises(ArtifactError, match="--trust"):
        open_engine(folder / "engines" / "x.engine")


@pytest.mark.parametrize("trust", [False, True])
def test_links_are_refused(folder, tmp_path, trust):
    path = put(folder).path
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="it is a link"):
        open_engine(path, trust=trust)


def test_a_shelf_elsewhere_is_refused(folder, tmp_path):
    put(folder)
    (folder / "engines").rename(tmp_path / "elsewhere")
    (folder / "engines").symlink_to(tmp_path / "elsewhere")
    for use in (lambda: read_shelf(folder), lambda: put(folder)):
        with pytest.raises(ArtifactError, match="is a link"):
            use()


def test_a_pipe_is_refused_and_not_waited_for(folder):
    path = put(folder).path
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ArtifactError, match="no regular file"):
        open_engine(path)


def test_a_missing_engine_is_named(folder):
    path = put(folder).path
    path.unlink()
    with pytest.raises(ArtifactError, match=f"{NAME}.engine is missing"):
        read_shelf(folder)
    with pytest.raises(ArtifactError, match="No such file"):
        open_engine(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda engines: engines[NAME].update(engine="../x.engine"),
        lambda engines: engines[NAME].update(sidecar="/etc/x.json"),
        lambda engines: engines.update({"../x": engines.pop(NAME)}),
        lambda engines: engines[NAME]["files"].update({"../x": engines[NAME]["files"].pop(f"{NAME}.json")}),
        lambda engines: engines[NAME]["files"][f"{NAME}.engine"].update(size_bytes=10**15),
        lambda engines: engines[NAME]["files"][f"{NAME}.engine"].update(size_bytes=-1),
        lambda engines: engines[NAME]["files"][f"{NAME}.engine"].update(sha256="x"),
        lambda engines: engines[NAME].pop("files"),
        lambda engines: engines.update({NAME: 3}),
    ],
)
def test_a_manifest_that_leads_elsewhere_or_nowhere_is_refused(folder, change):
    put(folder)
    path = folder / "engines" / MANIFEST
    document = json.loads(path.read_text())
    change(document["engines"])
    path.write_text(json.dumps(document))
    for use in (lambda: read_shelf(folder), lambda: open_engine(folder / "engines" / f"{NAME}.engine", trust=True)):
        with pytest.raises(ArtifactError, match=r"manifest\.json (lists what no shelf|cannot be read as a list of)"):
            use()


@pytest.mark.parametrize("pending", [["../x"], ["manifest.json"], [3]])
def test_pending_names_that_are_no_files_of_the_shelf_are_refused(folder, pending):
    put(folder)
    path = folder / "engines" / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pending": pending}))
    with pytest.raises(ArtifactError, match=r"lists what no shelf holds|pending\[0\]: expected a text, got 3"):
        read_shelf(folder)


def test_a_newer_shelf_asks_for_an_upgrade(folder):
    put(folder)
    path = folder / "engines" / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 2}))
    with pytest.raises(ArtifactError, match="Upgrade: "):
        read_shelf(folder)


# Stale engines.


def test_an_engine_of_a_task_that_changed_is_stale(folder):
    assert put(folder).stale is None
    package(folder, digits="e" * 64)
    assert "before the task digits changed" in (read_shelf(folder)[NAME].stale or "")
    package(folder, fashion="f" * 64)
    assert "digits" in (read_shelf(folder)[NAME].stale or "")


def test_an_engine_that_gets_its_weights_when_it_runs_is_not(folder):
    put(folder, engine="shared.fp16.engine", strategy=Strategy.SHARED)
    package(folder, digits="e" * 64)
    assert read_shelf(folder)["shared.fp16"].stale is None


def test_an_engine_of_another_backbone_is_stale(folder):
    engine = replace(sidecar(), strategy=Strategy.SHARED, backbone_sha256="c" * 64)
    assert "another backbone" in (publish(folder, engine, lambda path: path.write_bytes(b"plan")).stale or "")


def test_verify_looks_at_engines_and_sidecars(tmp_path):
    folder = make_package(tmp_path, {"digits": (1, 0, 1)}).folder
    put(folder, strategy=Strategy.SHARED, engine="shared.fp16.engine")
    assert verify(folder).faults == ()
    engine = folder / "engines" / "shared.fp16.engine"
    engine.write_bytes(b"plaN")
    assert [fault for fault in verify(folder).faults if "engines/shared.fp16.engine" in fault]
    engine.unlink()
    assert [fault for fault in verify(folder).faults if "missing" in fault]
    engine.write_bytes(b"plan")
    (folder / "engines" / "shared.fp16.json").write_bytes(b"{}")
    assert [fault for fault in verify(folder).faults if "shared.fp16.json" in fault]
