"""Snapshot joins: both sides may be the smaller one, files are read in one scan where no other overtakes them, order is kept."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from fstore import Client
from fstore.interval import Interval
from fstore.retrieval.features import select_features
from fstore.retrieval.history import find_answers, lay_grid, used_heads
from fstore.retrieval.published_rows import find_published, whole_files
from fstore.retrieval.snapshot_hash_join import in_order
from tests.retrieval.publishing import DAY, HOUR, T0, Publisher, day, make_step

DAYS, USERS = 6, 40


@pytest.fixture(scope="module")
def client(publisher: Publisher) -> Client:
    """Six days of forty users, of which the third day was published again, as well as a seventh day of its own."""
    step = make_step("planned")
    publisher.register(step)
    rows = {
        day(n): [{"user_id": f"u{user}", "n": n * 100 + user, "amount": None} for user in range(USERS)] for n in range(DAYS)
    }
    publisher.publish(step, rows)
    publisher.publish(step, {day(2): [{"user_id": "u1", "n": -1, "amount": 0.5}]})
    publisher.publish(step, {day(6): [{"user_id": "u2", "n": -2, "amount": 1.5}]})
    return Client(publisher.backends)


def expected(user: str, number: int) -> int:
    if number == 2:
        return -1 if user == "u1" else 0
    if number == 6:
        return -2 if user == "u2" else 0
    return number * 100 + int(user[1:]) if int(user[1:]) < USERS else 0


@pytest.mark.parametrize("rows", [1, 7, 2_000], ids=lambda rows: f"{rows} entity rows")
def test_spines_smaller_and_larger_than_the_view_read_the_same(client: Client, rows: int) -> None:
    chance = random.Random(rows)
    asked = [(f"u{chance.randrange(USERS + 2)}", chance.randrange(DAYS + 1)) for _ in range(rows)]
    spine = [{"user_id": user, "event_timestamp": T0 + (number + 1) * DAY + HOUR} for user, number in asked]
    frame = client.get_historical_features(spine, ["planned:n"])
    assert frame.to_arrow()["n"].to_pylist() == [expected(user, number) for user, number in asked]
    plan = frame.manifest.views[0].plan
    assert plan is not None
    assert plan.published_intervals == 7


def test_files_have_one_range_unless_another_answers_for_one_of_their_snapshots_in_use(
    publisher: Publisher, client: Client
) -> None:
    backends = publisher.backends
    (view,) = select_features(backends.registry, features=["planned:n"], service=None, full_names=False).views
    heads = backends.registry.ledger.heads("planned")

    def ranges(*numbers: int) -> dict[int, tuple[Interval, ...]]:
        instants = np.array([int((T0 + (number + 1) * DAY).timestamp() * 1e6) for number in numbers])
        grid = lay_grid(view.step, heads, [], T0 + 8 * DAY)
        answer = find_answers(view.step, grid, instants, counts=np.ones(len(numbers), np.bool_), strict=True)
        found = whole_files(find_published(backends, view, used_heads(heads, answer), None), heads, answer)
        return {item.attempt: item.ranges for item in found.held}

    first, again, last = sorted({head.attempt for head in heads})
    every = (Interval(T0 + DAY, T0 + 7 * DAY),)
    assert ranges(1, 3, 6) == {first: every, last: every}  # the third day is not read
    span = (Interval(T0 + DAY, T0 + 7 * DAY),)
    got = ranges(1, 2, 3, 6)
    assert got[again] == got[last] == span
    assert got[first] == (day(1), day(3))  # its own third day must not be seen


@pytest.mark.parametrize("runs", [1, 2, 5, 3_000])
def test_rows_come_back_in_the_order_of_their_position(runs: int) -> None:
    rows = 10_000
    chance = np.random.default_rng(runs)
    cuts = np.sort(chance.choice(np.arange(1, rows), runs - 1, replace=False)) if runs > 1 else np.array([], np.int64)
    pieces = np.split(np.arange(rows), cuts)
    pieces = [pieces[index] for index in chance.permutation(len(pieces))]
    position = np.concatenate(pieces)
    table = pa.table({"position": position, "value": pa.array(position * 3).cast(pa.string())})
    chunked = pa.concat_tables([table.slice(0, 4_321), table.slice(4_321)])
    assert in_order(chunked)["value"].to_pylist() == [str(number * 3) for number in range(rows)]


def test_no_rows_are_in_order() -> None:
    assert in_order(pa.table({"position": pa.array([], pa.int64())})).num_rows == 0
