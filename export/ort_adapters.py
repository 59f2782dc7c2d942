"""Tasks for those who stay on ONNX Runtime: one graph, and for each task a small file that a run activates.

    ort-adapters.json  adapters.onnx  backbone.weights  <task>.onnx_adapter  ...

The folder stands alone: the graph takes its weights from the file beside it, and each `.onnx_adapter` file is what ONNX
Runtime's `LoraAdapter` loads. Such a file has no room for names, so classes and preprocessing are in the JSON file.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from mimi_edge.choices import Backend
from mimi_edge.documents import DocumentKind, read_document
from mimi_edge.errors import ArtifactError, ConfigError, ExportMismatchError, MimiEdgeError
from mimi_edge.events import Advance, Listener, silent
from mimi_edge.export.external_data import is_plain_name, verify_graph
from mimi_edge.export.graphs import BACKBONE_GRAPH, BACKBONE_WEIGHTS
from mimi_edge.export.manifest import FileEntry, file_entry
from mimi_edge.export.onnx_runtime import OnnxModel, open_graph, runtime_version
from mimi_edge.export.open_packages import Package, PackagedTask, file_faults
from mimi_edge.export.parity import TOLERANCE
from mimi_edge.export.staging import require_free, settle, staging_folder
from mimi_edge.files import sha256_of, write_whole
from mimi_edge.images.image_size import ImageSize
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.installation import pip_line
from mimi_edge.tasks.files import read_task
from mimi_edge.tasks.stores import Array, Floats, Store
from mimi_edge.tasks.task import BackboneIdentity, Task, decode_adapters, decode_head, encode_weights
from mimi_edge.texts import fault_list, json_text

SCHEMA = 1
MANIFEST = "ort-adapters.json"
GRAPH = "adapters.onnx"
SUFFIX = ".onnx_adapter"
STAGE = "export adapters"
OLDEST_RUNTIME = "1.20"
CHECKED_IMAGES = 2
ADAPTER_VERSION = MODEL_VERSION = 1
"""Numbers that the runtime keeps in an adapter file and makes nothing of."""
KIND = DocumentKind(
    "what describes adapters for ONNX Runtime",
    largest_bytes=32_000_000,
    mend="Export the tasks again.",
    absent="Make them with: mimi-edge export --format ort-adapter",
    newest=SCHEMA,
    open=True,
)


@dataclass(frozen=True)
class OrtAdapter:
    """One task of a set.

    Attributes:
        name: of the task.
        file: name of its `.onnx_adapter` file.
        task_sha256: of the task file that its weights are from.
        classes: names in the order of the logits.
        preprocessing: what happens to an image before the graph sees it.
        check: what was compared when it was exported, in figures.
    """

    name: str
    file: str
    task_sha256: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    check: Mapping[str, Any]


@dataclass(frozen=True)
class OrtAdapterSet:
    """A folder with a graph and its tasks, whose files were found to be what its manifest says.

    Attributes:
        folder: that holds everything.
        backbone: the network that all tasks share.
        input_size: H and W of the images.
        store: number format of the weights in the adapter files, fp16 or fp32.
        padded: whether all tasks' tensors have the same shapes.
        files: by name.
        tasks: by name.
    """

    folder: Path
    backbone: BackboneIdentity
    input_size: ImageSize
    store: Store
    padded: bool
    files: Mapping[str, FileEntry]
    tasks: Mapping[str, OrtAdapter]

    @property
    def graph(self) -> Path:
        """Path of the graph."""
        return self.folder / GRAPH

    def task(self, name: str) -> OrtAdapter:
        """One task by its name.

        Raises:
            ConfigError: there is none of that name.
        """
        if name not in self.tasks:
            raise ConfigError(f"{self.folder} has no task {name!r}; it has {', '.join(self.tasks) or 'none'}.")
        return self.tasks[name]


@dataclass(frozen=True)
class OrtAdapterModel:
    """A set that is loaded and ready; which task answers is chosen for each run.

    Attributes:
        adapters: what was loaded.
        model: the graph in ONNX Runtime.
        options: for each task the `onnxruntime.RunOptions` that activate it.
        loaded: for each task the `onnxruntime.LoraAdapter` that its options point to.
    """

    adapters: OrtAdapterSet
    model: OnnxModel
    options: Mapping[str, Any]
    loaded: Mapping[str, Any]

    def run(self, task: str, images: Floats) -> Floats:
        """Normalised images, float32 [B, 3, H, W] -> the task's logits [B, C].

        Raises:
            ConfigError: there is no such task, or the images have another shape.
        """
        classes = len(self.adapters.task(task).classes)
        return self.model.run(images, self.options[task])[:, :classes]


def export_ort_adapters(
    package: Package,
    out: Path,
    tasks: Sequence[str] | None = None,
    *,
    padded: bool = False,
    tolerance: float = TOLERANCE,
    threads: int | None = None,
    listener: Listener = silent,
) -> OrtAdapterSet:
    """Writes a package's tasks as one graph and an adapter file each, checked against the tasks' own graphs.

    Args:
        package: where the tasks are.
        out: folder to make; it appears only once everything in it is whole and checked.
        tasks: names; None is all of the package.
        padded: give all tasks' tensors the same shapes, for providers that compile for shapes, such as TensorRT's.
        tolerance: of the logits, as a share of the largest.
        threads: of ONNX Runtime.
        listener: hears how far it is.

    Raises:
        ArtifactError: a task file is damaged.
        ConfigError: there is no such task, the tasks cannot share a graph, or the folder is not free.
        ExportMismatchError: the graph does not answer what a task's own graph answers; nothing was published.
        MimiEdgeError: ONNX Runtime is missing or too old.
        OSError: the disk is full; nothing was published.
    """
    chosen = [package.task(name) for name in (package.tasks if tasks is None else dict.fromkeys(tasks))]
    require_free(out)
    runtime = _runtime()
    with staging_folder(out) as staging:
        made = _write(package, chosen, staging, runtime, padded)
        checks = _checks(made, chosen, tolerance, threads, listener)
        _write_manifest(replace(made, tasks={name: replace(made.tasks[name], check=checks[name]) for name in checks}))
        settle(staging)
        staging.rename(out)
    return read_ort_adapters(out)


def read_ort_adapters(folder: Path) -> OrtAdapterSet:
    """Opens a folder that `export_ort_adapters` made, and hashes every file in it.

    Raises:
        ArtifactError: a file is missing, a link, altered or of a newer schema, or refers to what it must not.
    """
    adapters = _read_manifest(folder)
    faults = list(_faults(adapters))
    if not faults:
        foreign = verify_graph(adapters.graph).files - adapters.files.keys()
        faults = [f"{GRAPH} takes weights from {name}, which is not listed" for name in sorted(foreign)]
    if faults:
        raise ArtifactError(f"{folder} is damaged:\n{fault_list(faults)}\nExport it again, or get an unaltered copy.")
    return adapters


def open_ort_adapters(
    folder: Path, *, backend: Backend = Backend.ORT_CPU, threads: int | None = None
) -> OrtAdapterModel:
    """Loads a set into ONNX Runtime, once for all its tasks, after checking every file.

    Args:
        folder: from `export_ort_adapters`.
        backend: one of ONNX Runtime's; adapters stay in host memory and are copied to the device for each run.
        threads: of the computation; None leaves it to the runtime.

    Raises:
        ArtifactError: a file is not what was exported.
        MimiEdgeError: ONNX Runtime is missing or too old, lacks the backend, or cannot run the graph.
    """
    runtime = _runtime()
    return _opened(read_ort_adapters(folder), runtime, backend, threads)


def _runtime() -> Any:
    """ONNX Runtime with adapters.

    Raises:
        MimiEdgeError: it is missing or too old.
    """
    version = runtime_version()
    runtime = None if version is None else import_module("onnxruntime")
    if not hasattr(runtime, "LoraAdapter"):
        newer = f'install --upgrade "onnxruntime>={OLDEST_RUNTIME}"'
        raise MimiEdgeError(
            f"Adapters need ONNX Runtime {OLDEST_RUNTIME} or later, got {version or 'none'}. "
            f"Install it: {pip_line(newer)}"
        )
    return runtime


def _write(package: Package, chosen: Sequence[PackagedTask], folder: Path, runtime: Any, padded: bool) -> OrtAdapterSet:
    """Puts weights, graph and adapter files into a folder."""
    from mimi_edge.export.graph_files import save_graph
    from mimi_edge.export.shared.inputs import task_tensors
    from mimi_edge.export.shared.layout import layout_of
    from mimi_edge.export.shared.overridable import overridable_model

    read = {task.name: read_task(task.task_file) for task in chosen}
    layout = layout_of(list(read.values()))
    store = _store(list(read.values()))
    model = overridable_model(package.folder / BACKBONE_GRAPH, layout, store, padded=padded)
    save_graph(model, folder / GRAPH)
    shutil.copyfile(package.backbone_weights, folder / BACKBONE_WEIGHTS)
    for name, task in read.items():
        tensors = task_tensors(task, layout) if padded else _tensors(task)
        _write_adapter(runtime, folder / (name + SUFFIX), tensors, store)
    files = {path.name: file_entry(path) for path in sorted(folder.iterdir())}
    tasks = {task.name: _entry(task, read[task.name]) for task in chosen}
    return OrtAdapterSet(folder, package.backbone, package.input_size, store, padded, files, tasks)


def _store(tasks: Sequence[Task]) -> Store:
    """One type for all: what is kept in fp16 stays so; int8 becomes fp32, for its products with scales are no fp16."""
    return Store.FP16 if all(task.header.store is Store.FP16 for task in tasks) else Store.FP32


def _tensors(task: Task) -> Mapping[str, Array]:
    """A task's own tensors in fp32, not padded."""
    return encode_weights(decode_adapters(task), decode_head(task), Store.FP32)


