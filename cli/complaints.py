"""What Typer says about values that options cannot take, in words of ours: what was expected, and what it got."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mimi_edge.texts import excerpt

LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def put_in_words(complaint: Any) -> None:
    """Rewrites the message of a complaint that has one of Pydantic's behind it; Typer reads values with it since 0.29.

    Pydantic speaks to programmers ("unable to parse string as a number") and does not say what it got.
    """
    faults = getattr(complaint.__cause__, "errors", None)
    if not callable(faults) or not hasattr(complaint, "message"):
        return
    if said := [_in_words(fault) for fault in faults()]:
        complaint.message = " ".join(said)


def _in_words(fault: Mapping[str, Any]) -> str:
    got, kind = fault.get("input"), str(fault.get("type", ""))
    if kind.startswith("float"):
        return f"expected a number{_example(got)}, got {excerpt(got)}."
    if kind.startswith("int"):
        return f"expected a whole number, got {excerpt(got)}."
    context = fault.get("ctx") or {}
    bounds = [f"{words} {context[name]}" for name, words in LIMITS.items() if name in context]
    if bounds:
        return f"must be {bounds[0]}, got {got}."
    if kind == "value_error":
        return str(fault.get("msg", "")).removeprefix("Value error, ")
    return f"{fault.get('msg')}, got {excerpt(got)}."


def _example(got: object) -> str:
    """How it should have been written, where that can be told."""
    plain = str(got).strip().lower().removesuffix("mb").removesuffix("gflops").strip().replace(",", ".")
    try:
        float(plain)
    except ValueError:
        return " such as 0.5"
    return f" such as {plain}, without a unit" if plain != str(got).replace(",", ".") else f" with a point: {plain}"
