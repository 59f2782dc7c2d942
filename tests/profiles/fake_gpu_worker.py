"""A real worker in whose process TensorRT and CUDA are fakes that compute with ONNX Runtime."""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

sys.path = [path for path in sys.path if path and Path(path).resolve() != Path(__file__).parent]
sys.path.append(str(Path(__file__).parents[1] / "export" / "engines"))

import fake_runtime  # noqa: E402

from mimi_edge.export.engines.running import cuda  # noqa: E402
from mimi_edge.export.engines.tensorrt import bindings  # noqa: E402
from mimi_edge.profiles.worker import main  # noqa: E402

machine = fake_runtime.machine()
machine.module.__spec__ = ModuleSpec("tensorrt", None)
sys.modules["tensorrt"] = machine.module
ready = machine.bindings
bindings._loaded = lambda _backend: ready
cuda.libraries = lambda: iter([machine.gpu.library])
cuda.driver_library = lambda: None
main()
