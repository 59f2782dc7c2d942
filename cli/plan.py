"""`mimi-edge plan`: what `train` would do with the same options, without training."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mimi_edge.cli.options import AsJson, Threads
from mimi_edge.cli.output import document_or, explained, show_facts, show_table
from mimi_edge.cli.progress import watching
from mimi_edge.cli.training_options import AskedConfig, takes_training_options
from mimi_edge.durations import duration
from mimi_edge.events import Advance
from mimi_edge.profiles.rendering.table import Table

if TYPE_CHECKING:
    from mimi_edge.training.plan import Plan


@explained
@takes_training_options
def command(asked: AskedConfig, threads: Threads = None, as_json: AsJson = False) -> None:
    """Show what train would do with these options: rounds, sizes, operations, time. Nothing is trained."""
    config = asked.config()
    with watching() as listener:
        listener(Advance("loading torch", 0, None))
        from mimi_edge.training.devices import use_threads
        from mimi_edge.training.plan import plan_training

        use_threads(threads)
        plan = plan_training(config, listener=listener)
    document_or(as_json, _document(plan), lambda: _show(plan))


def _document(plan: Plan) -> dict[str, Any]:
    prepared = plan.prepared
    return {
        "backbone": asdict(prepared.backbone.identity)
        | {"pixels": prepared.backbone.preprocessing.size.document, "weights": prepared.config.weights},
        "classes": list(prepared.dataset.classes),
        "images": {name: len(split) for name, split in prepared.dataset.splits.items()},
        "budget": asdict(prepared.config.budget),
        "without_adapters": asdict(prepared.least_cost),
        "target_accuracy": prepared.config.target_accuracy,
        "trainings": [
            {
                "epochs": training.epochs,
                "at_most": asdict(training.largest),
                "pruned_to": None if training.limit is None else asdict(training.limit),
                "neurons_if_even": sum(training.neurons.values()),
            }
            for training in plan.trainings
        ],
        "images_per_s": round(plan.images_per_s, 1),
        "decoded_per_s": round(plan.decoded_per_s, 1),
        "decoded_before": plan.decoded_before,
        "decodes_in_epochs": plan.decodes_in_epochs,
        "seconds": round(plan.seconds, 1),
    }


def _show(plan: Plan) -> None:
    prepared, config = plan.prepared, plan.prepared.config
    rows = [
        (
            number,
            training.epochs,
            f"{sum(training.neurons.values()):,}",
            f"{training.largest.size_bytes:,}",
            f"{training.largest.flops / 1e9:.4g}",
        )
        for number, training in enumerate(plan.trainings, 1)
    ]
    columns = ("training", "epochs", "neurons, about", "task file, bytes at most", "GFLOPs at most")
    prunings = len(rows) - 1
    rounds = f"{len(rows)} trainings, {prunings} pruning{'s' if prunings > 1 else ''}" if prunings else "one training"
    show_table(Table.of(f"Plan for {config.name}: {rounds}", columns, rows))
    least, size = prepared.least_cost, prepared.backbone.preprocessing.size
    target = config.target_accuracy
    ends = {} if target is None else {"may end earlier": f"where accuracy falls below {target:.2%} on val"}
    if config.max_minutes is not None and plan.seconds > config.max_minutes * 60:
        ends["too long"] = f"--max-minutes {config.max_minutes:g} will leave fewer epochs, and meet the budget"
    show_facts(
        "What it stands on",
        {
            "backbone": f"{config.backbone}, {size.in_words} pixels, weights: {config.weights}",
            "sites": len(prepared.backbone.sites),
            "classes": len(prepared.dataset.classes),
            "images": ", ".join(f"{len(split):,} {name}" for name, split in prepared.dataset.splits.items())
            + "; counted as files, train finds out which are damaged",
            "without adapters": f"{least.size_bytes:,} bytes, {least.flops / 1e9:.5g} GFLOPs",
            "time, about": f"{duration(plan.seconds)} at {_speed(plan.images_per_s)} (at the largest size)",
            **_decoding(plan),
            **ends,
        },
    )


def _decoding(plan: Plan) -> dict[str, str]:
    """How much of the time it is; nothing where it is not a second."""
    how = f"{duration(plan.seconds_before)} before the first step, at {_speed(plan.decoded_per_s)}"
    if plan.decodes_in_epochs:
        return {"of it decoding": f"{how}, and each image in every epoch"}
    return {"of it decoding": how} if plan.seconds_before >= 1 else {}


def _speed(images_per_s: float) -> str:
    return f"{images_per_s:,.0f} images/s" if images_per_s >= 100 else f"{images_per_s:.3g} images/s"
