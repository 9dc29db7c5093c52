"""A range run gives what single runs give, for every kind of view, whatever order and pieces they run in."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracle.cases import MICRO, Case, Event, at, cases, event, examples, seeds
from tests.oracle.language import ViewCase
from tests.oracle.naive import same
from tests.oracle.projects import OracleProject, Rows, check


def bits(value: object) -> object:
    """A value that equals another one only if all of its bits do; every NaN is one."""
    if isinstance(value, float):
        return "NaN" if value != value else struct.pack("<d", value)
    if isinstance(value, list | tuple):
        return [bits(item) for item in value]
    return value


def exact(rows: Rows, case: ViewCase) -> Mapping[object, object]:
    """The features whose value does not depend on the order of additions, to the bit."""
    summed = ("sum", "avg", "variance", "stddev", "skew", "decayed_sum")
    names = [name for item in case.aggregates if item.function not in summed for name in item.features().values()]
    return {key: [bits(row[name]) for name in names] for key, row in rows.items()}


def compare(one: Rows, other: Rows, case: ViewCase) -> None:
    assert one.keys() == other.keys()
    assert exact(one, case) == exact(other, case)
    for key, row in one.items():
        wrong = {name: (value, other[key][name]) for name, value in row.items() if not close(other[key][name], value)}
        assert not wrong, (key, wrong)


def close(found: object, wanted: object) -> bool:
    """Whether two computed values are the same; sums that cancel may differ by what their terms lose."""
    if isinstance(found, float) and isinstance(wanted, float) and abs(found) < 1e-6 and abs(wanted) < 1e-6:
        return abs(found - wanted) < 1e-12
    return same(found, wanted)


@examples(4)
@given(data=st.data())
def test_a_range_equals_its_intervals_one_by_one(project: OracleProject, second: OracleProject, data: st.DataObject) -> None:
    """In projects that share nothing, and in any order."""
    case: Case = data.draw(cases(project.fresh_name()))
    step = project.declare(case.view, case.events)
    project.run(step, case.intervals)
    whole = project.rows(step)
    alone = second.declare(case.view, case.events)
    for place, interval in enumerate(data.draw(st.permutations(case.intervals))):
        second.run(alone, [interval], f"single-{place}")
    compare(whole, second.rows(alone), case.view)


@examples(3)
@given(data=st.data())
def test_pieces_over_what_is_there_equal_the_oracle(project: OracleProject, data: st.DataObject) -> None:
    """Some intervals alone, then all of them, then some again: what was kept from before never shows."""
    case: Case = data.draw(cases(project.fresh_name()))
    step = project.declare(case.view, case.events)
    first = data.draw(st.lists(st.sampled_from(case.intervals), min_size=1, max_size=3, unique=True))
    project.run(step, sorted(first), "some")
    project.run(step, case.intervals, "all")
    whole = project.rows(step)
    check(step, whole, case)
    project.run(step, sorted(data.draw(st.lists(st.sampled_from(case.intervals), min_size=1, unique=True))), "again")
    compare(whole, project.rows(step), case.view)


KINDS = """
    from fstore import Entity, FeatureView, ParquetSource, agg, expr, feature, transform

    thing = Entity("thing", join_keys={"user": "string"})
    events = ParquetSource("events", path="data/kinds/events.parquet", event_time="at")
    versions = ParquetSource("versions", path="data/kinds/versions.parquet", keys=["user"], updated_at="at")


    class Counts(FeatureView):
        entity, source, schedule, timezone, start = thing, events, "@daily", "Europe/Berlin", "2026-03-20"
        n = agg.count().over("6h", "2d")
        i = agg.sum("i").over("2d").fill(0)
        ratio = expr("n_6h / nullif(n_2d, 0)")


    class Hours(FeatureView):
        entity, source, schedule, start = thing, events, "0 */6 * * *", "2026-03-20"
        n = agg.count().over("6h")


    class Shares(FeatureView):
        entity, source, schedule, timezone, start = thing, events, "@daily", "Europe/Berlin", "2026-03-20"
        j = agg.sum("j").over("12h")
        share = expr("n / nullif(total, 0)", n=Counts.n["6h"], total=Counts.n["2d"])
        mixed = expr("coalesce(j_12h, 0) + 10 * hour", hour=Hours.n["6h"])


    class Mean(FeatureView):
        entity, schedule, timezone, start = thing, "@daily", "Europe/Berlin", "2026-03-20"
        both = expr("a + b", a=Counts.n["2d"], b=Hours.n["6h"])


    class Profile(FeatureView):
        entity, schedule, timezone, start = thing, "@daily", "Europe/Berlin", "2026-03-20"
        inputs = {"v": versions, "e": events.window("36h"), "c": Counts, "h": Hours.history}
        sql = '''SELECT v.user, v.c AS category, $end AS computed_at, c.n_2d AS n, coalesce(e.n, 0) AS events, h.n AS hours
                 FROM v LEFT JOIN c USING (user)
                 LEFT JOIN (SELECT user, count(*) AS n FROM e GROUP BY user) e USING (user)
                 LEFT JOIN (SELECT user, CAST(sum(n_6h) AS BIGINT) AS n FROM h GROUP BY user) h USING (user)
                 WHERE v.user IS NOT NULL'''
        category, computed_at = feature("string"), feature("timestamp")
        n, events, hours = feature("int64"), feature("int64"), feature("int64")


    class Sessions(FeatureView):
        entity, schedule, timezone, start = thing, "@daily", "Europe/Berlin", "2026-03-20"
        inputs = {"e": events.window("30h")}
        sql = '''SELECT user, "at" AS event_timestamp, count(*) AS same, CAST(sum(j) AS BIGINT) AS j
                 FROM e WHERE user IS NOT NULL AND "at" IS NOT NULL GROUP BY ALL'''
        same, j = feature("int64"), feature("int64")


    def rate(p, s, interval):
        import pyarrow as pa

        newest = {row["user"]: row["j"] for row in s.sort_by("event_timestamp").to_pylist()}
        rows = [{"user": row["user"], "rows": s.num_rows, "score": (row["events"] or 0) * 0.1 + (newest.get(row["user"]) or 0),
                 "began": interval.start} for row in p.to_pylist()]
        types = [("user", pa.string()), ("rows", pa.int64()), ("score", pa.float64()), ("began", pa.timestamp("us", tz="UTC"))]
        return pa.Table.from_pylist(rows, schema=pa.schema(types))


    class Score(FeatureView):
        entity, schedule, timezone = thing, "@daily", "Europe/Berlin"
        inputs = {"p": Profile, "s": Sessions}
        rows, score, began = feature("int64"), feature("float64"), feature("timestamp")
        compute = transform(rate)
