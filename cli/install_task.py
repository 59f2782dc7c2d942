"""`mimi-edge install-task`: brings tasks into a package on the device, and takes them back."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from mimi_edge.cli.options import AsJson
from mimi_edge.cli.output import document_or, explained, show_facts
from mimi_edge.cli.progress import watching
from mimi_edge.errors import ConfigError

if TYPE_CHECKING:
    from mimi_edge.export.packages import Change


@explained
def command(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="An archive or a task file, and the package; with --rollback only the package.",
            metavar="[SOURCE] PACKAGE",
            show_default=False,
        ),
    ],
    rollback: Annotated[bool, typer.Option("--rollback", help="Take the last installation back.")] = False,
    sha256: Annotated[
        str | None,
        typer.Option(help="What the source's file must hash to, known from elsewhere.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add or replace tasks in a package, all or none of them. Needs no torch and no network.

    What is replaced is kept until the next installation: --rollback returns to it, once. A full archive makes the
    package where there is none.
    """
    if rollback:
        _roll_back(paths, sha256, as_json)
        return
    if len(paths) != 2:
        raise ConfigError(
            f"Expected an archive or a task file, and then the package; got {', '.join(map(str, paths))}. For "
            f"instance: mimi-edge install-task {quote(str(paths[0]))} package"
        )
    from mimi_edge.export.archives.install import install_from

    source, package = paths
    with watching() as listener:
        installed = install_from(source, package, sha256=sha256, listener=listener)
    about = {"created": installed.created, "rolled_back": False, "source_sha256": installed.sha256}
    document = {"package": str(package), **about, **asdict(installed.change)}
    title = f"Installed in {package}" + (", a new package" if installed.created else "")
    document_or(
        as_json,
        document,
        lambda: show_facts(title, _facts(installed.change, package, returnable=not installed.created)),
    )


def _roll_back(paths: list[Path], sha256: str | None, as_json: bool) -> None:
    from mimi_edge.export.packages import roll_back

    if len(paths) != 1 or sha256 is not None:
        raise ConfigError("--rollback takes a package and nothing else: mimi-edge install-task --rollback PACKAGE")
    with watching() as listener:
        change = roll_back(paths[0], listener=listener)
    about = {"created": False, "rolled_back": True, "source_sha256": None}
    document = {"package": str(paths[0]), **about, **asdict(change)}
    title = f"{paths[0]} is as it was before the last installation"
    document_or(as_json, document, lambda: show_facts(title, _facts(change, paths[0], back=True)))


def _facts(change: Change, package: Path, *, back: bool = False, returnable: bool = False) -> dict[str, object]:
    words = {
        "added": change.added,
        "returned" if back else "replaced": change.replaced,
        "removed": change.removed,
        "there already": change.unchanged,
    }
    facts: dict[str, object] = {word: ", ".join(names) for word, names in words.items() if names}
    if returnable and (change.added or change.replaced):
        facts["to go back"] = f"mimi-edge install-task --rollback {quote(str(package))}"
        facts["kept for that"] = f"{change.kept_bytes:,} bytes"
    return facts
