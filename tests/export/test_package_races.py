"""Tasks are replaced while a package is read: every reader's answer is wholly one version's."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from predicting import predict
from swapping import swapper
from tiny_package import SIZE, make_backbone, make_task

from mimi_edge.errors import ConfigError
from mimi_edge.events import Note
from mimi_edge.export import onnx_runtime
from mimi_edge.export.archives.install import install_from
from mimi_edge.export.archives.pack import pack
from mimi_edge.export.archives.verify import verify
from mimi_edge.export.locks import locked, reading
from mimi_edge.export.manifest import MANIFEST
from mimi_edge.export.open_packages import opened_package, undisturbed
from mimi_edge.export.packages import create_or_extend, roll_back
from mimi_edge.export.serving.find import serving
from mimi_edge.profiles.fleet import fleet_ledger
from mimi_edge.profiles.runtimes.artefact import Wanted
from mimi_edge.profiles.runtimes.find import find_artefacts
from mimi_edge.tasks.files import write_task

TASKS = ("a", "b")


class Steps:
    """Calls back before each opening of one of a folder's files, and before a runtime loads a graph."""

    def __init__(self) -> None:
        self.folder, self.at = None, None
        sys.addaudithook(self._heard)

    def watch(self, folder, at) -> None:
        self.folder, self.at = str(folder), at

    def stop(self) -> None:
        self.folder = None

    def _heard(self, event, arguments) -> None:
        if event == "open" and self.folder is not None and str(arguments[0]).startswith(self.folder):
            self.step()

    def step(self) -> None:
        if self.folder is not None:
            folder, self.folder = self.folder, None
            self.at()
            self.folder = folder


STEPS = Steps()  # an audit hook stays for ever, so there is one


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """Two archives of the tasks a and b, with other classes and other weights, and a package of each."""
    folder = tmp_path_factory.mktemp("versions")
    backbone = make_backbone(folder / "exported")
    made = []
    for number, neurons in enumerate(((2, 0, 1), (0, 3, 2))):
        files = []
        for name in TASKS:
            task = make_task(name, neurons)
            classes = tuple(f"{name} {number} {index}" for index in range(len(task.header.classes)))
            files.append(folder / f"{number}.{name}.safetensors")
            write_task(replace(task, header=replace(task.header, classes=classes)), files[-1])
        package = create_or_extend(folder / f"package{number}", backbone, files).folder
        made.append((pack(package, folder / f"{number}.tar", with_backbone=False).path, package))
    return made


@pytest.fixture
def package(versions, tmp_path):
    """A package that has the first version."""
    return install_from(pack(versions[0][1], tmp_path / "full.tar").path, tmp_path / "package").package


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "image.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (SIZE, SIZE, 3), np.uint8)).save(path)
    return path


def predicted(package, image):
    return [(one.label, one.probability, one.top) for one in predict(package, [image], threads=1)]


def served(package, _image):
    return [
        (task.name, task.classes, task.run(np.ones((1, 3, SIZE, SIZE), np.float32)).tolist())
        for task in serving(package, threads=1).served()
    ]


def packed(package, _image):
    return pack(package, package.parent / "again.tar").sha256


def verified(package, _image):
    verdict = verify(package)
    return verdict.faults, verdict.size_bytes


def found(package, _image):
    with undisturbed([package]):  # as profile does
        artefacts = find_artefacts([package], Wanted())
    return [(one.task, one.neurons, [path.name for path in one.files]) for one in artefacts]


def added_up(package, _image):
    with opened_package(package, ()) as opened:
        # The manifest is longer where there is a version to go back to.
        manifest = (package / MANIFEST).stat().st_size
        return fleet_ledger(opened).line("onnx-package").storage.tasks_bytes - manifest


def graph_alone(package, image):
    return predicted(package / "a.onnx", image)


