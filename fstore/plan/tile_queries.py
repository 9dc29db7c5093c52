"""The queries that make tiles: from events, and from finer tiles.

Takes a :class:`~fstore.plan.steps.TileSet` and gives DuckDB SQL for a session in UTC. Says nothing of which tiles are needed
or where they are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import msgspec

from fstore.interval import MICROSECOND
from fstore.plan.sql import quoted
from fstore.plan.steps import EVENT_TIMESTAMP, TileSet, TileState, tile_dataset
from fstore.plan.tile_states import TILE_START, TILE_SUB, TILE_TO, centre_column

_TILE = "__tile"
"""The number of a tile: how many tiles of its length lie between 1970 and its beginning."""

_EARLY = 2**62
"""Microseconds before 1970 at which no event happens: counted from there, division rounds all instants alike."""


def coarse_tiles(tiles: TileSet) -> TileSet:
    """Return the second level of a set of tiles as a set of its own, the same as tiles of that length made from events."""
    if tiles.coarse is None:
        raise ValueError(f"tiles of {tiles.length} in {tiles.relation} have no second level")
    states = tuple(
        msgspec.structs.replace(state, dataset=tile_dataset(state.identity, tiles.coarse)) for state in tiles.states
    )
    return msgspec.structs.replace(tiles, length=tiles.coarse, coarse=None, states=states)


def make_tiles_sql(tiles: TileSet) -> str:
    """Return the query that makes tiles from relation ``events``.

    ``events`` has no null key or time, and all events of every tile that is wanted. Gives the key columns, ``tile_sub``
    where tiles are split, ``tile_start``, ``event_timestamp`` (the tile's end) and the states, a row for each tile with
    events.
    """
    keys = _keys(tiles)
    groups = [f"{quoted(key)} AS {column}" for column, key in keys.items()]
    where = ""
    if tiles.sub is not None:
        groups.append(f"{tiles.sub} AS {TILE_SUB}")
        where = f"\nWHERE {tiles.sub_known}"
    time = f"epoch_us({quoted(_event_time(tiles))})"
    events = f"(SELECT *, {_tile_of(time, tiles.length)} FROM events)"
    states = [f"{_cast(state.aggregate, state)} AS {quoted(state.name)}" for state in tiles.states]
    made = _grouped([*groups, _TILE], states, f"{events}{where}")
    doubtful = [state for state in tiles.states if state.inexact]
    if not doubtful:
        return _shown(tiles, f"(\n{made}\n)", [quoted(state.name) for state in tiles.states])
    return _made_again(tiles, made, events, doubtful)


def roll_up_sql(coarse: TileSet) -> str:
    """Return the query that makes the tiles of a set from relation ``tiles``, which has the same columns in finer tiles."""
    groups = [f"{quoted(key)} AS {column}" for column, key in _keys(coarse).items()]
    groups += [TILE_SUB] if coarse.sub is not None else []
    finer = f"(SELECT *, {_tile_of(f'epoch_us({TILE_START})', coarse.length)} FROM tiles)"
    centred = [state for state in coarse.states if state.centre]
    if centred:
        together = ", ".join([*map(quoted, coarse.keys), *([TILE_SUB] if coarse.sub is not None else []), _TILE])
        over = f"OVER (PARTITION BY {together})"
        centres = [f"any_value({state.centre}) {over} AS {centre_column(state.name)}" for state in centred]
        finer = f"(SELECT *, {', '.join(centres)} FROM {finer})"
    states = [f"{_cast(state.merge, state)} AS {quoted(state.name)}" for state in coarse.states]
    merged = _grouped([*groups, _TILE], states, finer)
    return _shown(coarse, f"(\n{merged}\n)", [quoted(state.name) for state in coarse.states])


def over_events(tiles: Sequence[TileSet], sql: str) -> str:
    """Return SQL over tiles as SQL over ``events``: the tiles are made within the query and not kept.

    All tiles of a step are made of the same source, so ``events`` has the columns of all of them.
    """
    made = ",\n".join(f"{item.relation} AS (\n{make_tiles_sql(item)}\n)" for item in tiles)
    return f"WITH\n{made}\nSELECT * FROM (\n{sql}\n)"


def _keys(tiles: TileSet) -> dict[str, str]:
    """Return the names that keys have within a query, so that none of the user's meets one of ours."""
    return {f"__k{index}": key for index, key in enumerate(tiles.keys)}


def _event_time(tiles: TileSet) -> str:
    return tiles.events.source.event_time or ""


def _tile_of(instant: str, length: timedelta) -> str:
    """Return the columns that say in which tile an instant lies."""
    micros = length // MICROSECOND
    before = _EARLY // micros
    number = f"({instant} + {before * micros}) // {micros} - {before}"
    return f"{number} AS {_TILE}, ({number} + 1) * {micros} AS {TILE_TO}"


def _cast(sql: str, state: TileState) -> str:
    return f"CAST({sql} AS {state.type})" if state.type else sql


def _grouped(groups: Sequence[str], states: Sequence[str], relation: str) -> str:
    numbers = ", ".join(str(number) for number in range(1, len(groups) + 1))
    return f"SELECT\n  {_list([*groups, *states])}\nFROM {relation}\nGROUP BY {numbers}"


def _shown(tiles: TileSet, relation: str, states: Sequence[str]) -> str:
    """Return the query that gives tiles as they are kept."""
    columns = [f"{column} AS {quoted(key)}" for column, key in _keys(tiles).items()]
    columns += [TILE_SUB] if tiles.sub is not None else []
    micros = tiles.length // MICROSECOND
    start, end = f"make_timestamptz({_TILE} * {micros})", f"make_timestamptz(({_TILE} + 1) * {micros})"
    columns += [f"{start} AS {TILE_START}", f"{end} AS {EVENT_TIMESTAMP}", *states]
    return f"SELECT\n  {_list(columns)}\nFROM {relation}"


def _made_again(tiles: TileSet, made: str, events: str, doubtful: Sequence[TileState]) -> str:
    """Return the query that reads the events of some tiles a second time, where the first state was not exact.

    They are few, mostly none. DuckDB expects a condition to drop no row but a semi-join to drop most, and only then keeps
    these tiles in memory to look events up in, instead of all events.
    """
    keys = _keys(tiles)
    named = [*keys, *([TILE_SUB] if tiles.sub is not None else []), _TILE]
    same = [f"first.{column} = {quoted(key)}" for column, key in keys.items()]
    same += [f"first.{TILE_SUB} = ({tiles.sub})"] if tiles.sub is not None else []
    same.append(f"first.{_TILE} = e.{_TILE}")
    wanted = " OR ".join(f"({state.inexact})" for state in doubtful)
    again = [f"{_cast(state.again, state)} AS {quoted(state.name)}" for state in doubtful]
    second = _grouped(
        [f"first.{column}" for column in named], again,
        f"{events} AS e\nJOIN (SELECT {', '.join([*named, *(quoted(s.name) for s in doubtful)])} FROM made "
        f"WHERE ({wanted}) IN (SELECT unnest([true]))) AS first\n  ON {' AND '.join(same)}",
    )  # fmt: skip
    states = [
        f"CASE WHEN {_of(state.inexact, state, 'made')} THEN again.{quoted(state.name)} "
        f"ELSE made.{quoted(state.name)} END AS {quoted(state.name)}"
        if state.inexact
        else quoted(state.name)
        for state in tiles.states
    ]
    shown = _shown(tiles, f"made\nLEFT JOIN again USING ({', '.join(named)})", states)
    return f"WITH made AS MATERIALIZED (\n{made}\n),\nagain AS (\n{second}\n)\n{shown}"


def _of(condition: str, state: TileState, relation: str) -> str:
    return condition.replace(quoted(state.name), f"{relation}.{quoted(state.name)}")


def _list(items: Sequence[str]) -> str:
    return ",\n  ".join(items)
