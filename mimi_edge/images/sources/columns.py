"""What `--data-columns` says."""

from __future__ import annotations

from mimi_edge.errors import ConfigError
from mimi_edge.images.labels import COLUMNS
from mimi_edge.texts import excerpt


def asked_columns(asked: str) -> dict[str, str]:
    """Titles by what they stand for, out of `path=file,label=class`.

    Raises:
        ConfigError: it is not written so.
    """
    pairs = [part.partition("=") for part in asked.split(",") if part.strip()]
    for part, _, title in pairs:
        if part.strip() not in COLUMNS or not title.strip():
            raise ConfigError(
                "--data-columns takes titles of columns, such as path=file,label=class,split=fold; got "
                f"{excerpt(part)}."
            )
    return {part.strip(): title.strip() for part, _, title in pairs}
