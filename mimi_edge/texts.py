"""Text from elsewhere on its way out: nothing in it steers what shows it, and no value makes a message grow."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Any

LONGEST_EXCERPT = 80
"""Characters."""
LONGEST_FAULT = 400
MOST_FAULTS = 20
LARGEST_SHOWN_INTEGER = 10**20

_STEERING = (
    *(code for code in range(0x20) if chr(code) != "\n"),
    *range(0x7F, 0xA0),
    # What turns the direction of the text around it, or starts a new line where nobody expects one.
    *(0x061C, 0x200E, 0x200F, 0x2028, 0x2029, 0xFEFF),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
    # Halves of surrogate pairs cannot be encoded at all.
    *range(0xD800, 0xE000),
    # No XML, and so no SVG, may have these.
    *(0xFFFE, 0xFFFF),
)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


_HARMLESS = {code: _escape(code) for code in _STEERING}
_IN_JSON = {code: f"\\u{code:04x}" for code in _STEERING if code >= 0x7F}
"""What is below must be escaped in JSON in any case; a line's end between two entries must not."""


def safe(text: object) -> str:
    """The text with everything that steers a terminal or hides what it says as an escape; lines stay lines."""
    return str(text).translate(_HARMLESS)


def safe_line(text: object) -> str:
    """`safe`, and on one line."""
    return safe(text).replace("\n", "\\n")


def json_text(
    document: Any,
    *,
    indent: int | None = 1,
    sort_keys: bool = False,
    ascii_only: bool = False,
    default: Callable[[Any], Any] | None = None,
) -> str:
    """A document as JSON that every parser takes and every terminal can show; what is not finite is null.

    Args:
        document: of tables, lists, texts and numbers.
        indent: spaces a level; None is one line.
        sort_keys: entries of tables in the order of their names.
        ascii_only: escape all other characters.
        default: makes something of what JSON cannot hold.
    """
    dumps = partial(
        json.dumps, indent=indent, sort_keys=sort_keys, ensure_ascii=ascii_only, allow_nan=False, default=default
    )
    try:
        text = dumps(document)
    except ValueError:
        text = dumps(_finite(document))
    return text.translate(_IN_JSON)


def canonical_json(document: object) -> str:
    """JSON in one line without a blank: the same values always give the same text."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def excerpt(value: object, limit: int = LONGEST_EXCERPT) -> str:
    """A piece of a value that a message can quote: one line, harmless, at most `limit` characters."""
    return cut(_Bounded(limit).repr(value), limit)


def cut(text: str, limit: int) -> str:
    """At most `limit` characters of a text."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def fault_list(faults: Iterable[str], most: int | None = MOST_FAULTS, *, longest: int | None = LONGEST_FAULT) -> str:
    """Faults under each other; of many only the first, and how many more there are.

    Args:
        faults: what is wrong.
        most: that are shown; None for all.
        longest: characters of one; None where they are whole messages, which may end in a line to copy.
    """
    remaining = iter(faults)
    lines = [f"  - {fault if longest is None else cut(fault, longest)}" for fault in islice(remaining, most)]
    if more := sum(1 for _ in remaining):
        lines.append(f"  - and {more:,} more")
    return "\n".join(lines)


class _Bounded(reprlib.Repr):
    """Looks at no more of a value than can be shown."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.maxstring = self.maxother = max(limit, 10)
        self.maxlevel, self.maxdict, self.maxlist, self.maxtuple, self.maxset = 3, 4, 6, 6, 6

    def repr_int(self, value: int, level: int) -> str:  # noqa: ARG002  (as reprlib calls it)
        """Python itself refuses to write very long integers."""
        if abs(value) <= LARGEST_SHOWN_INTEGER:
            return repr(value)
        return f"an integer of {value.bit_length()} bits"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value
