"""`mimi-edge ledger`: what many tasks take under each strategy, and from which number on which is smaller."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mimi_edge.choices import Precision
from mimi_edge.cli.defaults import package_or_default
from mimi_edge.cli.options import AsJson, PackageFolder, whole_numbers
from mimi_edge.cli.output import document_or, explained, say, show_table

if TYPE_CHECKING:
    from mimi_edge.profiles.fleet import ProcessMemory
    from mimi_edge.profiles.ledger import Ledger


@explained
def command(
    package: PackageFolder = None,
    tasks: Annotated[str, typer.Option(help="Numbers of tasks, such as 1,10,100.")] = "1,10,100",
    adapters: Annotated[
        Path | None,
        typer.Option(
            help="The tasks exported with --format ort-adapter: their files instead of computed sizes.",
            show_default=False,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="A report of mimi-edge profile as JSON, for measured memory.", show_default=False),
    ] = None,
    precision: Annotated[
        Precision, typer.Option(help="Of engines that are not on the package's shelf.")
    ] = Precision.FP16,
    plot: Annotated[Path | None, typer.Option(help="Also draw it, as .png or .svg.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Add up storage and memory of N tasks under each strategy, beside N full models, with the break-even N."""
    from mimi_edge.charts.saving import check_picture
    from mimi_edge.export.open_packages import opened_package
    from mimi_edge.export.ort_adapters import read_ort_adapters
    from mimi_edge.profiles.fleet import fleet_ledger
    from mimi_edge.profiles.ledger import checked_counts, ledger_document
    from mimi_edge.profiles.ledger_plot import draw_ledger

    counts = checked_counts(whole_numbers(tasks, "--tasks", "1,10,100"))
    if plot is not None:
        check_picture(plot)
    measured = _measured(report)
    with opened_package(package_or_default(package), ()) as opened:
        ledger = fleet_ledger(
            opened,
            adapters=None if adapters is None else read_ort_adapters(adapters),
            precision=precision,
            measured=measured,
        )
    document_or(as_json, ledger_document(ledger, counts), lambda: _show(ledger, counts))
    if plot is not None:
        draw_ledger(ledger, plot, counts)
        say(f"Plot: {plot}")


def _measured(report: Path | None) -> ProcessMemory:
    from mimi_edge.profiles.fleet import NOTHING_MEASURED, measured_memory
    from mimi_edge.profiles.report_comparison import read_report

    return NOTHING_MEASURED if report is None else measured_memory(read_report(report))


def _show(ledger: Ledger, counts: tuple[int, ...]) -> None:
    from mimi_edge.profiles.rendering.tables import ledger_tables

    for table in ledger_tables(ledger, counts):
        show_table(table)
