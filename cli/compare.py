"""`mimi-edge compare`: methods side by side under the same budgets."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mimi_edge.builtin import DEFAULT_DATA
from mimi_edge.choices import COMPARED_METHODS, SCORE_NAMES, SUITE_NAMES, TRIED_RATES, Scope, Store
from mimi_edge.cli.option_files import LIST, OptionFile, takes_option_file
from mimi_edge.cli.options import AsJson, Threads, image_size_option
from mimi_edge.cli.output import document_or, explained, say, show_table
from mimi_edge.cli.progress import watching
from mimi_edge.cli.stop_requests import outliving_the_terminal, stop_requests
from mimi_edge.errors import ConfigError, StoppedError
from mimi_edge.events import Advance, Listener, Note
from mimi_edge.files import write_whole
from mimi_edge.images.image_size import ImageSize
from mimi_edge.methods.catalogue import METHODS
from mimi_edge.texts import excerpt
from mimi_edge.training.asked_config import absolute, data_wherever
from mimi_edge.training.backbone_choice import SUITED, chosen_backbone
from mimi_edge.training.config import PRETRAINED, RANDOM
from mimi_edge.training.recipes import QUICK, RECIPES, with_recipe

if TYPE_CHECKING:
    from mimi_edge.profiles.comparison.compare import Comparison
    from mimi_edge.profiles.comparison.config import ComparisonConfig

ALL = "all"


@explained
@takes_option_file
def command(
    file: OptionFile,
    methods: Annotated[
        str,
        typer.Option(
            help=f"Separated by commas, or {ALL}: {', '.join(METHODS)}. With NAME@STORE, such as mimi@int1, one keeps "
            "its weights in another way.",
            metavar=LIST,
            rich_help_panel="Compared",
        ),
    ] = ",".join(COMPARED_METHODS),
    budget_mb: Annotated[
        str,
        typer.Option(
            help="Largest task files, in MB of 1000^2 bytes, by commas.", metavar=LIST, rich_help_panel="Compared"
        ),
    ] = "0.5",
    seeds: Annotated[int, typer.Option(min=1, help="How many.", rich_help_panel="Compared")] = 3,
    lrs: Annotated[
        str,
        typer.Option(
            help="Learning rates, by commas: each method is tried with each, the validation split chooses.",
            metavar=LIST,
            rich_help_panel="Compared",
        ),
    ] = ",".join(f"{rate:g}" for rate in TRIED_RATES),
    data: Annotated[str, typer.Option(help="As of train.", rich_help_panel="Task")] = DEFAULT_DATA,
    suite: Annotated[
        str | None,
        typer.Option(
            help=f"The paper's data sets, a folder each, instead of --data: {', '.join(SUITE_NAMES)}.",
            show_default=False,
            rich_help_panel="Task",
        ),
    ] = None,
    data_columns: Annotated[str, typer.Option(help="As of train.", show_default=False, rich_help_panel="Task")] = "",
    data_root: Annotated[
        str, typer.Option(help="As of train.", show_default="this user's own", rich_help_panel="Task")
    ] = "",
    download: Annotated[bool, typer.Option("--download", help="As of train.", rich_help_panel="Task")] = False,
    train_images: Annotated[
        int | None, typer.Option(help="As of train.", show_default="all", rich_help_panel="Task")
    ] = None,
    val_images: Annotated[
        int | None, typer.Option(help="As of train.", show_default="all", rich_help_panel="Task")
    ] = None,
    train_on_val: Annotated[
        bool,
        typer.Option(
            "--train-on-val",
            help="Train once more on train and val with the learning rate that was chosen, and compare that.",
            rich_help_panel="Task",
        ),
    ] = False,
    backbone: Annotated[
        str | None, typer.Option(help="As of train.", show_default="as of train", rich_help_panel="Task")
    ] = None,
    weights: Annotated[str, typer.Option(help="As of train.", rich_help_panel="Task")] = PRETRAINED,
    image_size: Annotated[ImageSize | None, image_size_option("As of train.", "Task")] = None,
    store: Annotated[
        Store, typer.Option(help="How weights are kept in the task files.", rich_help_panel="Task")
    ] = Store.FP16,
    recipe: Annotated[
        str, typer.Option(help=f"As of train, for all methods: {', '.join(RECIPES)}.", rich_help_panel="Task")
    ] = QUICK,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Of each of MiMi's trainings; others get as many passes in one.",
            show_default=str(RECIPES[QUICK]["epochs"]),
            rich_help_panel="Task",
        ),
    ] = None,
    passes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Over the images, for every method at every budget: MiMi's last training has what its others leave.",
            show_default="as many as MiMi takes at each budget",
            rich_help_panel="Task",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Images in a step.", show_default=str(RECIPES[QUICK]["batch_size"]), rich_help_panel="Task"),
    ] = None,
    score: Annotated[
        str, typer.Option(help="As of train, for the methods that are pruned.", rich_help_panel="Task")
    ] = SCORE_NAMES[0],
    scope: Annotated[
        Scope, typer.Option(help="As of train, for the methods that are pruned.", rich_help_panel="Task")
    ] = Scope.GLOBAL,
    rounds: Annotated[
        int, typer.Option(min=0, help="Samples of each graph's latency; 0 measures none.", rich_help_panel="Task")
    ] = 100,
    output: Annotated[Path, typer.Option(help="Folder of the comparison; the same command goes on there.")] = Path(
        "comparison"
    ),
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Train several methods under the same budgets, and show bytes, accuracy, operations, latency and memory.

    Every method gets the same passes over the images and as many tries at its learning rate. Stopped at any moment, the
    same command goes on.
    """
    from mimi_edge.profiles.comparison.config import ComparisonConfig

    if suite is not None and suite not in SUITE_NAMES:
        raise ConfigError(f"--suite must be one of {', '.join(SUITE_NAMES)}, got {excerpt(suite)}.")
    with file.checked():
        chosen = with_recipe(recipe, {"epochs": epochs, "batch_size": batch_size})
        config = ComparisonConfig(
            methods=tuple(METHODS) if methods == ALL else _names(methods),
            budgets_mb=_numbers(budget_mb, "--budget-mb"),
            seeds=seeds,
            learning_rates=_numbers(lrs, "--lrs"),
            data=data_wherever(data),
            data_columns=data_columns,
            data_root=absolute(data_root) if data_root else "",
            download=download,
            train_images=train_images,
            val_images=val_images,
            train_on_val=train_on_val,
            backbone=chosen_backbone(backbone, data, weights) if suite is None else backbone or next(iter(SUITED)),
            weights=weights if weights in (PRETRAINED, RANDOM) else absolute(weights),
            image_size=image_size,
            store=store,
            epochs=chosen["epochs"],
            passes=passes,
            batch_size=chosen["batch_size"],
            recipe=recipe,
            rounds=rounds,
            score=score,
            scope=scope,
        )
    with watching() as heard, stop_requests(heard) as should_stop:
        listener = outliving_the_terminal(heard)
        listener(Advance("loading torch", 0, None))
        from mimi_edge.profiles.comparison.compare import compare, measured_with_profile
        from mimi_edge.profiles.comparison.trials import train_or_go_on
        from mimi_edge.training.devices import use_threads

        use_threads(threads)
        train = train_or_go_on(listener, should_stop)

        def compared(asked: ComparisonConfig, folder: Path) -> Comparison:
            return compare(asked, folder, train, measured_with_profile(folder, asked, listener), listener)

        with _saying_how_to_go_on(output, listener):
            if suite is not None:
                _compare_suite(suite, config, output, compared, listener, as_json=as_json)
                return
            found = compared(config, output)
    document_or(as_json, found.document, lambda: _show(found))


