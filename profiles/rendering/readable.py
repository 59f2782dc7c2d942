"""Numbers as people read them; programs read the JSON document."""

from __future__ import annotations

from mimi_edge.files import MEGABYTE

LARGEST_WHOLE = 1e9


def megabytes(size_bytes: float | None) -> str:
    """Such as `11.53`, with as many decimals as a small size needs; empty for None."""
    if size_bytes is None:
        return ""
    size = size_bytes / MEGABYTE
    if not size:
        return "0"
    return f"{size:,.0f}" if size >= 1000 else f"{size:.2f}" if size >= 1 else f"{size:.4f}"


def milliseconds(value: float | None) -> str:
    """Three decimals; empty for None."""
    return "" if value is None else f"{value:.3f}"


def percent(share: float | None) -> str:
    """A share of 0..1 with two decimals; empty for None."""
    return "" if share is None else f"{share:.2%}"


def figure(value: float | None, digits: int = 4) -> str:
    """So many significant digits, of whole and of large numbers all before the point; empty for None."""
    if value is None:
        return ""
    is_whole = isinstance(value, int) or 10**digits <= abs(value) < LARGEST_WHOLE
    return f"{value:,.0f}" if is_whole else f"{value:,.{digits}g}"


def interval(low: float, high: float) -> str:
    """The ends of an interval of ratios."""
    return f"{low:.3f} to {high:.3f}"


def ratio(value: float, low: float, high: float) -> str:
    """A ratio with its interval."""
    return f"{value:.3f} ({interval(low, high)})"
