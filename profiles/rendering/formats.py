"""Which formats a report can be written in, by the ending of the file's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mimi_edge import texts
from mimi_edge.errors import ConfigError, MimiEdgeError
from mimi_edge.files import check_place, write_whole
from mimi_edge.profiles.rendering.comma_separated import csv_text, samples_csv_text
from mimi_edge.profiles.rendering.html_page import html_page
from mimi_edge.profiles.rendering.markdown import markdown
from mimi_edge.profiles.report_documents import report_document
from mimi_edge.profiles.reports import Report


def json_text(report: Report) -> str:
    """The document that can be read again; see `docs/reports.md`."""
    return texts.json_text(report_document(report), indent=None) + "\n"


FORMATS: Mapping[str, Callable[[Report], str]] = {
    ".json": json_text,
    ".samples.csv": samples_csv_text,
    ".csv": csv_text,
    ".md": markdown,
    ".html": html_page,
}
"""By ending; a longer one comes before a shorter one that it ends with."""


def check_format(path: Path) -> str:
    """The ending that says in which format a path is to be written; for a look before anything is measured.

    Raises:
        ConfigError: there is no such format.
    """
    name = path.name.lower()
    for suffix in FORMATS:
        if name.endswith(suffix) and name != suffix:
            return suffix
    raise ConfigError(f"A report is written as {', '.join(sorted(FORMATS))}, by its ending; got {path.name!r}.")


def check_reports(paths: Sequence[Path]) -> None:
    """Looks at every path before anything is measured for it.

    Raises:
        ConfigError: an ending names no format, or a place cannot be written.
    """
    for path in paths:
        check_format(path)
        check_place(path)


def write_report(report: Report, path: Path) -> None:
    """Writes a report, whole or not at all.

    Raises:
        ConfigError: the path's ending names no format.
        OSError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    text = FORMATS[check_format(path)](report)
    write_whole(path, text.encode("utf-8", "backslashreplace"))


def write_reports(report: Report, paths: Sequence[Path]) -> dict[Path, str]:
    """Writes all that can be written.

    Returns:
        Why not, by path, of those that could not.
    """
    why_not = {}
    for path in paths:
        try:
            write_report(report, path)
        except OSError as error:
            why_not[path] = error.strerror or str(error)
        except MimiEdgeError as error:
            why_not[path] = str(error)
    return why_not
