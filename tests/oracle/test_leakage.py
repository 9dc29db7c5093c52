"""Nothing of the future is in a value, and a training frame reads what was published."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fstore import Client
from tests.oracle.cases import MICRO, Case, Event, at, cases, event, examples, seeds
from tests.oracle.naive import features_at, same
from tests.oracle.projects import OracleProject
from tests.oracle.test_ranges import KINDS_VIEW, run_kinds, write_kinds


def scrambled(r: random.Random, events: list[Event], cutoff: datetime) -> list[Event]:
    """The events before a time as they were, and others in place of those from then on."""
    kept = [row for row in events if row["at"] is not None and row["at"] < cutoff]
    times = [cutoff, cutoff + MICRO, cutoff + timedelta(hours=7), cutoff + timedelta(days=40)]
    return kept + [event(r.randrange(10**9), times) for _ in range(40)]


@examples(3)
@given(data=st.data())
def test_events_moved_into_the_future_change_nothing(project: OracleProject, data: st.DataObject) -> None:
    case: Case = data.draw(cases(project.fresh_name()))
    cutoff = data.draw(st.sampled_from(case.ends))
    step = project.declare(case.view, case.events)
    project.run(step, case.intervals)
    before = {key: repr(row) for key, row in project.rows(step).items() if key[0] <= cutoff}
    project.write(case.view, scrambled(random.Random(data.draw(st.integers(0, 99))), list(case.events), cutoff))
    project.run(step, case.intervals, "again")
    assert {key: repr(row) for key, row in project.rows(step).items() if key[0] <= cutoff} == before


@pytest.mark.parametrize("seed", seeds(1))
def test_no_kind_of_view_sees_the_future(tmp_path: Path, seed: int) -> None:
    """Dimensions, SQL, Python and event views, and views over views."""
    times = [at("2026-03-27T02:00") + place * timedelta(minutes=97) for place in range(50)]
    events = [event(seed * 1000 + place, times) for place in range(80)]
    cutoff = at("2026-03-29T22:00")  # the end of the second of three days, which has 23 hours
    results = []
    for future in (False, True):
        project = OracleProject(tmp_path / f"{future}")
        write_kinds(project, scrambled(random.Random(seed), events, cutoff) if future else events)
        if future:
            project.write(KINDS_VIEW, versions(events, cutoff), "versions")
        else:
            project.write(KINDS_VIEW, versions(events, at("2030-01-01")), "versions")
        rows = run_kinds(project, single=False, end="2026-03-29T22:00")
        assert all(rows.values()), "every view has rows"
        results.append(rows)
        project.small.close()
    assert results[0] == results[1]


def versions(events: list[Event], cutoff: datetime) -> list[Event]:
    """One version of a key at a time; from a time on, all of them of another category."""
    known = {(row["user"], row["at"]): row for row in events[::2] if row["at"] is not None}
    return [row if row["at"] < cutoff else {**row, "c": "leaked"} for row in known.values()]


@examples(3)
@given(data=st.data())
def test_a_training_frame_reads_what_the_oracle_says(project: OracleProject, data: st.DataObject) -> None:
    """At, just before and just after the ends of intervals; keys without events read as the empty row."""
    case: Case = data.draw(cases(project.fresh_name()))
    step = project.declare(case.view, case.events)
    project.run(step, case.intervals)
    known = {tuple(row[name] for name in case.view.keys) for row in case.events}
    keys = sorted((key for key in known if None not in key), key=repr)
    if not keys:
        return
    spine = []
    for end in case.ends:
        for by in (-MICRO, timedelta(), MICRO):
            spine += [{**dict(zip(case.view.keys, key, strict=True)), "event_timestamp": end + by} for key in keys]
    client = Client(project.small.backends)
    frame = client.get_historical_features(spine, [f"{step.view}:*"], missing="allow").to_arrow().to_pylist()
    assert len(frame) == len(spine)
    for asked, found in zip(spine, frame, strict=True):
        past = [end for end in case.ends if end <= asked["event_timestamp"]]
        mine = [row for row in case.events if row["at"] is not None
                and all(row[name] == asked[name] for name in case.view.keys)]  # fmt: skip
        wanted = features_at(case.view, mine, past[-1]) if past else dict.fromkeys(f.name for f in step.features)
        wrong = {name: (found[name], value) for name, value in wanted.items() if not same(found[name], value)}
        assert not wrong, (asked, wrong)
