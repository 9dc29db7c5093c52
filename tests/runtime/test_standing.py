"""How late publications land, as ``fstore status`` says it: of what was published in its time, not of backfills."""

from __future__ import annotations

from datetime import datetime, timedelta

from fstore.registry.records import Head
from fstore.runtime.standing import landing_p95
from tests.projects import SmallProject, utc


def head(day: int, published_at: datetime, *, days: int = 1) -> Head:
    start = utc("2026-01-01T00:00") + timedelta(days=day)
    return Head(
        start=start, end=start + timedelta(days=days), sequence=day + 1, attempt=1, published_at=published_at,
        fingerprint="",
    )  # fmt: skip


def test_backfills_do_not_count_as_late(project: SmallProject) -> None:
    step = project.step("user_orders")
    begun = utc("2026-02-01T06:00")
    backfill = [head(day, begun + timedelta(minutes=day)) for day in range(31)]
    assert landing_p95(backfill, step) is None
    assert landing_p95([], step) is None
    late, early = utc("2026-02-02T03:00"), utc("2026-02-03T00:30")
    assert landing_p95([*backfill, head(31, late), head(32, early)], step) == timedelta(hours=3)
    assert landing_p95([*backfill, head(31, utc("2026-02-09T00:00"), days=7)], step) is None, "a range is one, too"
