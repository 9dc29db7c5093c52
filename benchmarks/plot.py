"""Draw the ratios of the benchmarks beside their bounds: ``python -m benchmarks.plot`` after runs of benchmarks.

Every benchmark leaves its ratio under ``build/benchmarks/ratios``. What is there replaces those of ``docs/benchmarks.json``,
from which ``docs/benchmarks.svg`` is drawn; both are kept in the repository.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from xml.sax.saxutils import escape

from benchmarks.harness import RATIOS

DOCS = Path(__file__).resolve().parent.parent / "docs"
BOUNDS = {
    "import_time": 1.0, "dag_parse": 1.2, "plan_1000": 3.0, "windowed_year": 1.3, "windows_sparse": 1.3, "windows_hot": 1.3,
    "windows_hot_vs_naive": 0.1, "incremental_day": 1.5, "lmdb_write": 2.5, "redis_write": 2.5, "publish_share": 0.05,
    "pit_grid_10m": 0.5, "pit_grid_1m": 0.8, "pit_best_peer": 1.0, "pit_default_feast": 0.1, "pit_irregular": 1.15,
    "wide_frame": 1.3, "exact_windows": 1.3, "online_redis": 1.5, "online_redis_vs_feast": 5.0, "online_lmdb": 2.0,
    "online_lmdb_vs_feast": 20.0, "http_vs_feast": 4.0, "http_vs_bare": 0.6,
}  # fmt: skip
"""The ratio that each benchmark may have at most, or, of those in RATES, at least."""

RATES = ("online_redis_vs_feast", "online_lmdb_vs_feast", "http_vs_feast", "http_vs_bare")
"""Those whose ratio says how many times as fast fstore is."""

ROW, LEFT, WIDTH, TOP = 24, 190, 520, 46
LOWEST, HIGHEST = 0.01, 4.0


def main() -> int:
    """Take over what was measured, and draw."""
    path = DOCS / "benchmarks.json"
    ratios: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for file in sorted(RATIOS.glob("*.json")) if RATIOS.exists() else []:
        ratios[file.stem] = json.loads(file.read_text(encoding="utf-8"))
    kept = {name: ratios[name] for name in BOUNDS if name in ratios}
    path.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    (DOCS / "benchmarks.svg").write_text(draw(kept), encoding="utf-8")
    sys.stdout.write(f"{len(kept)} of {len(BOUNDS)} benchmarks drawn in docs/benchmarks.svg\n")
    return 0


def draw(ratios: dict[str, float]) -> str:
    """Return an SVG with a bar for each ratio, on a scale of logarithms, and a mark at its bound."""
    height = TOP + ROW * len(ratios) + 34
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 90}" height="{height}" font-family="sans-serif" '
        'font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        '<text x="10" y="18" font-size="14">fstore against the best way by hand, or a peer: time over time, less is '
        "better</text>",
    ]
    bottom = TOP + ROW * len(ratios)
    for tick in (0.01, 0.1, 0.5, 1, 2, 4):
        colour = "#888" if tick == 1 else "#ddd"
        lines.append(f'<line x1="{_x(tick)}" y1="{TOP - 6}" x2="{_x(tick)}" y2="{bottom}" stroke="{colour}"/>')
        lines.append(f'<text x="{_x(tick)}" y="{TOP - 10}" text-anchor="middle" fill="#666">{tick:g}</text>')
    for number, (name, given) in enumerate(ratios.items()):
        top = TOP + ROW * number
        ratio, most = (1 / given, 1 / BOUNDS[name]) if name in RATES else (given, BOUNDS[name])
        colour = "#3a7d44" if ratio <= most else "#c8553d"
        bound = _x(most)
        lines += [
            f'<text x="{LEFT - 8}" y="{top + 15}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{LEFT}" y="{top + 5}" width="{_x(ratio) - LEFT:.1f}" height="13" fill="{colour}"/>',
            f'<line x1="{bound}" y1="{top + 2}" x2="{bound}" y2="{top + 21}" stroke="black" stroke-width="2"/>',
            f'<text x="{max(_x(ratio), bound) + 6:.1f}" y="{top + 15}">{ratio:.2g}</text>',
        ]
    lines.append(f'<text x="10" y="{height - 10}" fill="#666">Black marks are bounds; red bars are beyond theirs.</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def _x(ratio: float) -> float:
    inside = min(max(ratio, LOWEST), HIGHEST)
    return round(LEFT + WIDTH * math.log(inside / LOWEST) / math.log(HIGHEST / LOWEST), 1)


if __name__ == "__main__":
    sys.exit(main())
