"""The libraries that each part of mimi-edge brings, and the lines that install them."""

from __future__ import annotations

from dataclasses import dataclass

CORE, TRAIN, CPU, GPU, TRT, RTX, JETSON, REPORT = "", "train", "cpu", "gpu", "trt", "rtx", "jetson", "report"
HEIC = "heic"


@dataclass(frozen=True)
class Library:
    """A library that is imported somewhere in mimi-edge.

    Attributes:
        module: that stands for it; where it has a dot, loading what is before the dot shows too little.
        distributions: what pip calls it; any of them brings the module.
        part: of mimi-edge that brings it, "" for the core.
        needs: modules of other libraries here, without which it cannot be loaded.
    """

    module: str
    distributions: tuple[str, ...]
    part: str
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The module that is imported first."""
        return self.module.split(".")[0]


LIBRARIES = (
    Library("numpy", ("numpy",), CORE),
    Library("PIL.Image", ("pillow",), CORE),
    Library("yaml", ("pyyaml",), CORE),
    Library("platformdirs", ("platformdirs",), CORE),
    Library("rich", ("rich",), CORE),
    Library("typer", ("typer",), CORE),
    Library("msgspec", ("msgspec",), CORE),
    Library("safetensors", ("safetensors",), CORE),
    Library("onnx", ("onnx",), CORE, ("numpy",)),
    Library("onnx_ir", ("onnx-ir",), CORE, ("numpy", "onnx")),
    Library("torch", ("torch",), TRAIN),
    Library("torchvision", ("torchvision",), TRAIN, ("numpy", "PIL", "torch")),
    Library("timm", ("timm",), TRAIN, ("numpy", "yaml", "safetensors", "PIL", "torch", "torchvision")),
    Library("onnxscript", ("onnxscript",), TRAIN, ("numpy", "onnx", "onnx_ir")),
    Library("onnxruntime", ("onnxruntime", "onnxruntime-gpu"), CPU, ("numpy",)),
    Library("matplotlib.figure", ("matplotlib",), REPORT, ("numpy", "PIL")),
    Library("pynvml", ("nvidia-ml-py",), REPORT),
    Library("jtop", ("jetson-stats",), JETSON),
    Library("pillow_heif", ("pillow-heif",), HEIC, ("PIL",)),
)
"""Those of TensorRT are not here: `mimi_edge.export.engines.libraries` knows them."""


def library_of(module: str) -> Library | None:
    """The library that a module belongs to, None where it is none of these."""
    name = module.split(".", maxsplit=1)[0]
    return next((library for library in LIBRARIES if library.name == name), None)


def install_line(part: str | None) -> str:
    """The line that installs a part; None is everything of the core, from anew."""
    return f'pip install "mimi-edge[{part}]"' if part else "pip install --force-reinstall mimi-edge"
