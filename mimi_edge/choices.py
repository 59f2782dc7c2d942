"""What options can be: names that the command line shows, in a module that loads no library."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from mimi_edge.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np


class Store(str, Enum):
    """The number format of the weights in a task file."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
    INT4 = "int4"
    INT2 = "int2"
    INT1 = "int1"

    @property
    def low_bits(self) -> int:
        """How many bits a weight has where these are fewer than 8 and packed, see `mimi_edge.tasks.low_bit`; else 0."""
        return {"int4": 4, "int2": 2, "int1": 1}.get(self.value, 0)

    @property
    def bits(self) -> int:
        """Of a weight in a file."""
        return {"fp32": 32, "fp16": 16, "int8": 8}.get(self.value, self.low_bits)

    @property
    def weight_dtype(self) -> np.dtype[np.generic]:
        """Of the weight matrices, once they are unpacked."""
        import numpy as np

        return np.dtype({"fp32": np.float32, "fp16": np.float16}.get(self.value, np.int8))

    @property
    def bias_dtype(self) -> np.dtype[np.generic]:
        """Of vectors, which are too small to be worth quantising."""
        import numpy as np

        return np.dtype(np.float16 if self is Store.FP16 or self.low_bits else np.float32)


def own_head_store(store: Store, asked: Store | None = None) -> Store | None:
    """How the weights of a head are kept, None where that is how all are.

    Args:
        store: of all others.
        asked: for the head; where nobody did, few bits leave it at int8, since it has the fewest weights and needs them
            most.
    """
    chosen = asked or (Store.INT8 if store.low_bits else store)
    return None if chosen is store else chosen


class Scope(str, Enum):
    """Who competes for what stays.

    All neurons of all sites (`global`); those of one site, all sites losing alike (`local`); or those of one stage of
    the network, the stages keeping fixed shares (`stages`).
    """

    GLOBAL = "global"
    LOCAL = "local"
    STAGES = "stages"


SCORE_NAMES = (
    "mimi",
    "l1",
    "l1-mean",
    "l1-down",
    "down-mean",
    "up-mean",
    "l1-activations",
    "l1-gradients",
    "snip",
    "taylor",
    "grasp",
    "random",
)
"""Of the importance scores in `mimi_edge.scores`."""

EARLIER_SCORE_NAMES = {"unscaled": "l1", "down": "down-mean", "up": "up-mean"}
"""What the first release called them; runs that say so go on."""

ACTIVATION_NAMES = ("gelu", "relu")
"""Of the functions that adapters know."""


MIMI_PLUS = "mimi+"
"""What train and compare call MiMi in one bit with its passes in sixteen; in a task file it is `mimi`."""
COMPARED_METHODS = ("mimi", "adapters", "adaptformer", "lora", "bitfit", "linear")
"""Of the methods in `mimi_edge.methods.catalogue`, those that `compare` takes by itself."""

SUITE_NAMES = ("multitask", "domainnet", "vtab")
"""Of `mimi_edge.profiles.comparison.suites`."""
TRIED_RATES = (1e-3, 3e-3)
"""Learning rates that `compare` tries by itself."""


class Precision(str, Enum):
    """The number format that an engine computes in; what cannot be is kept in fp32."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"


class Strategy(str, Enum):
    """How engines serve tasks: an engine each, one for all with adapters as inputs, or one that is refitted."""

    PER_TASK = "per-task"
    SHARED = "shared"
    REFIT = "refit"


class Backend(str, Enum):
    """What runs a task: PyTorch, an execution provider of ONNX Runtime, TensorRT, or TensorRT for RTX."""

    TORCH = "torch"
    ORT_CPU = "ort-cpu"
    ORT_CUDA = "ort-cuda"
    ORT_TRT = "ort-trt"
    TRT = "trt"
    TRT_RTX = "trt-rtx"


def backend_named(name: Backend | str) -> Backend:
    """A backend by its name.

    Raises:
        ConfigError: there is none of that name.
    """
    try:
        return Backend(name)
    except ValueError as error:
        known = ", ".join(one.value for one in Backend)
        raise ConfigError(f"There is no backend {name!r}; choose one of {known}.") from error