@pytest.mark.parametrize("reader", [predicted, served, packed, verified, found, added_up, graph_alone])
def test_a_swap_at_any_step_of_a_reader_leaves_it_one_version(versions, package, image, reader, monkeypatch):
    expected = [reader(folder, image) for _, folder in versions]
    assert expected[0] != expected[1]
    real = onnx_runtime.open_session
    monkeypatch.setattr(onnx_runtime, "open_session", lambda *given, **named: (STEPS.step(), real(*given, **named))[1])
    with swapper(package, versions[0][0], versions[1][0]) as other:
        seen, step, steps = set(), 0, 1
        while step < steps:
            steps = 0

            def act(step=step):
                nonlocal steps
                if steps == step:
                    other.swap(0.05)
                steps += 1

            STEPS.watch(package, act)
            try:
                answer = reader(package, image)
            finally:
                STEPS.stop()
            assert answer in expected, f"swapped at step {step} of {steps}"
            seen.add(expected.index(answer))
            assert other.wait(60)
            step += 1
    assert steps > 3
    assert seen == {0, 1}


@pytest.mark.slow
def test_predicting_and_installing_over_and_over_has_no_wrong_answer_and_no_refusal(versions, package, image):
    expected = [predicted(folder, image) for _, folder in versions]
    with swapper(package, versions[0][0], versions[1][0]) as other:
        swaps = answers = 0
        while swaps < 20:
            answer = predicted(package, image)
            assert answer in expected
            answers += 1
            swaps += other.swap(0)
    assert answers >= 20


def test_who_changes_a_package_waits_for_its_readers_and_says_so(versions, package, monkeypatch):
    from mimi_edge.export import locks

    monkeypatch.setattr(locks, "PATIENT_SECONDS", 0.0)
    said = []
    with swapper(package, versions[0][0], versions[1][0]) as other:
        with opened_package(package):
            assert not other.swap(0.3)
        assert other.wait(60)
        read, write = os.pipe()
        holder = os.fork()
        if not holder:
            with reading(package):
                os.write(write, b"x")
                import time

                time.sleep(0.5)
            os._exit(0)
        os.read(read, 1)
        roll_back(package, listener=said.append)
        os.waitpid(holder, 0)
    assert said == [Note(f"Waiting for other processes that use {package}.")]


def test_who_would_wait_for_himself_is_told(versions, package):
    with opened_package(package), pytest.raises(ConfigError, match="would wait for itself"):
        install_from(versions[1][0], package)
    install_from(versions[1][0], package)


def test_what_was_opened_and_never_asked_for_is_let_go(versions, package):
    opened = serving(package)
    assert opened.tasks == TASKS
    with pytest.raises(ConfigError, match="would wait for itself"):
        install_from(versions[1][0], package)
    del opened
    install_from(versions[1][0], package)


def test_what_was_loaded_is_let_go_while_it_still_answers(versions, package):
    asked = serving(package).served()
    before = [task.run(np.ones((1, 3, SIZE, SIZE), np.float32)) for task in (next(asked), next(asked))]
    install_from(versions[1][0], package)
    assert list(asked) == []
    assert len(before) == 2


def test_a_reader_that_is_killed_keeps_nobody_out(package):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        with reading(package):
            os.write(write, b"x")
            os.kill(os.getpid(), 9)
    os.read(read, 1)
    os.waitpid(child, 0)
    with locked(package, wait=False):
        pass


def test_an_interrupted_change_is_finished_before_it_is_read_and_not_by_a_reader_of_a_reader(versions, package):
    from mimi_edge.export import transactions

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transactions, "finish", lambda _folder, manifest, **_: manifest)
        install_from(versions[1][0], package)
    with opened_package(package) as outer, opened_package(package) as inner:
        assert inner == outer
    assert verify(package).faults == ()


def test_where_there_are_no_locks_work_goes_on(versions, package, image, monkeypatch):
    import errno

    from mimi_edge.export import locks

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with opened_package(package):
        assert predicted(package, image)
    install_from(versions[1][0], package)


def test_a_package_in_a_folder_that_cannot_be_written_is_read(package, image):
    package.chmod(0o555)
    try:
        assert predicted(package, image)
    finally:
        package.chmod(0o755)
