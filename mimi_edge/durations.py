"""Times in the units in which people think of them."""

from __future__ import annotations

MINUTE_SECONDS = 60
HOUR_SECONDS = 60 * MINUTE_SECONDS
DAY_SECONDS = 24 * HOUR_SECONDS


def duration(seconds: float) -> str:
    """A time in its largest unit and the next one, rounded: `14 days 14 h`, `3 h 20 min`, `2 min 5 s`, `12 s`."""
    if round(seconds) < MINUTE_SECONDS:
        return f"{round(seconds)} s"
    if round(seconds) < HOUR_SECONDS:
        return _pair(seconds, MINUTE_SECONDS, "min", 1, "s")
    if round(seconds / MINUTE_SECONDS) * MINUTE_SECONDS < DAY_SECONDS:
        return _pair(seconds, HOUR_SECONDS, "h", MINUTE_SECONDS, "min")
    days = _pair(seconds, DAY_SECONDS, "days", HOUR_SECONDS, "h")
    return days.replace("1 days", "1 day", 1) if days.startswith("1 ") else days


def _pair(seconds: float, large: int, large_unit: str, small: int, small_unit: str) -> str:
    whole, rest = divmod(round(seconds / small), large // small)
    return f"{whole} {large_unit}" + (f" {rest} {small_unit}" if rest else "")
