"""Reports of earlier schemas as documents of today's.

Schema 1 knew packages and one process for all, schema 2 one process for each artefact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

NOT_KNOWN = "not known"
ONE_EACH, SOME_EACH = "one for each artefact", "some for each artefact"
BACKENDS = {
    "CPUExecutionProvider": "ort-cpu",
    "CUDAExecutionProvider": "ort-cuda",
    "TensorrtExecutionProvider": "ort-trt",
}
LATER_SUMMARY = ("settled", "latency_ns", "warm_up_ns", "batch")


def taken_over(document: Mapping[str, Any]) -> dict[str, Any]:
    """The same report in schema 3; what an earlier one did not hold is null, empty or left out.

    Raises:
        KeyError, TypeError, AttributeError, IndexError: it is no such report.
    """
    second = _from_first(document) if document["schema"] == 1 else dict(document)
    method = dict(second["method"])
    if method.get("processes") == ONE_EACH:
        method |= {"processes": SOME_EACH, "processes_each": 1}
    return second | {"schema": 3, "method": method}


# Schema 1.


def _from_first(document: Mapping[str, Any]) -> dict[str, Any]:
    """In schema 2."""
    environment, storage = document["environment"], document["storage"]
    later: dict[str, Any] = {"git_revision": None, "gpu": None, "board": None, "marks": []}
    return {
        "schema": 2,
        "made": NOT_KNOWN,
        "seed": document["seed"],
        "method": {"processes": "one for all"},
        "environment": dict(environment) | later,
        "storage": storage,
        "ledger": None,
        "artefacts": list(_artefacts(document, BACKENDS[environment["providers"][0]])),
    }


def _artefacts(document: Mapping[str, Any], backend: str) -> Iterator[dict[str, Any]]:
    storage = document["storage"]
    shared = {
        "backbone.onnx": storage["backbone_graph_bytes"],
        "backbone.weights": storage["backbone_weights_bytes"],
    }
    yield _artefact(document, backend, None, shared)
    for task in document["tasks"]:
        name = task["name"]
        own = {f"{name}.onnx": task["graph_bytes"], f"{name}.safetensors": task["task_file_bytes"]}
        weights = {"backbone.weights": shared["backbone.weights"]}
        accuracy = task["graph_accuracy"]
        yield _artefact(document, backend, name, own | weights) | {
            "neurons": task["neurons"],
            "stored_accuracy": task["stored_accuracy"],
            "accuracy": None if accuracy is None else _accuracy(accuracy),
        }


def _accuracy(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Schema 1 measured the test split only, and kept the share."""
    return {"split": "test", "images": entry["images"], "right": round(entry["accuracy"] * entry["images"])}


def _artefact(document: Mapping[str, Any], backend: str, task: str | None, files: Mapping[str, int]) -> dict[str, Any]:
    return {
        "name": "backbone" if task is None else task,
        "kind": "backbone" if task is None else "task",
        "task": task,
        "backend": backend,
        "precision": "fp32",
        "strategy": None,
        "files": dict(files),
        "neurons": None,
        "gflops": None,
        "stored_accuracy": {},
        "accuracy": None,
        "preprocessing": None,
        "memory": None,
        "failure": None,
        "measurements": [_measurement(one) for one in document["latencies"] if one["task"] == task],
    }


def _measurement(entry: Mapping[str, Any]) -> dict[str, Any]:
    ratio = entry["ratio"]
    return {name: entry[name] for name in LATER_SUMMARY} | {
        "turn_starts_ns": [],
        "ratio": None if ratio is None else dict(ratio) | {"to": "backbone"},
        "energy": None,
        "estimate": None,
    }
