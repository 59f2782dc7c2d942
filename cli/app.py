"""The `mimi-edge` command and what lies below it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from mimi_edge.cli.complaints import put_in_words
from mimi_edge.version import __version__

SUMMARIES = {
    "train": "Train a task down to a budget: large adapters first, the least important neurons removed round by round.",
    "plan": "Show what train would do with these options: rounds, sizes, operations, time. Nothing is trained.",
    "compare": "Train several methods under the same budgets, and show bytes, accuracy, operations, latency and "
    "memory.",
    "runs": "List the runs of a folder, newest first: method, backbone, bytes, accuracy, time, and which are not "
    "finished.",
    "backbones": "Show the backbones that --backbone takes: size, operations, sites, and what the budget leaves for "
    "adapters.",
    "export": "Make what a device runs, and check that it answers what was trained. What disagrees is not published.",
    "profile": "Measure bytes, accuracy, latency, memory and energy of artefacts, each in processes of its own, in "
    "turns.",
    "predict": "Classify images. Those that cannot be used are named at the end, with exit code 1; the others go on.",
    "inspect": "Show what a task file, package, graph, run folder, archive, folder of adapters or report holds.",
    "devices": "List device profiles, show or check one, or estimate what a package takes on them before one has them.",
    "pack": "Pack a package into one archive, the same bytes each time. Engines stay: a device builds its own.",
    "verify": "Check every hash, every graph's references and every task file. Names all that is wrong, with exit "
    "code 4.",
    "install-task": "Add or replace tasks in a package, all or none of them. Needs no torch and no network.",
    "cache": "List what the cache folder holds, by kind, with sizes and last use; --clear makes room.",
    "doctor": "Look at this machine: what is installed, what each command can do here, and the line that brings "
    "what is missing.",
    "ledger": "Add up storage and memory of N tasks under each strategy, beside N full models, with the break-even N.",
    "compare-reports": "Compare two reports taken under the same conditions: ratios of B to A with intervals, and "
    "limits on them.",
}
"""The commands in their order, with what the list of them says: with what the help of each begins."""


def _flags_are_just_named(parameters: list[Any]) -> list[Any]:
    """Takes the type away that help shows beside each option: a flag has no value that could be of one."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    return parameters


class _Command(TyperCommand):
    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().make_context(*args, **kwargs)
        except Exception as error:
            put_in_words(error)
            raise

    def get_params(self, ctx: Any) -> list[Any]:
        return _flags_are_just_named(super().get_params(ctx))


class _Commands(Mapping[str, Any]):
    """The commands, each loaded when it is asked for: `--help`, and every other command, waits for none of them."""

    def __getitem__(self, name: str) -> Any:
        if name not in SUMMARIES:
            raise KeyError(name)
        return _loaded(name)

    def __iter__(self) -> Iterator[str]:
        return iter(SUMMARIES)

    def __len__(self) -> int:
        return len(SUMMARIES)


@cache
def _loaded(name: str) -> Any:
    """The command of a name, from the module of that name."""
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    module = import_module(f"mimi_edge.cli.{name.replace('-', '_')}")
    alone.command(name, cls=_Command)(module.command)
    return get_command(alone)


class _Group(TyperGroup):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings | {"commands": _Commands()})

    def get_params(self, ctx: Any) -> list[Any]:
        return _flags_are_just_named(super().get_params(ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self.commands = {name: TyperCommand(name, help=summary) for name, summary in SUMMARIES.items()}
        super().format_help(ctx, formatter)


app = typer.Typer(
    name="mimi-edge",
    cls=_Group,
    help="Many vision tasks on one small device: one frozen ViT, one small file of pruned adapters a task.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 budget infeasible, 4 file rejected, 5 mismatch after export, "
    "6 a limit of compare-reports broken, 130 interrupted. With --json an error is a JSON object on stdout, too.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Many vision tasks on one small device: one frozen ViT, one small file of pruned adapters a task."""
