"""How the page looks: one column on a phone, charts side by side where there is room, light or dark as the reader is.

Every text has a contrast of at least 4.5 to 1 with what is behind it, every line of a chart at least 3 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from mimi_edge.charts.style import COLOURS, INK, PAPER, RULE, SERIES, SOFT

MARK = "mark"
LIGHT = COLOURS | {MARK: "#fff4d6"}
DARK = {PAPER: "#14171c", INK: "#e6e9ee", SOFT: "#a4adb8", RULE: "#3a424d", MARK: "#3d3110"}
DARK_SERIES = ("#6cb2ff", "#ffae5c", "#4fd1b8", "#c4a4ff", "#ff8fae", "#d8c27a", "#c0c9d6", "#9bdc6a")
VARIABLES = {
    **{value: f"var(--{name})" for name, value in COLOURS.items()},
    **{value: f"var(--s{index})" for index, value in enumerate(SERIES)},
}
"""Colours of charts as the page has them, light or dark."""

_RULES = """
:root { color-scheme: light dark; %(light)s }
@media (prefers-color-scheme: dark) { :root { %(dark)s } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 16px; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 8px 0; }
h2 { font-size: 1.3rem; margin: 32px 0 8px; }
h3 { font-size: 1.05rem; margin: 24px 0 4px; }
p { margin: 4px 0 12px; max-width: 76ch; }
.soft { color: var(--soft); font-size: .875rem; font-weight: 400; }
.marks { background: var(--mark); border: 1px solid var(--rule); border-radius: 8px; padding: 8px 12px;
  margin: 12px 0; }
.marks h2 { margin: 0; }
.marks ul { margin: 4px 0; padding-left: 20px; }
.scroll { overflow-x: auto; margin: 0 0 16px; border: 1px solid var(--rule); border-radius: 8px; }
.scroll:focus-visible { outline: 2px solid var(--s0); }
table { border-collapse: collapse; width: 100%%; font-variant-numeric: tabular-nums; font-size: .875rem; }
th, td { padding: 6px 8px; text-align: left; border-bottom: 1px solid var(--rule); white-space: nowrap;
  overflow-wrap: normal; vertical-align: top; }
td.figure, th.figure { text-align: right; }
tbody tr:last-child > * { border-bottom: 0; }
thead th { color: var(--soft); font-weight: 600; white-space: normal; vertical-align: bottom; }
tbody th { font-weight: 600; }
th.long, td.long { white-space: normal; min-width: 14em; max-width: 28em; overflow-wrap: anywhere; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%%, 360px), 1fr)); gap: 16px; }
figure { margin: 0; padding: 10px; border: 1px solid var(--rule); border-radius: 8px; min-width: 0; max-width: 620px; }
figcaption { font-weight: 600; font-size: .9375rem; margin-bottom: 4px; }
figure > svg { display: block; width: 100%%; height: auto; }
svg { stroke-linejoin: round; stroke-linecap: butt; }
svg text { unicode-bidi: isolate; }
.legend { list-style: none; margin: 6px 0 0; padding: 0; display: flex; flex-wrap: wrap;
  gap: 2px 14px; font-size: .8125rem; }
.legend li { display: flex; align-items: center; gap: 6px; min-width: 0; }
.swatch { width: 28px; height: 12px; flex: none; }
.swatch.small { width: 14px; }
@media print { .scroll { overflow: visible; } figure { break-inside: avoid; } }
"""


def style_sheet() -> str:
    """CSS of the page."""
    return _RULES % {"light": _variables(LIGHT, SERIES), "dark": _variables(DARK, DARK_SERIES)}


def _variables(colours: dict[str, str], series: Sequence[str]) -> str:
    named = colours | {f"s{index}": value for index, value in enumerate(series)}
    return " ".join(f"--{name}: {value};" for name, value in named.items())