def _write_adapter(runtime: Any, path: Path, tensors: Mapping[str, Array], store: Store) -> None:
    values = {
        name: runtime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(tensor, store.weight_dtype))
        for name, tensor in sorted(tensors.items())
    }
    adapter = runtime.AdapterFormat()
    adapter.set_adapter_version(ADAPTER_VERSION)
    adapter.set_model_version(MODEL_VERSION)
    adapter.set_parameters(values)
    try:
        adapter.export_adapter(str(path.absolute()))
    except RuntimeError as error:
        # The runtime says no more than that it could not; what keeps a file from being written is the disk.
        raise OSError(errno.EIO, f"ONNX Runtime could not write it ({error})", str(path)) from error


def _entry(packaged: PackagedTask, task: Task) -> OrtAdapter:
    header = task.header
    sha256 = sha256_of(packaged.task_file)
    return OrtAdapter(packaged.name, packaged.name + SUFFIX, sha256, header.classes, header.preprocessing, {})


def _checks(
    made: OrtAdapterSet, chosen: Sequence[PackagedTask], tolerance: float, threads: int | None, listener: Listener
) -> dict[str, dict[str, Any]]:
    """Holds every task against its own graph, on noise."""
    size = made.input_size
    images = np.random.default_rng(0).standard_normal((CHECKED_IMAGES, 3, *size), np.float32)
    model = _opened(made, _runtime(), Backend.ORT_CPU, threads)
    checks = {}
    for done, task in enumerate(chosen):
        listener(Advance(STAGE, done, len(chosen), {"task": task.name}))
        expected = open_graph(task.graph, threads=threads).run(images)
        checks[task.name] = _check(task.name, model.run(task.name, images), expected, tolerance)
    listener(Advance(STAGE, len(chosen), len(chosen)))
    return checks


