"""The plot of the benchmarks is that of their figures."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.plot import BOUNDS, draw

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_plot_shows_the_figures_that_are_kept() -> None:
    ratios = json.loads((DOCS / "benchmarks.json").read_text(encoding="utf-8"))
    assert set(ratios) <= set(BOUNDS)
    assert (DOCS / "benchmarks.svg").read_text(encoding="utf-8") == draw(ratios), "run python -m benchmarks.plot"
