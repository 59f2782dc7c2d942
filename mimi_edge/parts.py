"""The libraries that each part of mimi-edge brings, and the lines that install them."""

from __future__ import annotations

from dataclasses import dataclass

CORE, TRAIN, CPU, GPU, TRT, RTX, JETSON, REPORT = "", "train", "cpu", "gpu", "trt", "rtx", "jetson", "report"
HEIC, TENSORBOARD, PARQUET, HUB, CVT = "heic", "tensorboard", "parquet", "hub", "cvt"


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
    Library("tensorboard", ("tensorboard",), TENSORBOARD),
    Library("pyarrow", ("pyarrow",), PARQUET),
    Library("transformers", ("transformers",), CVT, ("numpy", "torch", "yaml", "safetensors")),
    Library("datasets", ("datasets",), HUB, ("numpy", "pyarrow")),
)
"""Those of TensorRT are not here: `mimi_edge.export.engines.tensorrt.libraries` knows them."""


def library_of(module: str) -> Library | None:
    """The library that a module belongs to, None where it is none of these."""
    name = module.split(".", maxsplit=1)[0]
    return next((library for library in LIBRARIES if library.name == name), None)


JETPACK = "sudo apt install nvidia-jetpack"
"""Brings CUDA and TensorRT, with its Python module, to a Jetson."""
FOR_GPUS = frozenset({GPU, TRT, RTX})
"""Parts whose wheels are not made for a Jetson."""


def install_line(part: str | None, *, tegra: bool | None = None) -> str:
    """The line that installs a part of this copy of mimi-edge; None is everything of the core, from anew.

    On a Jetson, where the public index has no wheels for the GPU, that of TensorRT, which is what uses the GPU there.

    Args:
        part: of mimi-edge.
        tegra: whether it is for a Jetson; this machine by default.
    """
    from mimi_edge import installation

    if installation.is_tegra() if tegra is None else tegra:
        if part in FOR_GPUS:
            return tensorrt_line_of_a_jetson()
        if not installation.in_environment():
            # Elsewhere, what is installed would hide the system's numpy from the system's own programs.
            return f"python3 -m venv --system-site-packages .venv && .venv/bin/pip install {installation.ours(part)}"
    anew = "" if part else "--force-reinstall "
    return installation.pip_line(f"install {anew}{installation.ours(part)}")


def tensorrt_line_of_a_jetson() -> str:
    """The line that brings JetPack's TensorRT, and lets a virtual environment see it."""
    from mimi_edge import installation

    return f"{JETPACK} && {installation.seeing_line()}" if installation.hides_the_system() else JETPACK


def upgrade_words() -> str:
    """How this copy of mimi-edge is upgraded, for files that a newer one wrote."""
    from mimi_edge import installation

    source = installation.origin()
    if source.place is not None and source.place.is_dir():
        again = installation.pip_line(f"install {installation.ours(None, source)}")
        folder = installation.quoted(str(source.place))
        return f"Upgrade: git -C {folder} pull (or put a newer copy there), then {again}"
    if source.place is not None or source.gone:
        newer = installation.pip_line("install mimi_edge-VERSION-py3-none-any.whl")
        return f"Upgrade: get a newer wheel of mimi-edge, then {newer}"
    return f"Upgrade: {installation.pip_line(f'install --upgrade {installation.ours(None, source)}')}"


def onnx_runtime_words(*, tegra: bool | None = None) -> str:
    """How ONNX Runtime is installed, for a CPU and for a GPU."""
    from mimi_edge import installation

    cpu, gpu = install_line(CPU, tegra=tegra), install_line(GPU, tegra=tegra)
    if installation.is_tegra() if tegra is None else tegra:
        return (
            f"For the CPU: {cpu} . For a Jetson's GPU there is no wheel of it on the public index; its GPU is used by "
            f"TensorRT, --backend trt: {gpu}"
        )
    return f"For a CPU: {cpu} ; for an NVIDIA GPU: {gpu}"
