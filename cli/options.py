"""Options that many commands share, each said once."""

from __future__ import annotations

from typing import Annotated

import typer

from mimi_edge.images.image_size import ImageSize

SIDES = "S|HxW"
"""What `--image-size` takes, for help."""

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads to use.")]


def parsed_image_size(text: str) -> ImageSize:
    """What `--image-size` says, as Typer's `parser` gives it.

    Raises:
        BadParameter: it says no size.
    """
    try:
        return ImageSize.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