"""
ORDER = ("hours", "counts", "shares", "mean", "profile", "sessions", "score")
"""The views of ``KINDS`` in an order in which each reads only those before it."""


KINDS_VIEW = ViewCase("kinds", ("user",), "@daily", "Europe/Berlin", "2026-03-20", ())


def write_kinds(project: OracleProject, events: list[Event]) -> None:
    project.small.define("cases", KINDS)
    versions = {(row["user"], row["at"]): row for row in events[::2]}  # a dimension has one version of a key at a time
    project.write(KINDS_VIEW, events)
    project.write(KINDS_VIEW, list(versions.values()), "versions")


def run_kinds(project: OracleProject, *, single: bool, end: str = "2026-03-30T22:00") -> dict[str, list[object]]:
    """Run every view of ``KINDS`` over days around a change of the clock; return the rows of each, to the bit."""
    found = {}
    for view in ORDER:
        step = project.small.step(view)
        intervals = project.small.intervals(view, "2026-03-27T23:00", end)
        for place, part in enumerate([[interval] for interval in intervals] if single else [intervals]):
            project.run(step, part, f"{view}-{place}")
        found[view] = [bits(list(row.values())) for row in project.small.published(view)]
    return found


@pytest.mark.parametrize("seed", seeds(1))
def test_every_kind_of_view(tmp_path: Path, seed: int) -> None:
    times = [at("2026-03-26T22:00") + place * timedelta(minutes=97) for place in range(60)]
    times += [at("2026-03-28T23:00") + by * MICRO for by in (-1, 0, 1)]
    events = [event(seed * 1000 + place, times) for place in range(80)]
    results = []
    for single in (False, True):
        project = OracleProject(tmp_path / f"{single}")
        write_kinds(project, events)
        results.append(run_kinds(project, single=single))
        project.small.close()
    assert all(results[0].values()), "every view has rows"
    assert results[0] == results[1]
