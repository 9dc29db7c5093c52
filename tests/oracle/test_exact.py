"""Windows that end at each entity row's own instant, against the oracle, through the client."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fstore import Client
from tests.oracle.cases import FUNCTIONS, MICRO, Case, cases, examples
from tests.oracle.naive import Key, features_at, same
from tests.oracle.projects import OracleProject, describe


def read_exactly(project: OracleProject, case: Case, pick: st.DataObject) -> None:
    """Read a view at the edges of its windows, a microsecond beside them and anywhere else, and compare every value."""
    step = project.declare(case.view, case.events)
    known = [row for row in case.events if row["at"] is not None and all(row[key] is not None for key in case.view.keys)]
    keys: dict[Key, list[dict[str, object]]] = {}
    for row in known:
        keys.setdefault(tuple(row[key] for key in case.view.keys), []).append(row)
    if not keys:
        return
    reaches = {item.reach() for item in case.view.aggregates} - {None}
    distances = [timedelta(), timedelta(hours=5), *(item.offset or timedelta() for item in case.view.aggregates), *reaches]
    rows = []
    for key, events in keys.items():
        for _ in range(6):
            event = pick.draw(st.sampled_from(events))
            nudge = pick.draw(st.sampled_from([-MICRO, timedelta(), MICRO]))
            at = event["at"] + pick.draw(st.sampled_from(distances)) + nudge + step.lag
            rows.append({**dict(zip(case.view.keys, key, strict=True)), "label_at": at})
    first = next(iter(keys))
    rows += [rows[0], {**rows[0], case.view.keys[0]: None}]
    spine = pa.table(
        {
            **{column.name: pa.array([row[column.name] for row in rows]) for column in step.keys},
            "label_at": pa.array([row["label_at"] for row in rows], pa.timestamp("us", tz="UTC")),
        }
    )
    assert first in keys
    latest = max(row["label_at"] for row in rows)
    with Client(project.small.backends, clock=lambda: latest) as client:
        names = [f"{step.view}:{feature.name}" for feature in step.features]
        frame = client.get_historical_features(spine, names, timestamp_column="label_at", accuracy="exact")
    found = frame.to_arrow().select([feature.name for feature in step.features]).to_pylist(maps_as_pydicts=None)
    for row, values in zip(rows, found, strict=True):
        key = tuple(row[name] for name in case.view.keys)
        end = row["label_at"] - step.lag
        if None in key or end < step.start:
            assert set(values.values()) == {None}
            continue
        end = min(end, step.end or datetime.max.replace(tzinfo=UTC))
        wanted = features_at(case.view, keys[key], end)
        wrong = {name: (values[name], value) for name, value in wanted.items() if not same(values[name], value)}
        assert not wrong, f"{key} at {end}: (found, wanted) of {describe(case, wrong)}"


@examples(12)
@given(data=st.data())
def test_many_aggregates_at_any_instant(project: OracleProject, data: st.DataObject) -> None:
    case = data.draw(cases(project.fresh_name(), most=12))
    read_exactly(project, case, data)


@pytest.mark.parametrize("function", FUNCTIONS)
@examples(2)
@given(data=st.data())
def test_one_function_at_any_instant(project: OracleProject, function: str, data: st.DataObject) -> None:
    case = data.draw(cases(project.fresh_name(), [function], most=10))
    read_exactly(project, case, data)
