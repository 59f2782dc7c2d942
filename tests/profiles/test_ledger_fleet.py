"""The ledger of real folders: its bytes are those that lie there."""

import os
import shutil
import subprocess
from dataclasses import replace

import pytest
from report_samples import make_backbone, make_report, make_task
from tiny_package import IDENTITY, make_package
from tiny_package import make_task as make_real_task

from mimi_edge.choices import Backend, Precision, Strategy
from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export.engines.building.requests import BatchRange
from mimi_edge.export.engines.shelf.shelf import engine_name, publish
from mimi_edge.export.engines.shelf.sidecars import Sidecar
from mimi_edge.export.engines.tensorrt.tensors import EngineTensor
from mimi_edge.export.open_packages import read_package
from mimi_edge.export.ort_adapters import export_ort_adapters
from mimi_edge.export.packages import create_or_extend
from mimi_edge.files import sha256_of
from mimi_edge.profiles import fleet
from mimi_edge.profiles.fleet import NOTHING_MEASURED, ProcessMemory, fleet_ledger, measured_memory
from mimi_edge.profiles.inventory import folder_files, package_inventory
from mimi_edge.profiles.reports import MemoryUse
from mimi_edge.tasks.files import write_task
from mimi_edge.tasks.sizes import size_bytes

RANGES = {"batch": BatchRange(1, 8, 32)}
TENSORS = (
    EngineTensor("images", "input", "float32", (-1, 3, 4, 4)),
    EngineTensor("logits", "output", "float32", (-1, 3)),
)
TASKS = {"digits": (3, 0, 1), "fashion": (1, 2, 2), "сорта 🙂": (0, 0, 1)}


def first(count):
    return dict(list(TASKS.items())[:count])


@pytest.fixture(scope="module", params=[1, 2, 3])
def package(request, tmp_path_factory):
    return make_package(tmp_path_factory.mktemp("fleet"), first(request.param))


@pytest.fixture
def two(tmp_path):
    return make_package(tmp_path, first(2))


def du_bytes(folder):
    """What `du` says of the files in a folder."""
    if shutil.which("du") is None:
        pytest.skip("needs du")
    files = [str(path) for path in folder.rglob("*") if not path.is_dir()]
    said = subprocess.run(["du", "--apparent-size", "--block-size=1", *files], capture_output=True, check=False)
    if said.returncode:
        pytest.skip("this du has no --apparent-size")
    return sum(int(line.split()[0]) for line in said.stdout.decode().splitlines())


def stat_bytes(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def put_engine(package, strategy, size, *, task=None, precision=Precision.FP16, mixed=False):
    name = engine_name(strategy, precision, task, mixed=mixed)
    plan = os.urandom(size)
    beside = package.folder.parent / "plan"
    beside.write_bytes(plan)
    chosen = [task] if task else list(package.tasks)
    sidecar = Sidecar(
        engine=f"{name}.engine",
        sha256=sha256_of(beside),
        size_bytes=size,
        backend=Backend.TRT,
        version="10.3.0",
        gpu="Orin",
        compute_capabilities=("8.7",),
        cuda="12.6",
        precision=precision,
        strategy=strategy,
        mixed=mixed,
        ranges=RANGES,
        tensors=TENSORS,
        tasks={name: sha256_of(package.tasks[name].task_file) for name in chosen},
        backbone_sha256=package.backbone.sha256,
    )
    return publish(package.folder, sidecar, lambda path: path.write_bytes(plan))


def test_the_ledgers_bytes_are_those_of_the_folder(package):
    ledger = fleet_ledger(package)
    found = ledger.line("onnx-package").storage
    assert found.basis == "files"
    assert found.total_bytes(len(package.tasks)) == stat_bytes(package.folder) == du_bytes(package.folder)
    assert ledger.folder_bytes == du_bytes(package.folder)


def test_a_package_of_one_task_foretells_one_of_three(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "three").mkdir()
    alike = {"aa": (3, 1, 1), "bb": (3, 1, 1), "cc": (3, 1, 1)}
    one = make_package(tmp_path / "one", {"aa": alike["aa"]})
    three = make_package(tmp_path / "three", alike)
    foretold = fleet_ledger(one).line("onnx-package").storage.total_bytes(3)
    assert foretold == pytest.approx(stat_bytes(three.folder), abs=8)


def test_engines_an_earlier_version_and_strangers_are_in_the_sum(two):
    put_engine(two, Strategy.SHARED, 5000)
    (two.folder / ".previous").mkdir()
    (two.folder / ".previous" / "old").write_bytes(b"x" * 77)
    (two.folder / "notes.txt").write_bytes(b"y" * 33)
    inventory = package_inventory(two)
    assert inventory["earlier version, to go back to"] == 77
    assert inventory["other files"] == 33
    assert inventory["engines"] == stat_bytes(two.folder / "engines") > 5000
    assert sum(inventory.values()) == stat_bytes(two.folder) == du_bytes(two.folder)


def test_hard_links_count_once_and_links_as_themselves(tmp_path):
    (tmp_path / "a").write_bytes(b"1234")
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "c").symlink_to("a")
    assert sum(folder_files(tmp_path).values()) == 4 + len("a")


