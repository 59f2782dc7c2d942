"""Which passes a graph gets before a runtime builds an engine from it.

Each is on or off for a runtime by what `benchmarks/passes.py` measured there; docs/benchmarks.md has the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import onnx_ir as ir

from mimi_edge.choices import Backend, Strategy
from mimi_edge.errors import ConfigError
from mimi_edge.export.operators import check_operators as check_operators  # noqa: PLC0414  (part of tuning)
from mimi_edge.export.passes.drop_unused import drop_unused
from mimi_edge.export.passes.fold_attention_bias import fold_attention_bias
from mimi_edge.export.passes.fold_computed_weights import fold_computed_weights
from mimi_edge.export.passes.fold_down_projection import fold_down_projection, fold_mlp_down_projection
from mimi_edge.export.passes.fold_query_scale import fold_query_scale
from mimi_edge.export.passes.fold_task_weights import fold_task_weights
from mimi_edge.export.passes.round_up_neurons import round_up_neurons
from mimi_edge.export.passes.split_projections import split_projections
from mimi_edge.export.passes.write_kernel_shapes import write_kernel_shapes
from mimi_edge.runtimes import runtime_of

Pass = Callable[[ir.Model], bool]

PASSES: Mapping[str, Pass] = MappingProxyType(
    {
        "round_up_neurons": round_up_neurons,
        "fold_query_scale": fold_query_scale,  # finds the queries by what split_projections takes away
        "split_projections": split_projections,
        "fold_attention_bias": fold_attention_bias,
        "fold_down_projection": fold_down_projection,
        "fold_mlp_down_projection": fold_mlp_down_projection,
    }
)
"""Every pass that may be left out, in the order in which they run; those of `ALWAYS` run before them."""

ALWAYS: Mapping[str, Pass] = MappingProxyType(
    {
        "fold_task_weights": fold_task_weights,
        "fold_computed_weights": fold_computed_weights,
        "write_kernel_shapes": write_kernel_shapes,
    }
)
"""Passes without which a graph would be misread."""

CPU_PASSES: tuple[str, ...] = ()
"""Those that made ONNX Runtime on a CPU faster, beyond what loading the same graph twice differs by: none."""

ENGINE_PASSES = ("round_up_neurons", "fold_query_scale", "split_projections", "fold_attention_bias")
"""Those that leave an engine aligned rows and fewer products, additions or copies, and no more multiplications.

No GPU has measured them yet: `benchmarks/passes.py` there decides for all of PASSES. `fold_down_projection` makes rows
of any length (192 + 13 columns), so it stays off until a GPU has shown that it helps.
"""

MIXES_TASK_INTO_BACKBONE = frozenset({"fold_down_projection", "fold_mlp_down_projection"})
"""After these the task's weights cannot be changed by themselves."""

DEFAULT_PASSES = ENGINE_PASSES


def default_passes(backend: Backend = Backend.TRT, strategy: Strategy = Strategy.PER_TASK) -> tuple[str, ...]:
    """Names of the passes that a graph gets for a runtime and a way to serve tasks."""
    kept = ENGINE_PASSES if runtime_of(backend).needs_gpu else CPU_PASSES
    if strategy is Strategy.PER_TASK:
        return kept
    return tuple(name for name in kept if name not in MIXES_TASK_INTO_BACKBONE)


def tune(model: ir.Model, passes: Sequence[str] = DEFAULT_PASSES) -> tuple[str, ...]:
    """Makes a graph, bare or merged, ready for a runtime; it computes the same, up to rounding in fp32.

    Every site's value is still there under the site's name. What changes is held in memory.

    Args:
        model: changed in place.
        passes: names of the passes to run, in any order.

    Returns:
        Names of the passes that changed something, in the order in which they ran.

    Raises:
        ConfigError: a pass of that name is not known.
        ArtifactError: the graph has something that TensorRT 10.3 does not know.
    """
    if unknown := sorted(set(passes) - set(PASSES)):
        raise ConfigError(f"No such graph pass: {', '.join(unknown)}. There are {', '.join(PASSES)}.")
    chosen = {**ALWAYS, **{name: PASSES[name] for name in PASSES if name in passes}}
    changed = tuple(name for name, apply in chosen.items() if apply(model))
    if changed:
        drop_unused(model)
    check_operators(model)
    return changed
