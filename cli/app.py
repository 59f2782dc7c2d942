"""The `mimi-edge` command and what lies below it."""

from __future__ import annotations

from typing import Annotated

import typer

import mimi_edge
from mimi_edge.cli import (
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

app = typer.Typer(
    name="mimi-edge",
    help="Many vision tasks on one small device: one frozen ViT, one small file of pruned adapters a task.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 budget infeasible, 4 file rejected, 5 mismatch after export, "
    "6 a limit of compare-reports broken, 130 interrupted.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(mimi_edge.__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Many vision tasks on one small device: one frozen ViT, one small file of pruned adapters a task."""


app.command("train")(train.command)
app.command("plan")(plan.command)
app.command("export")(export.command)
app.command("profile")(profile.command)
app.command("predict")(predict.command)
app.command("inspect")(inspect.command)
app.command("devices")(devices.command)
app.command("pack")(pack.command)
app.command("verify")(verify.command)
app.command("install-task")(install_task.command)
app.command("doctor")(doctor.command)
app.command("ledger")(ledger.command)
app.command("compare-reports")(compare_reports.command)