def test_what_one_compares_with_is_computed_from_the_real_sizes(two):
    ledger = fleet_ledger(two)
    weights, graph = two.backbone_weights.stat().st_size, two.backbone_graph.stat().st_size
    head = 4 * 3 * (IDENTITY.features + 1)
    full = ledger.line("full-models").storage
    assert (full.basis, full.total_bytes(2)) == ("computed", 2 * (weights + graph + head))
    task_files = sum(task.task_file.stat().st_size for task in two.tasks.values())
    graphs = sum(task.graph.stat().st_size for task in two.tasks.values())
    assert ledger.line("full-graphs").storage.total_bytes(2) == task_files + graphs + 2 * weights
    probes = ledger.line("linear-probes").storage
    heads = sum(size_bytes(make_real_task(name, (0, 0, 0)).header, {}) for name in two.tasks)
    assert probes.tasks_bytes == heads + 2 * graph
    assert probes.tasks_bytes < ledger.line("onnx-package").storage.tasks_bytes


def test_tasks_that_cannot_share_a_graph_have_no_line_of_one(two, monkeypatch):
    every = {line.strategy for line in fleet_ledger(two).lines}
    monkeypatch.setattr(fleet, "why_not_shared", lambda *_: "it changes weights of the backbone itself")
    found = fleet_ledger(two).lines
    gone = {name for name in every if name.startswith(("shared", "refit", "ort"))}
    assert len(gone) == 3
    assert {line.strategy for line in found} == every - gone
    (package,) = (line for line in found if line.strategy == "onnx-package")
    assert "it changes weights of the backbone itself" in package.note


def test_engines_that_are_not_there_are_computed_and_labelled(two):
    for precision, share in ((Precision.FP32, 1), (Precision.FP16, 2)):
        shared = fleet_ledger(two, precision=precision).line(f"shared.{precision.value}")
        assert shared.storage.basis == "computed"
        assert shared.storage.shared_bytes == two.backbone_weights.stat().st_size // share
        assert "Weights alone" in shared.note


def test_engines_on_the_shelf_are_what_they_weigh(two):
    for task in two.tasks:
        put_engine(two, Strategy.PER_TASK, 4000, task=task)
    put_engine(two, Strategy.SHARED, 7000, precision=Precision.FP32)
    ledger = fleet_ledger(two)
    shelf = two.folder / "engines"
    task_files = sum(task.task_file.stat().st_size for task in two.tasks.values())
    per_task = ledger.line("per-task.fp16").storage
    expected = sum(path.stat().st_size for path in shelf.glob("per-task.*")) + task_files
    assert (per_task.basis, per_task.total_bytes(2)) == ("files", expected)
    shared = ledger.line("shared.fp32").storage
    assert shared.shared_bytes == sum(path.stat().st_size for path in shelf.glob("shared.*"))
    assert (shared.basis, shared.tasks_bytes) == ("files", task_files)
    assert ledger.line("refit.fp16").storage.basis == "computed"
    assert not [line for line in ledger.lines if line.strategy == "shared.fp16"]


