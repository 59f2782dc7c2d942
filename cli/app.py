"""The `mimi-edge` command and what lies below it."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from mimi_edge.cli import (
    backbones,
    compare,
    compare_reports,
    devices,
    doctor,
    export,
    inspect,
    install_task,
    ledger,
    pack,
    plan,
    predict,
    profile,
    train,
    verify,
)
from mimi_edge.cli.complaints import put_in_words
from mimi_edge.version import __version__


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


class _Group(TyperGroup):
    def get_params(self, ctx: Any) -> list[Any]:
        return _flags_are_just_named(super().get_params(ctx))


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


app.command("train", cls=_Command)(train.command)
app.command("plan", cls=_Command)(plan.command)
app.command("compare", cls=_Command)(compare.command)
app.command("backbones", cls=_Command)(backbones.command)
app.command("export", cls=_Command)(export.command)
app.command("profile", cls=_Command)(profile.command)
app.command("predict", cls=_Command)(predict.command)
app.command("inspect", cls=_Command)(inspect.command)
app.command("devices", cls=_Command)(devices.command)
app.command("pack", cls=_Command)(pack.command)
app.command("verify", cls=_Command)(verify.command)
app.command("install-task", cls=_Command)(install_task.command)
app.command("doctor", cls=_Command)(doctor.command)
app.command("ledger", cls=_Command)(ledger.command)
app.command("compare-reports", cls=_Command)(compare_reports.command)
