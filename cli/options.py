"""Options that many commands share, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mimi_edge.errors import ConfigError
from mimi_edge.images.image_size import ImageSize

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads to use.")]
PackageFolder = Annotated[Path | None, typer.Argument(help="A package from mimi-edge export.", show_default="package/")]
Tasks = Annotated[
    list[str] | None, typer.Option("--task", help="A task of the package; may be repeated.", show_default="all")
]


def whole_numbers(text: str, option: str, example: str) -> tuple[int, ...]:
    """Numbers with commas between them.

    Raises:
        ConfigError: they are none.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(
            f"{option} takes whole numbers separated by commas, such as {example}; got {text!r}."
        ) from error


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