def test_an_engine_of_another_version_of_its_task_does_not_count(two, tmp_path):
    put_engine(two, Strategy.PER_TASK, 4000, task="digits")
    write_task(make_real_task("digits", (2, 2, 2)), tmp_path / "digits.new.safetensors")
    package = create_or_extend(two.folder, None, [tmp_path / "digits.new.safetensors"])
    assert fleet_ledger(package).line("per-task.fp16").storage.basis == "computed"


def test_adapter_folders_are_counted_whole(two, tmp_path):
    adapters = export_ort_adapters(two, tmp_path / "adapters", threads=1)
    ledger = fleet_ledger(two, adapters=adapters)
    found = ledger.line("ort-adapters").storage
    assert (found.basis, found.total_bytes(2)) == ("files", du_bytes(adapters.folder))
    assert ledger.folder_bytes == du_bytes(two.folder) + du_bytes(adapters.folder)
    computed = fleet_ledger(two).line("ort-adapters").storage
    assert computed.basis == "computed"
    foreign = replace(adapters, backbone=replace(adapters.backbone, sha256="9" * 64))
    with pytest.raises(ArtifactError, match="one backbone"):
        fleet_ledger(two, adapters=foreign)


def test_memory_of_sharing_grows_by_tasks_and_that_of_copies_by_models(two):
    ledger = fleet_ledger(two)
    weights = two.backbone_weights.stat().st_size
    for name in ("full-models", "full-graphs", "onnx-package"):
        assert ledger.line(name).memory.shared_bytes == 0
        assert ledger.line(name).memory.bytes_per_task > weights
    padded = 4 * (2 * 8 * (3 + 2 + 2) + 3 * (8 + 1))
    shared = ledger.line("shared.fp16").memory
    assert (shared.shared_bytes, shared.bytes_per_task, shared.basis) == (weights // 2, padded // 2, "estimate")


def test_measured_memory_goes_before_estimates(two):
    measured = ProcessMemory(1000, {"onnx-package": 1500, "shared.fp16": 9000})
    ledger = fleet_ledger(two, measured=measured)
    assert ledger.line("full-models").memory.basis == "measured"
    assert ledger.line("onnx-package").memory.total_bytes(10) == 15000
    shared = ledger.line("shared.fp16").memory
    assert (shared.total_bytes(1), shared.basis) == (9000, "measured")
    assert shared.bytes_per_task == fleet_ledger(two).line("shared.fp16").memory.bytes_per_task
    assert ledger.line("refit.fp16").memory.basis == "estimate"


def test_memory_is_read_off_a_report():
    engine = make_task("engine", kind="engine", strategy="shared", precision="fp16", memory=MemoryUse(10, 30, 5, 100))
    other = make_task("other", memory=MemoryUse(10, 20))
    artefacts = (make_backbone(memory=MemoryUse(100, 150)), make_task(memory=MemoryUse(100, 400)), other, engine)
    report = make_report(artefacts=artefacts)
    assert measured_memory(report) == ProcessMemory(50, {"onnx-package": 155, "shared.fp16": 115})
    unified = replace(report, environment=replace(report.environment, board={"unified_memory": True}))
    assert measured_memory(unified).by_strategy["shared.fp16"] == 95
    nothing = make_report(artefacts=(make_backbone(memory=None),))
    assert measured_memory(nothing) == NOTHING_MEASURED


def test_a_package_without_tasks_has_nothing_to_add_up(two):
    with pytest.raises(ConfigError, match="no task"):
        fleet_ledger(replace(two, tasks={}))


def test_a_package_that_is_read_again_gives_the_same_ledger(two):
    assert fleet_ledger(read_package(two.folder)) == fleet_ledger(two)
