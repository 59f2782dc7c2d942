"""HTML put together so that text stays text: whatever is not markup already is escaped."""

from __future__ import annotations

from html import escape

from mimi_edge.texts import safe

VOID = frozenset({"meta", "br", "col"})


class Markup(str):
    """Text that is HTML."""

    __slots__ = ()


Content = str | float | None
"""Markup, or text or a figure to be escaped; nothing is left out."""


def plain(text: str) -> str:
    """Text without control characters and halves of surrogate pairs, which no file could hold; a tab is harmless."""
    return "\t".join(map(safe, text.split("\t")))


def text(content: Content) -> Markup:
    """Content as HTML has it."""
    if isinstance(content, Markup):
        return content
    return Markup("" if content is None else escape(plain(str(content))))


def element(name: str, /, *children: Content, **attributes: Content) -> Markup:
    """One element.

    Args:
        name: of the tag.
        children: what is in it.
        attributes: by name; `_` stands for `-`, a `_` at the end for a name that Python has taken, None for no such
            attribute.
    """
    given = "".join(f' {_attribute(key)}="{text(value)}"' for key, value in attributes.items() if value is not None)
    if name in VOID:
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{joined(*children)}</{name}>")


def joined(*parts: Content) -> Markup:
    """Parts one after the other."""
    return Markup("".join(map(text, parts)))


def name_of(thing: str) -> Markup:
    """A name that somebody else chose: its direction of writing does not spread to what is around it."""
    return element("bdi", thing)


def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-")
