"""Every way to join events gives the rows of a naive loop, whatever the sizes; and the choice follows the sizes."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from fstore import Client
from fstore.interval import Interval
from fstore.plan.steps import Step
from fstore.retrieval import event_join, event_plans
from fstore.retrieval.event_plans import EVENT_JOINS, EventJoin, EventSizes, choose_event_join
from fstore.types import Column
from tests.retrieval.publishing import DAY, HOUR, T0, Publisher, Rows, day, features, make_step

MICRO = timedelta(microseconds=1)
KEYS = (Column(name="user_id", type="string"), Column(name="shop", type="int64"))
FEATURES = features(
    ("n", "int64", None), ("label", "string", None), ("seen", "list<string>", None), ("at", "timestamp", None)
)


def naive(step: Step, rows: Sequence[Mapping[str, Any]], key: tuple[object, ...], t: Any) -> dict[str, object]:
    mine = [row for row in rows if (row["user_id"], row["shop"]) == key and None not in key]
    seen = [row for row in mine if row["event_timestamp"] + step.lag <= t]
    newest = max(seen, key=lambda row: row["event_timestamp"], default=None)
    if newest is None or (step.ttl is not None and newest["event_timestamp"] < t - step.ttl):
        return dict.fromkeys(("n", "label", "seen", "at"))
    return {name: newest[name] for name in ("n", "label", "seen", "at")}


def random_rows(chance: random.Random, interval: Interval) -> Rows:
    rows = []
    for user in ("ann", "bob", "cy"):
        for shop in (1, 2):
            offsets = {
                chance.choice([timedelta(), MICRO, 5 * HOUR, DAY - MICRO, 7 * HOUR]) for _ in range(chance.randrange(4))
            }
            rows += [
                {"user_id": user, "shop": shop, "event_timestamp": interval.start + offset,
                 "n": chance.choice([None, 0, 1, 2]), "label": chance.choice([None, "", "x"]),
                 "seen": chance.choice([None, [], ["a", None]]), "at": chance.choice([None, interval.start])}
                for offset in sorted(offsets)
            ]  # fmt: skip
    return rows


@pytest.mark.parametrize("way", EVENT_JOINS, ids=lambda way: way.sql.__name__)
@pytest.mark.parametrize("seed", range(6))
def test_every_way_to_join_events_equals_a_naive_loop(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch, way: EventJoin, seed: int
) -> None:
    chance = random.Random(seed)
    step = make_step(
        f"events_{way.sql.__name__}_{seed}", kind="event", keys=KEYS, features=FEATURES,
        lag=chance.choice([timedelta(), 2 * HOUR]), ttl=[None, DAY + 2 * HOUR, 3 * DAY][seed % 3],
    )  # fmt: skip
    publisher.register(step)
    first = {day(number): random_rows(chance, day(number)) for number in range(5)}
    second = {day(2): random_rows(chance, day(2))}  # replaces a day of the first
    publisher.publish(step, first)
    publisher.publish(step, second)
    rows = [row for held in (first | second).values() for row in held]
    offsets = [timedelta(), MICRO, -MICRO, step.lag, step.lag + 5 * HOUR, DAY, (step.ttl or DAY) + 5 * HOUR]
    asked = [
        {"user_id": chance.choice(["ann", "bob", "cy", "dan", None]), "shop": chance.choice([1, 2, 3, None]),
         "event_timestamp": T0 + chance.randrange(6) * DAY + chance.choice(offsets)}
        for _ in range(300)
    ]  # fmt: skip
    monkeypatch.setattr(event_join, "choose_event_join", lambda sizes: way)
    frame = Client(publisher.backends).get_historical_features(asked, [f"{step.view}:*"], missing="allow")
    got = [{name: row[name] for name in ("n", "label", "seen", "at")} for row in frame.to_arrow().to_pylist()]
    assert got == [naive(step, rows, (row["user_id"], row["shop"]), row["event_timestamp"]) for row in asked]
    assert way.words in frame.explain()


MILLION = 1_000_000


@pytest.mark.parametrize(
    ("spine_rows", "spine_keys", "features", "expected"),
    [
        (1_000, 995, 10, event_plans.ARG_MAX),  # few rows of many keys
        (1_000, 995, 400, event_plans.NEWEST),  # the same of a wide view
        (100_000, 63_000, 10, event_plans.NEWEST),
        (1_000_000, 100_000, 10, event_plans.ASOF),
        (1_000_000, 100_000, 100, event_plans.NARROW_ASOF),
        (1_000, 1, 10, event_plans.NARROW_ASOF_OF_KEYS),  # one hot key: each row would meet all of its events
        (100_000, 1_000, 10, event_plans.NARROW_ASOF),  # many events per key, few rows find one
        (2_000_000, 1_400_000, 10, event_plans.NEWEST),  # hardly any event per key
    ],
)
def test_the_cheapest_way_is_chosen_by_the_sizes(
    spine_rows: int, spine_keys: int, features: int, expected: EventJoin
) -> None:
    sizes = EventSizes(spine_rows=spine_rows, spine_keys=spine_keys, events=10 * MILLION, features=features)
    assert choose_event_join(sizes) is expected


def test_keys_are_estimated_from_how_often_a_spine_repeats_them() -> None:
    chance = random.Random(1)
    for keys, rows in ((100_000, 1_000), (100_000, 100_000), (1_000, 5_000), (1_000_000, 20_000)):
        distinct = len({chance.randrange(keys) for _ in range(rows)})
        estimate = EventSizes(spine_rows=rows, spine_keys=distinct, events=10 * MILLION, features=1).keys
        assert keys / 2.5 < estimate < keys * 2.5, (keys, rows, distinct)