def _check(name: str, got: Floats, expected: Floats, tolerance: float) -> dict[str, Any]:
    scale = float(np.abs(expected).max())
    difference = float(np.abs(got - expected).max()) / (scale or 1) if got.shape == expected.shape else float("inf")
    # Written so that a difference that is not a number fails too.
    if not difference <= tolerance:
        raise ExportMismatchError(
            f"Task {name} answers differently as an adapter than in its own graph: expected a difference of at most "
            f"{tolerance:g} of the largest logit, got {difference:.3g}. Nothing was published. "
            "Install the versions in constraints.txt, and export again."
        )
    return {"images": len(expected), "kind": "random noise", "relative_difference": difference, "tolerance": tolerance}


def _opened(adapters: OrtAdapterSet, runtime: Any, backend: Backend, threads: int | None) -> OrtAdapterModel:
    model = open_graph(adapters.graph, threads=threads, backend=backend, rearrange=False)
    loaded, options = {}, {}
    for name, task in adapters.tasks.items():
        loaded[name] = _loaded(runtime, adapters.folder / task.file)
        options[name] = runtime.RunOptions()
        options[name].add_active_adapter(loaded[name])
    return OrtAdapterModel(adapters, model, options, loaded)


def _loaded(runtime: Any, path: Path) -> Any:
    adapter = runtime.LoraAdapter()
    try:
        adapter.Load(str(path.absolute()))
    except Exception as error:  # the runtime's own kinds, without a common base
        raise ArtifactError(f"ONNX Runtime {runtime_version()} refuses {path}: {error}. Export it again.") from error
    return adapter


def _write_manifest(adapters: OrtAdapterSet) -> None:
    document = asdict(adapters) | {"schema": SCHEMA, "store": adapters.store.value}
    document["input_size"] = adapters.input_size.document
    for name, task in adapters.tasks.items():
        document["tasks"][name]["preprocessing"] = task.preprocessing.document()
    del document["folder"]
    text = json_text(document, sort_keys=True)
    write_whole(adapters.folder / MANIFEST, f"{text}\n".encode())


def _read_manifest(folder: Path) -> OrtAdapterSet:
    document = read_document(folder / MANIFEST, KIND, _Document)
    return OrtAdapterSet(folder, **{one.name: getattr(document, one.name) for one in fields(document)})


@dataclass(frozen=True)
class _Document:
    """What `_write_manifest` writes."""

    backbone: BackboneIdentity
    input_size: ImageSize
    store: Store
    padded: bool
    files: Mapping[str, FileEntry]
    tasks: Mapping[str, OrtAdapter]


def _faults(adapters: OrtAdapterSet) -> Iterator[str]:
    """Everything in which the folder is not what its manifest says; nothing outside the folder is looked at."""
    needed = {GRAPH, BACKBONE_WEIGHTS, *(task.file for task in adapters.tasks.values())}
    yield from (f"{name} is not listed" for name in sorted(needed - adapters.files.keys()))
    own: dict[str, FileEntry] = {}
    for name, expected in adapters.files.items():
        if not is_plain_name(name):
            yield f"{name!r} is not the name of a file in the same folder"
        elif (adapters.folder / name).is_symlink():
            yield f"{name} is a link"
        else:
            own[name] = expected
    yield from file_faults(adapters.folder, own)