def _compare_suite(
    name: str,
    config: ComparisonConfig,
    output: Path,
    compared: Callable[[ComparisonConfig, Path], Comparison],
    listener: Listener,
    *,
    as_json: bool,
) -> None:
    from mimi_edge.profiles.comparison.suites import SUITES, compare_suite, suite_table
    from mimi_edge.profiles.rendering.markdown import table_text

    suite = SUITES[name]
    found = compare_suite(suite, config, output, compared, listener)
    table = suite_table(suite, found)
    write_whole(output / f"{name}.md", table_text(table).encode())
    document = {"suite": name, "data": {one: comparison.document for one, comparison in found.items()}}
    document_or(as_json, document, lambda: show_table(table))


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        return tuple(map(float, _names(text)))
    except ValueError:
        raise ConfigError(f"{option} takes numbers separated by commas, such as 0.5,0.1; got {text!r}.") from None


@contextmanager
def _saying_how_to_go_on(folder: Path, listener: Listener) -> Iterator[None]:
    """What was trained is kept, whatever ends a comparison."""
    kept = f"What was trained is kept in {shlex.quote(str(folder))}. The same command goes on from there."
    try:
        yield
    except StoppedError:
        raise StoppedError(f"Stopped. {kept}") from None
    except (KeyboardInterrupt, OSError):
        listener(Note(kept))
        raise


def _show(found: Comparison) -> None:
    from mimi_edge.profiles.comparison.compare import CHART_FILES, CSV_FILE, JSON_FILE, MARKDOWN_FILE
    from mimi_edge.profiles.comparison.results import comparison_table

    show_table(comparison_table(found.config, found.lines))
    written = [name for name in (MARKDOWN_FILE, CSV_FILE, JSON_FILE, *CHART_FILES) if (found.folder / name).exists()]
    say(f"Also in {found.folder}: {', '.join(written)}")
