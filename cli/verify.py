"""`mimi-edge verify`: whether an archive or a package is whole."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mimi_edge.cli.defaults import package_or_default
from mimi_edge.cli.options import AsJson
from mimi_edge.cli.output import explained, fail, show_facts, show_json
from mimi_edge.cli.progress import watching
from mimi_edge.errors import ArtifactError

if TYPE_CHECKING:
    from mimi_edge.export.archives.verify import Verdict


@explained
def command(
    path: Annotated[
        Path | None, typer.Argument(help="An archive from mimi-edge pack, or a package.", show_default="package/")
    ] = None,
    sha256: Annotated[
        str | None,
        typer.Option(help="What the archive's file must hash to, known from elsewhere.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every hash, every graph's references and every task file. Names all that is wrong, with exit code 4.

    Hashes inside an archive show damage, not who made it; --sha256 compares with one that came by another way.
    """
    from mimi_edge.export.archives.verify import in_words, verify

    source = package_or_default(path)
    with watching() as listener:
        verdict = verify(source, sha256=sha256, listener=listener)
    if as_json:
        show_json(_document(verdict))
    if verdict.faults:
        fail(in_words(verdict), ArtifactError.exit_code)
    if not as_json:
        _show(verdict, compared=sha256 is not None)


def _document(verdict: Verdict) -> dict[str, Any]:
    return {**asdict(verdict), "path": str(verdict.path), "whole": not verdict.faults}


def _show(verdict: Verdict, *, compared: bool) -> None:
    facts: dict[str, object] = {"kind": verdict.kind, "size": f"{verdict.size_bytes:,} bytes"}
    if verdict.sha256 is not None:
        facts["sha256"] = verdict.sha256
        facts["it is"] = "what --sha256 says" if compared else "compared with nothing, so it shows no forgery"
    if verdict.backbone is not None:
        facts["backbone"] = str(verdict.backbone)
    facts["tasks"] = ", ".join(verdict.tasks) or "none"
    if verdict.kept_bytes:
        facts["version before"] = f"{verdict.kept_bytes:,} bytes besides"
    show_facts(f"{verdict.path} is whole", facts)
