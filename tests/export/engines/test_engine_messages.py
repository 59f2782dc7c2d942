"""What TensorRT says when it fails, in its own words, and what we make of it."""

from __future__ import annotations

import pytest

from mimi_edge.errors import ArtifactError, EngineBuildError, MimiEdgeError
from mimi_edge.export.engines.tensorrt.logs import EngineLog, LogEntry
from mimi_edge.export.engines.tensorrt.messages import explain, explain_build

SAID = [
    (
        (
            "IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error (The engine plan file is generated on an "
            "incompatible device, expecting compute 8.7 got compute 8.6, please rebuild.)"
        ),
        ArtifactError,
        "another GPU",
        "mimi-edge export --format trt",
    ),
    (
        "The engine has been created with CUDA driver version 13000, but the current CUDA driver version is 12040",
        ArtifactError,
        "another version of CUDA",
        "mimi-edge export --format trt",
    ),
    (
        (
            "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion stdVersionRead == "
            "kSERIALIZATION_VERSION failed.Version tag does not match. Note: Current Version: 239, Serialized Engine "
            "Version: 240)"
        ),
        ArtifactError,
        "another version of TensorRT",
        "mimi-edge export --format trt",
    ),
    (
        (
            "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion header.magicTag == "
            "kEXPECTED_MAGIC_TAG failed.Trying to load an engine created with incompatible serialization version "
            "(1651663207 != 1953657974)."
        ),
        ArtifactError,
        "no engine at all",
        "mimi-edge export --format trt",
    ),
    (
        (
            "The engine plan file is not compatible with this version of TensorRT, expecting library version 10.15.1 "
            "got 10.3.0.26, please rebuild."
        ),
        ArtifactError,
        "another version of TensorRT",
        "mimi-edge export --format trt",
    ),
    (
        (
            "createInferBuilder: Error Code 6: API Usage Error (CUDA initialization failure with error: 35. Please "
            "check your CUDA installation: ...)"
        ),
        MimiEdgeError,
        "no NVIDIA driver, or it is too old",
        "nvidia-smi",
    ),
    (
        (
            "IRuntime::deserializeCudaEngine: Error Code 1: Cuda Runtime (In ScopedCudaStream (cudaError 35: CUDA "
            "driver version is insufficient for CUDA runtime version))"
        ),
        MimiEdgeError,
        "no NVIDIA driver, or it is too old",
        "nvidia-smi",
    ),
    ("CUDA initialization failure with error: 100", MimiEdgeError, "no NVIDIA GPU", "CUDA_VISIBLE_DEVICES"),
    ("CUDA initialization failure with error: 999", MimiEdgeError, "CUDA does not start", "nvidia-smi"),
    (
        "[virtualMemoryBuffer.cpp::resizePhysical::145] Error Code 2: OutOfMemory (no further information)",
        EngineBuildError,
        "memory is not enough",
        "--batch MIN:OPT:MAX",
    ),
    ("Cuda Error in allocate: 2 (out of memory)", EngineBuildError, "memory is not enough", "swap"),
    (
        "MyelinCheckException: graph_jit.cpp:278: CHECK(status == CUDA_SUCCESS) failed.",
        EngineBuildError,
        "needs a working NVIDIA driver",
        "--strategy per-task",
    ),
    (
        "TensorRT was linked against cuBLAS/cuBLAS LT 11.4.2 but loaded cuBLAS/cuBLAS LT 11.2.1",
        EngineBuildError,
        "not of the version",
        "LD_LIBRARY_PATH",
    ),
    (
        "MyelinCheckException: kernel_gen.cpp:1249: CHECK(sm_vers_.size() == 1) failed.",
        EngineBuildError,
        "only for one compute capability",
        "Name one",
    ),
    (
        "Could not find any implementation for node {ForeignNode[a...b]}.",
        EngineBuildError,
        "no kernel",
        "--precision fp32",
    ),
    ("something new", EngineBuildError, "we do not know why", "something new"),
]


@pytest.mark.parametrize(("said", "kind", "what", "advice"), SAID)
def test_a_failure_is_explained(said, kind, what, advice):
    error = explain_build(EngineLog([LogEntry("ERROR", "aside"), LogEntry("ERROR", said)]), "shared.fp16.engine")
    assert isinstance(error, kind)
    text = str(error)
    assert text.startswith("Cannot build shared.fp16.engine")
    assert what in text
    assert advice in text


def test_a_warning_explains_what_no_error_does():
    log = EngineLog(
        [
            LogEntry("WARNING", "Requested amount of GPU memory (68719476736 bytes) could not be allocated."),
            LogEntry("ERROR", "Error Code 10: Internal Error (nothing of use)"),
        ]
    )
    assert "memory is not enough" in str(explain_build(log, "x.engine"))


def test_an_error_counts_more_than_a_warning():
    log = EngineLog(
        [
            LogEntry("WARNING", "Skipping tactic 3 due to insufficient memory on requested size"),
            LogEntry("ERROR", "Could not find any implementation for node a"),
        ]
    )
    assert "no kernel" in str(explain_build(log, "x.engine"))


def test_the_particular_cause_wins_over_what_follows_from_it():
    log = EngineLog(
        [
            LogEntry("ERROR", "Serialization assertion header.magicTag == kEXPECTED_MAGIC_TAG failed."),
            LogEntry("ERROR", "catchCudaError (cudaError 35: CUDA driver version is insufficient)"),
        ]
    )
    assert isinstance(explain(log, "load x.engine"), ArtifactError)


def test_silence_is_called_silence_and_is_no_build_error_outside_builds():
    error = explain(EngineLog(), "load x.engine")
    assert "TensorRT said: nothing" in str(error)
    assert type(error) is MimiEdgeError
