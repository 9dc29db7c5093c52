"""How the comparison of two generations looks: sparklines for the terminal, one page of HTML without scripts."""

from __future__ import annotations

import html
from collections.abc import Sequence

from fstore.runtime.comparison import Comparison, FeatureComparison

_BARS = "▁▂▃▄▅▆▇█"
_HEIGHT, _WIDTH = 48, 12


def sparkline(shares: Sequence[float]) -> str:
    """Return shares as a row of bars, the greatest full."""
    top = max(shares, default=0.0)
    return "".join(_BARS[round(share / top * (len(_BARS) - 1))] for share in shares) if top else ""


def html_page(compared: Sequence[Comparison]) -> str:
    """Return a page with a table per view and, per feature, the old and new distribution side by side."""
    body = "\n".join(_section(item) for item in compared)
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>fstore diff</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1f2933; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: right; padding: .3rem .6rem; border-bottom: 1px solid #dde3ea; vertical-align: bottom; }}
th:first-child, td:first-child {{ text-align: left; }}
.old {{ fill: #9aa5b1; }} .new {{ fill: #2f6fb0; }} .much {{ color: #b02a37; font-weight: 600; }}
</style>
<h1>Old and new generations</h1>
<p>Grey: what is live. Blue: the new generation. Shift is the population stability index: above 0.25 is much.</p>
{body}
</html>
"""


def _section(item: Comparison) -> str:
    rows = "\n".join(_row(feature) for feature in item.features)
    notes = [item.note] if item.note else []
    notes += [f"Added: {', '.join(item.added)}."] if item.added else []
    notes += [f"Removed: {', '.join(item.removed)}."] if item.removed else []
    return f"""<h2>{html.escape(item.view)}</h2>
<p>Generation {item.old_generation} has {item.old_rows:,} rows, generation {item.new_generation} has {item.new_rows:,};
{item.only_old:,} are in the old one only, {item.only_new:,} in the new one only. {html.escape(" ".join(notes))}</p>
<table><tr><th>feature<th>changed rows<th>keys<th>largest change<th>mean<th>new mean<th>nulls<th>new nulls<th>shift<th></tr>
{rows}
</table>"""


def _row(item: FeatureComparison) -> str:
    much = ' class="much"' if item.shift is not None and item.shift > 0.25 else ""
    cells = [
        f"{item.changed_rows:,} of {item.rows:,}", f"{item.changed_keys:,}", _percent(item.largest_change),
        _number(item.old_mean), _number(item.new_mean), _percent(item.old_null_share), _percent(item.new_null_share),
    ]  # fmt: skip
    shift = "" if item.shift is None else f"{item.shift:.3f}"
    filled = "".join(f"<td>{cell}" for cell in cells)
    return f"<tr><td>{html.escape(item.feature)}{filled}<td{much}>{shift}<td>{_bars(item)}</tr>"


def _bars(item: FeatureComparison) -> str:
    """Return both distributions as pairs of bars."""
    top = max((*item.old_shares, *item.new_shares), default=0.0)
    if not top:
        return ""
    bars = []
    for number, pair in enumerate(zip(item.old_shares, item.new_shares, strict=False)):
        for side, share in enumerate(pair):
            height = share / top * _HEIGHT
            left, kind = number * (_WIDTH + 2) + side * _WIDTH / 2, ("old", "new")[side]
            place = f'x="{left:g}" y="{_HEIGHT - height:.1f}"'
            bars.append(f'<rect class="{kind}" {place} width="{_WIDTH / 2:g}" height="{height:.1f}"/>')
    width = len(item.old_shares) * (_WIDTH + 2)
    return f'<svg width="{width}" height="{_HEIGHT}" role="img" aria-label="distributions">{"".join(bars)}</svg>'


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.3g} %"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
