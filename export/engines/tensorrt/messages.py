"""What TensorRT's messages mean, and what to do about them.

The patterns are pieces of the messages that the libraries 8.6 to 10.15 and RTX 1.7 hold.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mimi_edge.errors import ArtifactError, EngineBuildError, MimiEdgeError
from mimi_edge.export.engines.tensorrt.logs import EngineLog

REBUILD = "Build it again here: mimi-edge export --format trt PACKAGE"
LONGEST_QUOTE = 300


@dataclass(frozen=True)
class Cause:
    """One way in which TensorRT fails.

    Attributes:
        pattern: a regular expression for what it says then.
        what: is wrong.
        advice: what to do next.
        error: the kind of error to raise; None leaves it to what was being done.
    """

    pattern: str
    what: str
    advice: str
    error: type[MimiEdgeError] | None = None


CAUSES = (
    Cause(
        r"incompatible device|expecting compute|incompatible compute capability",
        "it was built for another GPU",
        REBUILD,
        ArtifactError,
    ),
    Cause(
        r"created with CUDA (driver|runtime) version|incompatible CUDA driver version",
        "it was built with another version of CUDA or its driver",
        REBUILD,
        ArtifactError,
    ),
    Cause(
        r"magicTag|Magic tag does not match|Version tag does not match|Serialization assertion"
        r"|incompatible serialization version|not compatible with this version of TensorRT"
        r"|created with TensorRT-RTX version|plan major version does not match|old deserialization call"
        r"|compiler backend version mismatch|version-locked",
        "it was built by another version of TensorRT, or is no engine at all",
        REBUILD,
        ArtifactError,
    ),
    Cause(
        r"failure with error:? 100\b|cudaError 100\b|no CUDA-capable device|cudaErrorNoDevice",
        "there is no NVIDIA GPU that this process may use",
        "Check nvidia-smi and CUDA_VISIBLE_DEVICES. In a container, start it with --gpus all (Jetson: --runtime "
        "nvidia).",
    ),
    Cause(
        r"failure with error:? 35\b|cudaError 35\b|driver version is insufficient|cudaErrorInsufficientDriver"
        r"|Failed to query CUDA driver version",
        "there is no NVIDIA driver, or it is too old for the CUDA version that this TensorRT is made for",
        "nvidia-smi says which CUDA version the driver takes (13 needs driver 580 or newer, 12 needs 525). Upgrade the "
        "driver, or install a TensorRT for its CUDA version (tensorrt-cu12 for 12; on a Jetson: upgrade JetPack). In "
        "a container, start it with --gpus all (Jetson: --runtime nvidia).",
    ),
    Cause(
        r"CUDA initialization failure with error",
        "CUDA does not start",
        "Check that nvidia-smi (Jetson: tegrastats) runs for this user, then try again.",
    ),
    Cause(
        r"CHECK\(status == CUDA_SUCCESS\)",
        "this kind of engine needs a working NVIDIA driver while it is built",
        "Build it on a machine with an NVIDIA GPU. Without one, TensorRT for RTX builds engines that are neither "
        "refittable nor stripped: --strategy per-task or shared.",
    ),
    Cause(
        r"CHECK\(sm_vers_\.size\(\) == 1\)",
        "this kind of engine can be built only for one compute capability at a time",
        "Name one, or build it on the GPU that it is for.",
    ),
    Cause(
        r"OutOfMemory|out of memory|could not be allocated|allocation failed|MEM_ALLOC_FAILED|insufficient memory"
        r"|memory is insufficient",
        "the GPU's memory is not enough",
        "Use a smaller maximum in --batch MIN:OPT:MAX, close other programs that use the GPU, or use --precision fp16. "
        "A Jetson shares its memory with the system: stop the desktop (sudo init 3) or add swap.",
    ),
    Cause(
        r"was linked against .* but loaded|getInferLibVersion|undefined symbol",
        "the libraries that were found are not of the version that the Python module was made for",
        "Install both from one place (mimi-edge doctor prints the line for this machine), and take other TensorRT "
        "folders out of LD_LIBRARY_PATH.",
    ),
    Cause(
        r"Could not find any implementation for node",
        "it has no kernel for a part of the graph",
        "Try --precision fp32, or another version of TensorRT.",
    ),
)
"""The first that fits is taken, so what is more particular comes first."""


def explain(log: EngineLog, doing: str, otherwise: type[MimiEdgeError] = MimiEdgeError) -> MimiEdgeError:
    """The error to raise when TensorRT failed.

    Args:
        log: what it said.
        doing: what was being done, after "Cannot": "load shared.fp16.engine".
        otherwise: the kind of error where the cause does not name one.
    """
    for messages in (log.errors, log.warnings):
        for cause in CAUSES:
            if said := next((text for text in messages if re.search(cause.pattern, text)), None):
                kind = cause.error or otherwise
                return kind(f"Cannot {doing}: {cause.what}. {cause.advice}\nTensorRT said: {_quote(said)}")
    said = " / ".join(_quote(text) for text in log.errors) or "nothing"
    return otherwise(
        f"Cannot {doing}, and we do not know why. TensorRT said: {said}\n"
        "If it is not clear from that, report it with this text and the output of: mimi-edge inspect PACKAGE"
    )


def explain_build(log: EngineLog, engine: str) -> MimiEdgeError:
    """The error to raise when an engine could not be built."""
    return explain(log, f"build {engine}", EngineBuildError)


def _quote(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_QUOTE else line[:LONGEST_QUOTE] + " ..."
