"""Ways to join events to entity rows, and which one is cheapest: a pure choice by the sizes of both sides.

Every way gives the same rows, in the order of the spine: ``found_at``, the time of the newest visible event of the key, and
``_value<n>``, which is null where that time is beyond ttl. Measured over ten million events of a hundred thousand keys with
ten features, on two threads (``benchmarks/pit_irregular.py``): sorting for an ASOF join takes 0.25 µs per event, a pair of a
hash join 0.06 µs, and a pair that carries its features 0.8 µs.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from fstore.plan.steps import EVENT_TIMESTAMP
from fstore.retrieval.features import SelectedView
from fstore.retrieval.join_sql import payload_sql, same_key_sql, value_names

PAIRS_PER_EVENT = 1.5
"""An ASOF join of all events costs as much as so many pairs of entity row and event for each of them."""

CARRIED_PAIRS_PER_EVENT = 0.1
"""Up to here the pairs may carry their features: cheaper than reading the key and the time of every event twice."""

SPARSE = 0.05
"""Up to so many entity rows per event, features are better fetched for the rows found than carried through a sort."""

WIDE = 40
"""So many features are so in any case, and are never carried by pairs."""

FEW_KEYS = 100
"""Dropping the events of other keys before sorting pays where the spine has so few: the view is likely to have many more."""


class EventSizes(msgspec.Struct, frozen=True, kw_only=True):
    """What is known before anything is read: rows and distinct keys of the spine, rows and features of the view."""

    spine_rows: int
    spine_keys: int
    events: int
    features: int

    @property
    def keys(self) -> float:
        """The keys of the view, estimated by how often the spine repeats its own: as if it drew them by lot.

        n draws from k keys have n² / 2k pairs of equal ones (the birthday problem), and at most k distinct.
        """
        repeated = self.spine_rows - self.spine_keys
        if self.spine_rows > 4 * self.spine_keys:
            return float(max(1, self.spine_keys))
        return min(max(1.0, self.spine_rows**2 / max(1.0, 2.0 * repeated)), float(max(1, self.events)))

    @property
    def pairs(self) -> float:
        """How many pairs of an entity row and an earlier event of its key there will be."""
        return self.spine_rows * self.events / self.keys / 2


class EventJoin(msgspec.Struct, frozen=True):
    """A way to join: in words, and the SQL over ``spine`` and ``published``."""

    words: str
    sql: Callable[[SelectedView], str]


def choose_event_join(sizes: EventSizes) -> EventJoin:
    """Return the cheapest way for such sizes."""
    if sizes.pairs <= CARRIED_PAIRS_PER_EVENT * sizes.events and sizes.features < WIDE:
        return ARG_MAX
    if sizes.pairs <= PAIRS_PER_EVENT * sizes.events:
        return NEWEST
    if sizes.spine_keys <= FEW_KEYS:
        return NARROW_ASOF_OF_KEYS
    if sizes.features >= WIDE or sizes.spine_rows <= SPARSE * sizes.events:
        return NARROW_ASOF
    return ASOF


def asof_sql(view: SelectedView) -> str:
    """Return the ASOF join that carries all features."""
    return (
        f"WITH held AS ({payload_sql(view.step, view.features)} FROM published p) "
        f"SELECT {_found(view)} FROM spine s ASOF LEFT JOIN held p ON {_visible(view)} ORDER BY s.position"
    )


def arg_max_sql(view: SelectedView) -> str:
    """Return the hash join on the key of which each entity row keeps its newest event, features and all."""
    names = value_names(view.features)
    packed = ", ".join(f"{name} := p.{name}" for name in names)
    unpacked = ", ".join(f"n.packed.{name} AS {name}" for name in names)
    return (
        f"WITH held AS ({payload_sql(view.step, view.features)} FROM published p), "
        f"newest AS (SELECT s.position, max(p.{EVENT_TIMESTAMP}) AS found_at, "
        f"arg_max(struct_pack({packed}), p.{EVENT_TIMESTAMP}) AS packed FROM spine s JOIN held p ON {_visible(view)} "
        f"GROUP BY s.position), p AS (SELECT n.position, n.found_at AS {EVENT_TIMESTAMP}, {unpacked} FROM newest n) "
        f"SELECT {_found(view)} FROM spine s LEFT JOIN p ON p.position = s.position ORDER BY s.position"
    )


def newest_sql(view: SelectedView) -> str:
    """Return the hash join of key and time alone, and the features of the rows that it found."""
    return _late(
        view,
        f"SELECT s.position, max(p.{EVENT_TIMESTAMP}) AS found_at FROM spine s JOIN published p ON {_visible(view)} "
        "GROUP BY s.position",
    )


def narrow_asof_sql(view: SelectedView) -> str:
    """Return the ASOF join of key and time alone, and the features of the rows that it found."""
    return _late(view, _narrow_asof(view, "published"))


def narrow_asof_of_keys_sql(view: SelectedView) -> str:
    """Return the same, the events of other keys dropped before they are sorted."""
    return _late(view, _narrow_asof(view, f"(SELECT p.* FROM published p SEMI JOIN spine s ON {same_key_sql(view.step)})"))


ASOF = EventJoin("ASOF join on (key, time)", asof_sql)
ARG_MAX = EventJoin("hash join on the key, keeping the newest row", arg_max_sql)
NEWEST = EventJoin("hash join on the key for the newest time, then equi-join on (key, time)", newest_sql)
NARROW_ASOF = EventJoin("ASOF join of keys and times alone, then equi-join on (key, time)", narrow_asof_sql)
NARROW_ASOF_OF_KEYS = EventJoin(
    "ASOF join of the times of the keys asked for, then equi-join on (key, time)", narrow_asof_of_keys_sql
)
EVENT_JOINS = (ASOF, ARG_MAX, NEWEST, NARROW_ASOF, NARROW_ASOF_OF_KEYS)


def _narrow_asof(view: SelectedView, events: str) -> str:
    return f"SELECT s.position, p.{EVENT_TIMESTAMP} AS found_at FROM spine s ASOF JOIN {events} p ON {_visible(view)}"


def _late(view: SelectedView, newest: str) -> str:
    step = view.step
    return (
        f"WITH newest AS ({newest}), held AS ({payload_sql(step, view.features)} FROM published p), "
        "wanted AS (SELECT s.*, n.found_at FROM spine s LEFT JOIN newest n ON n.position = s.position) "
        f"SELECT {_found(view)} FROM wanted s LEFT JOIN held p ON {same_key_sql(step)} AND p.{EVENT_TIMESTAMP} = s.found_at "
        "ORDER BY s.position"
    )


def _visible(view: SelectedView) -> str:
    return f"{same_key_sql(view.step)} AND s.visible >= p.{EVENT_TIMESTAMP}"


def _found(view: SelectedView) -> str:
    """Return the SELECT list that all ways end with."""
    within = f"p.{EVENT_TIMESTAMP} >= s.oldest" if view.step.ttl is not None else "true"
    values = (f"CASE WHEN {within} THEN p.{name} END AS {name}" for name in value_names(view.features))
    return ", ".join([f"p.{EVENT_TIMESTAMP} AS found_at", *values])
