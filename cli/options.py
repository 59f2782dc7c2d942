"""Options that many commands share, each said once."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mimi_edge.images.image_size import ImageSize

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads to use.")]


def image_size_option(help_text: str, panel: str) -> Any:
    """`--image-size`, a side or a height and a width."""
    return typer.Option(
        parser=_image_size,
        metavar="S|HxW",
        help=help_text,
        show_default="what it is made for",
        rich_help_panel=panel,
    )


def _image_size(text: str) -> ImageSize:
    try:
        return ImageSize.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
