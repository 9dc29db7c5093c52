"""Random histories of publications, entity rows at the instants where it hurts, and what a read must give, by brute force.

Shares no code with what reads: a loop over publications and rows. Everything is drawn from a seed.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fstore.interval import Interval
from fstore.plan.steps import Step
from fstore.types import Column
from tests.retrieval.publishing import DAY, HOUR, T0, Publisher, day, features, make_step

MICRO = timedelta(microseconds=1)
USERS, SHOPS = ("ann", "bob", "cy", "never", None), (-1, 2**62, None)
Row = Mapping[str, Any]
KEYS = (Column(name="user_id", type="string"), Column(name="shop", type="int64"))
DAYS, ROWS = 8, 440
EMPTY: Mapping[str, Any] = {"n": 0, "label": None}
NULLS: Mapping[str, Any] = {"n": None, "label": None}


@dataclass(frozen=True)
class History:
    """A view, the publications that passed (in order: interval, rows), and entity rows."""

    step: Step
    published: list[tuple[Interval, list[Row]]]
    entity_rows: list[Row]

    def truth(self, key: tuple[object, ...], t: datetime) -> Row:
        """Return what a read at ``t`` must give for a key, as the specification says it."""
        step, heads = self.step, dict(self.published)  # the newest publication of an interval is its head
        oldest = None if step.ttl is None else (t if step.end is None else min(t, step.end)) - step.ttl
        if step.kind == "snapshot":
            ends = [interval.end for interval in heads if interval.end + step.lag <= t]
            if None in key or not ends or (oldest is not None and max(ends) < oldest):
                return NULLS
            (rows,) = (rows for interval, rows in heads.items() if interval.end == max(ends))
            return next((row for row in rows if (row["user_id"], row["shop"]) == key), EMPTY)
        seen = [row for rows in heads.values() for row in rows if (row["user_id"], row["shop"]) == key]
        seen = [row for row in seen if row["event_timestamp"] + step.lag <= t]
        newest = max(seen, key=lambda row: row["event_timestamp"], default=NULLS)
        return NULLS if oldest is not None and seen and newest["event_timestamp"] < oldest else newest

    @property
    def expected(self) -> list[tuple[object, object]]:
        truths = [self.truth((row["user_id"], row["shop"]), row["at"]) for row in self.entity_rows]
        return [(values["n"], values["label"]) for values in truths]


def publish_history(publisher: Publisher, kind: str, seed: int) -> History:
    """Publish a random history of a view that no other has, and draw entity rows for it."""
    chance = random.Random(f"{kind} {seed}")
    step = make_step(
        f"{kind}_{seed}", kind=kind, keys=KEYS, features=features(("n", "int64", 0), ("label", "string", None)),
        lag=chance.choice([timedelta(), 2 * HOUR, 30 * HOUR]), ttl=chance.choice([None, 60 * HOUR, 3 * DAY]),
        end=chance.choice([None, None, T0 + 5 * DAY]),
    )  # fmt: skip
    publisher.register(step)
    last = DAYS if step.end is None else 5
    published: list[tuple[Interval, list[Row]]] = []
    for _ in range(chance.randint(1, 4)):
        first = chance.randrange(last)
        intervals = [day(number) for number in range(first, chance.randint(first + 1, last))]
        blocked = [interval for interval in intervals if chance.random() < 0.25]
        rows = {interval: _rows(chance, kind, interval) for interval in intervals}
        publisher.publish(step, rows, blocked)
        published += [(interval, rows[interval]) for interval in intervals if interval not in blocked]
    stamps = [row["event_timestamp"] for _, rows in published for row in rows] if kind == "event" else []
    stamps += [day(number).end for number in range(-1, last)]
    edges = [step.lag, *([step.ttl, step.ttl + step.lag] if step.ttl is not None else []), step.lag + 5 * HOUR, 9 * DAY]
    entity_rows: list[Row] = [
        {
            "user_id": chance.choice(USERS),
            "shop": chance.choice(SHOPS),
            "at": chance.choice(stamps) + chance.choice(edges) + chance.choice([-MICRO, timedelta(), timedelta(), MICRO]),
        }
        for _ in range(ROWS - 20)
    ]
    entity_rows += chance.choices(entity_rows, k=20)
    chance.shuffle(entity_rows)
    return History(step, published, entity_rows)


def _rows(chance: random.Random, kind: str, interval: Interval) -> list[Row]:
    rows: list[Row] = []
    for user, shop in itertools.product(USERS[:3], SHOPS[:2]):
        offsets = [timedelta(), MICRO, 5 * HOUR, DAY - MICRO]
        times = chance.sample(offsets, chance.randint(0, 2)) if kind == "event" else offsets[: chance.randint(0, 1)]
        for offset in sorted(times):
            own = {"event_timestamp": interval.start + offset} if kind == "event" else {}
            values = {"n": chance.choice([None, 0, 1, -(2**63)]), "label": chance.choice([None, "", "x", "é"])}
            rows.append({"user_id": user, "shop": shop, **own, **values})
    return rows


def bring_online(publisher: Publisher, history: History) -> None:
    """Bring online what each publication changes: a snapshot view's newest interval, an event view's newest row per key."""
    heads: dict[Interval, list[Row]] = {}
    for sequence, (interval, rows) in enumerate(history.published, start=1):
        heads[interval] = rows
        if history.step.kind == "snapshot":
            if interval == max(heads):
                publisher.bring_online(history.step, {interval: rows}, sequence)
            continue
        every = sorted((row for one in heads.values() for row in one), key=lambda row: row["event_timestamp"])
        newest = {(row["user_id"], row["shop"]): row for row in every}
        gone = [key for key in itertools.product(USERS[:3], SHOPS[:2]) if key not in newest]
        keys = [{"user_id": user, "shop": shop} for user, shop in gone]
        publisher.bring_online(history.step, {interval: list(newest.values())}, sequence, keys)
