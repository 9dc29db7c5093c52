"""Point-in-time joins and online reads against a naive loop over publications and rows, on random histories."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fstore import Client
from fstore.errors import IncompleteHistory
from fstore.interval import Interval
from fstore.plan.steps import Step
from fstore.types import Column
from tests.retrieval.publishing import DAY, HOUR, T0, Publisher, Rows, day, features, make_step

MICRO = timedelta(microseconds=1)
DAYS = 6
USERS = ("ann", "bob", "cy", None)
SHOPS = (1, 2, None)
KEYS = (Column(name="user_id", type="string"), Column(name="shop", type="int64"))
VIEWS = itertools.count()

EXAMPLES = settings(
    max_examples=30, deadline=None, phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
"""Every example publishes to the real registry and files (a fifth of a second), so the explaining phase is left out."""

History = list[tuple[int, Interval, Rows]]
"""What was published, in order: sequence, interval, rows."""


def newest_due(step: Step, t: datetime) -> Interval | None:
    found = None
    for number in range(-1, DAYS + 20):
        interval = day(number)
        if interval.start >= step.start and (step.end is None or interval.end <= step.end) and interval.end + step.lag <= t:
            found = interval
    return found


def expired(step: Step, stamp: datetime, t: datetime) -> bool:
    measured = t if step.end is None else min(t, step.end)
    return step.ttl is not None and stamp < measured - step.ttl


def oracle(step: Step, history: History, t: datetime, key: tuple[object, ...]) -> Mapping[str, object]:
    """The value that the specification gives, by brute force."""
    nulls = dict.fromkeys(("n", "label"))
    heads = {interval: rows for _, interval, rows in history}
    if None in key:
        return nulls
    if step.kind == "snapshot":
        seen = [interval for interval in heads if interval.end + step.lag <= t]
        if not seen or expired(step, max(seen).end, t):
            return nulls
        for row in heads[max(seen)]:
            if (row["user_id"], row["shop"]) == key:
                return row
        return {"n": 0, "label": None}
    rows = [row for rows in heads.values() for row in rows if (row["user_id"], row["shop"]) == key]
    rows = [row for row in rows if row["event_timestamp"] + step.lag <= t and not expired(step, row["event_timestamp"], t)]
    return max(rows, key=lambda row: row["event_timestamp"], default=nulls)


@st.composite
def row_sets(draw: st.DrawFn, kind: str, interval: Interval) -> Rows:
    rows: list[dict[str, object]] = []
    values = st.fixed_dictionaries({"n": st.none() | st.integers(0, 9), "label": st.none() | st.sampled_from("xyz")})
    for user, shop in itertools.product(USERS[:3], SHOPS[:2]):
        if kind == "snapshot":
            if draw(st.booleans()):
                rows.append({"user_id": user, "shop": shop, **draw(values)})
        else:
            offsets = draw(st.sets(st.sampled_from([timedelta(), MICRO, 5 * HOUR, DAY - MICRO]), max_size=2))
            rows += [
                {"user_id": user, "shop": shop, "event_timestamp": interval.start + offset, **draw(values)}
                for offset in sorted(offsets)
            ]
    return rows


@st.composite
def scenarios(draw: st.DrawFn, kind: str) -> tuple[Step, list[tuple[dict[Interval, Rows], list[Interval]]], list[datetime]]:
    """A view, attempts at ranges (with blocked intervals among them), and instants, many of them exactly on an edge."""
    step = make_step(
        f"{kind}_{next(VIEWS)}", kind=kind, keys=KEYS, features=features(("n", "int64", 0), ("label", "string", None)),
        lag=draw(st.sampled_from([timedelta(), 2 * HOUR, 30 * HOUR])),
        ttl=draw(st.sampled_from([None, DAY + 30 * HOUR, 3 * DAY])),
        end=draw(st.sampled_from([None, T0 + 4 * DAY])),
    )  # fmt: skip
    last = DAYS if step.end is None else 4
    attempts = []
    for _ in range(draw(st.integers(0, 4))):
        first = draw(st.integers(0, last - 1))
        intervals = [day(number) for number in range(first, draw(st.integers(first + 1, last)))]
        blocked = [interval for interval in intervals if draw(st.integers(0, 3)) == 0]
        attempts.append(({interval: draw(row_sets(kind, interval)) for interval in intervals}, blocked))
    offsets = [timedelta(), step.lag, step.lag + 5 * HOUR, *([step.ttl, step.ttl + DAY] if step.ttl else [])]
    instants = st.builds(
        lambda number, offset, nudge: T0 + number * DAY + offset + nudge,
        st.integers(-1, DAYS), st.sampled_from(offsets), st.sampled_from([-MICRO, timedelta(), MICRO]),
    )  # fmt: skip
    return step, attempts, draw(st.lists(instants, min_size=1, max_size=12))


def publish_all(
    publisher: Publisher, step: Step, attempts: Sequence[tuple[dict[Interval, Rows], list[Interval]]]
) -> tuple[History, set[Interval]]:
    history: History = []
    verdicts: dict[Interval, bool] = {}
    for rows, blocked in attempts:
        sequence = publisher.publish(step, rows, blocked)
        verdicts |= {interval: interval not in blocked for interval in rows}
        history += [(sequence or 0, interval, rows[interval]) for interval in rows if interval not in blocked]
    return history, {interval for interval, passed in verdicts.items() if not passed}


@pytest.mark.parametrize("kind", ["snapshot", "event"])
@given(data=st.data())
@EXAMPLES
def test_historical_features_equal_the_oracle(publisher: Publisher, kind: str, data: st.DataObject) -> None:
    step, attempts, instants = data.draw(scenarios(kind))
    publisher.register(step)
    history, blocked = publish_all(publisher, step, attempts)
    pairs = [(user, shop, t) for t in instants for user in USERS for shop in SHOPS] + [("ann", 1, instants[0])]
    random.Random(1).shuffle(pairs)
    rows = [{"user_id": user, "shop": shop, "at": t, "target": n} for n, (user, shop, t) in enumerate(pairs)]

    client = Client(publisher.backends)
    ask = {"features": [f"{step.view}:*"], "timestamp_column": "at"}
    frame = client.get_historical_features(rows, missing="allow", **ask)
    got = frame.to_arrow().to_pylist()
    assert [row["target"] for row in got] == list(range(len(rows)))
    for row, (user, shop, t) in zip(got, pairs, strict=True):
        expected = oracle(step, history, t, (user, shop))
        assert {"n": row["n"], "label": row["label"]} == {"n": expected["n"], "label": expected["label"]}, (user, shop, t)

    published = {interval for _, interval, _ in history}
    needs = [newest_due(step, t) for user, shop, t in pairs if None not in (user, shop)]
    astray = [interval for interval in needs if interval is not None and interval not in published]
    assert frame.manifest.fallback_rows == {step.view: len(astray)}
    lost = [interval for interval in astray if interval not in blocked]
    if lost:
        with pytest.raises(IncompleteHistory) as raised:
            client.get_historical_features(rows, **ask)
        assert raised.value.rows == len(lost)
        days = {day(n) for start, end in raised.value.ranges for n in range((start - T0) // DAY, (end - T0) // DAY)}
        assert days == set(lost)
    else:
        assert client.get_historical_features(rows, **ask).to_arrow().to_pylist() == got


@pytest.mark.parametrize("kind", ["snapshot", "event"])
@given(data=st.data())
@EXAMPLES
def test_online_values_equal_a_join_at_this_moment(publisher: Publisher, kind: str, data: st.DataObject) -> None:
    step, attempts, _ = data.draw(scenarios(kind).filter(lambda scenario: len(scenario[1]) > 0))
    publisher.register(step)
    history, _ = publish_all(publisher, step, attempts)
    work = online_work(step, history)
    for rows, gone, sequence in data.draw(st.permutations(work)):
        publisher.bring_online(step, rows, sequence, gone)
    known = [stamp for _, interval, rows in history for stamp in ([interval.end] if kind == "snapshot" else
             [row["event_timestamp"] for row in rows])]  # fmt: skip
    if not history:
        return  # nothing was published: FloorMissing, which another test holds
    earliest = max(known, default=T0) + step.lag
    edges = [] if step.ttl is None else [step.ttl - step.lag, step.ttl - step.lag + MICRO, step.ttl]
    now = earliest + data.draw(st.sampled_from([timedelta(), MICRO, 5 * HOUR, 9 * DAY, *edges]))
    pairs = list(itertools.product(USERS, SHOPS))
    entities = {"user_id": [user for user, _ in pairs], "shop": [shop for _, shop in pairs]}

    client = Client(publisher.backends, clock=lambda: now)
    refs = [f"{step.view}:label", f"{step.view}:n"]
    online = client.get_online_features(refs, entities)
    rows = [{"user_id": user, "shop": shop, "event_timestamp": now} for user, shop in pairs]
    offline = client.get_historical_features(rows, refs, missing="allow").to_arrow().drop_columns("event_timestamp")
    assert online.to_arrow().to_pylist() == offline.to_pylist()
    assert online.to_arrow().schema == offline.replace_schema_metadata(None).schema


def online_work(step: Step, history: History) -> list[tuple[dict[Interval, Rows], Rows, int]]:
    """What each publication brings online: a snapshot view's newest interval, an event view's newest row of each key."""
    work: list[tuple[dict[Interval, Rows], Rows, int]] = []
    for sequence in sorted({sequence for sequence, _, _ in history}):
        heads = {interval: rows for number, interval, rows in history if number <= sequence}
        mine = {interval: rows for number, interval, rows in history if number == sequence}
        if step.kind == "snapshot":
            if max(heads) in mine:
                work.append(({max(heads): heads[max(heads)]}, (), sequence))
            continue
        newest: dict[tuple[object, object], Mapping[str, object]] = {}
        for interval in sorted(heads):
            newest |= {(row["user_id"], row["shop"]): row for row in heads[interval]}
        gone = [key for key in itertools.product(USERS[:3], SHOPS[:2]) if key not in newest]
        keys = [{"user_id": user, "shop": shop} for user, shop in gone]
        work.append(({max(mine): list(newest.values())}, keys, sequence))
    return work
