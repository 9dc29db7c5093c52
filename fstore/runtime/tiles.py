"""Tiles at run time: make those that intervals need and nobody has made, and give all of them as relations.

Takes a step's sets of tiles and the intervals of a chunk; looks up in the ledger which states exist for which stretches of
time and are not older than their source, makes the others (from the events of just these stretches, or by merging finer
tiles), publishes them, and gives the relations that the step's query reads, with the pins that say what was read. So a daily
run reads one day of events, and a window over states that exist reads none.

Every attempt at tiles is published in one transaction and by itself: a run that is killed leaves whole tiles or nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from fstore.backends import Backends
from fstore.engines.engine import EventRelation, Query, Relation
from fstore.errors import InputsChanged
from fstore.interval import Interval, aligned_out, merge_intervals
from fstore.plan.fingerprint import source_key
from fstore.plan.steps import TileSet, TileState
from fstore.plan.tile_queries import coarse_tiles, make_tiles_sql, roll_up_sql
from fstore.plan.tile_step import TileStep
from fstore.registry.records import Pin, SourceRead, TileHead
from fstore.registry.source_changes import SourceChange
from fstore.registry.tile_ledger import TileHeads
from fstore.runtime.chunks import CHUNK_ROWS, FIRST_SHARE
from fstore.runtime.tile_files import TileFiles
from fstore.runtime.tile_ranges import (
    Needed,
    blocks_within,
    clip_ranges,
    cut_ranges,
    needed_tiles,
    subtract_ranges,
)

MAX_ROUNDS = 3
"""How often tiles are looked up again that somebody else replaced in the meantime."""


PIECE_TILES = 1000
"""So many tiles per key are made at once, whatever they hold: some years of days."""


class TilesRead(msgspec.Struct, frozen=True, kw_only=True):
    """The tiles that a chunk reads: relations by name, pins, and what making the missing ones took.

    ``ignored_rows`` are the source's rows without a key where events were read, ``event_ranges``.
    """

    relations: dict[str, Relation]
    pins: tuple[Pin, ...]
    event_ranges: tuple[Interval, ...]
    ignored_rows: int
    made_rows: int


NO_TILES = TilesRead(relations={}, pins=(), event_ranges=(), ignored_rows=0, made_rows=0)
"""What a step reads that has no aggregates."""


class _Work(NamedTuple):
    """Tiles to make: a set of one length, whether by merging finer tiles of which length, and the ranges."""

    tiles: TileSet
    finer: TileSet | None
    ranges: tuple[Interval, ...]


class TileReader:
    """Makes and reads the tiles of one run at a view.

    ``known`` is the newest change of each source that was known before anything was read; ``among`` are all intervals of the
    run.
    """

    def __init__(
        self, backends: Backends, *, project: str, run_id: str, known: Mapping[str, int], among: Sequence[Interval] = ()
    ) -> None:
        self._backends, self._project, self._run_id = backends, project, run_id
        self._known, self._among = known, tuple(among)
        self._ledger = backends.registry.ledger.tiles
        self._files = TileFiles(backends)
        self._changes: dict[str, list[SourceChange]] = {}

    def read(self, sets: Sequence[TileSet], intervals: Sequence[Interval], first_event: datetime | None) -> TilesRead:
        """Make what is missing and return all tiles of the intervals. Raises what the engine and the stores raise."""
        needs = [(tiles, needed_tiles(tiles, intervals, first_event, among=self._among)) for tiles in sets]
        made_rows, ranges = 0, list[Interval]()
        for _ in range(MAX_ROUNDS):
            heads = self._ledger.heads(_wanted(needs, merging=True))
            works = [work for tiles, needed in needs for work in self._missing(tiles, needed, heads)]
            if not works:
                return self._relations(needs, heads, sets, ranges, made_rows)
            self._files.expect(heads, _wanted(needs))
            for work in works:
                made_rows += self._make(work)
                ranges.extend(work.ranges if work.finer is None else ())
        raise InputsChanged("tiles were made again and again by others while they were read; running it again reads theirs")

    # -- what is missing ----------------------------------------------------------------------------------------------

    def _missing(self, tiles: TileSet, needed: Needed, heads: TileHeads) -> list[_Work]:
        """Return what is to be made of a set, in the order in which it can be."""
        fine: dict[tuple[Interval, ...], list[TileState]] = defaultdict(list)
        direct: dict[tuple[Interval, ...], list[TileState]] = defaultdict(list)
        merged: dict[tuple[Interval, ...], list[TileState]] = defaultdict(list)
        coarse = coarse_tiles(tiles) if tiles.coarse is not None else None
        for position, state in enumerate(tiles.states):
            present = self._present(tiles, state, heads)
            lacking = subtract_ranges(needed.fine, present)
            if coarse is not None:
                second = coarse.states[position]
                blocks = subtract_ranges(needed.coarse, self._present(coarse, second, heads))
                whole = blocks_within(blocks, present, coarse.length)
                others = subtract_ranges(blocks, whole)
                far = clip_ranges(others, [Interval(min(b.start for b in others), needed.far)]) if others else []
                far = blocks_within(others, far, coarse.length)
                near = subtract_ranges(others, far)
                lacking = merge_intervals([*lacking, *subtract_ranges(near, present)])
                direct[tuple(far)].append(second)
                merged[tuple(merge_intervals([*whole, *near]))].append(second)
            fine[tuple(lacking)].append(state)
        works = [_Work(_cut(tiles, states), None, ranges) for ranges, states in fine.items() if ranges]
        if coarse is not None:
            works += [_Work(_cut(coarse, states), None, ranges) for ranges, states in direct.items() if ranges]
            works += [_Work(_cut(coarse, states), tiles, ranges) for ranges, states in merged.items() if ranges]
        return works

    def _present(self, tiles: TileSet, state: TileState, heads: TileHeads) -> list[Interval]:
        """Return where a state exists and its source has not changed since it was made."""
        held: list[Interval] = []
        for head in heads.heads.get(state.dataset, ()):
            span = Interval(head.start, head.end)
            stale = self._stale(tiles, head, span)
            held.extend(subtract_ranges([span], stale) if stale else [span])
        return held

    def _stale(self, tiles: TileSet, head: TileHead, span: Interval) -> list[Interval]:
        source = source_key(tiles.events.source)
        known, newest = head.known.get(source, 0), self._known.get(source, 0)
        if newest <= known:
            return []
        if source not in self._changes:
            self._changes[source] = self._backends.registry.sources.since(source)
        stale: list[Interval] = []
        for change in self._changes[source]:
            start, end = change.span.start or span.start, change.span.end or span.end
            if known < change.id <= newest and start < span.end and end > span.start:
                stale.append(aligned_out(Interval(max(start, span.start), min(end, span.end)), tiles.length))
        return stale

    # -- making -------------------------------------------------------------------------------------------------------

    def _make(self, work: _Work) -> int:
        """Make tiles and publish them; return how many rows.

        Long stretches are made in pieces that are published one by one: a small one, then others by the rows that it had.
        """
        length = work.tiles.length
        left, tiles, rows = list(work.ranges), sum((r.end - r.start) // length for r in work.ranges), 0
        take = tiles if tiles <= PIECE_TILES else max(1, tiles // FIRST_SHARE)
        while left:
            piece, left = cut_ranges(left, take * length)
            made = self._make_piece(work._replace(ranges=tuple(piece)))
            rows += made
            take = max(1, min(tiles, take * CHUNK_ROWS // max(1, made)))
        return rows

    def _make_piece(self, work: _Work) -> int:
        tiles = work.tiles
        sql = make_tiles_sql(tiles) if work.finer is None else roll_up_sql(tiles)
        step = TileStep(project=self._project, tiles=tiles, sql=sql, finer=None if work.finer is None else work.finer.length)
        source = source_key(tiles.events.source)
        read = SourceRead(
            source=source, change=self._known.get(source, 0), start=work.ranges[0].start, end=work.ranges[-1].end
        )
        attempt = self._ledger.begin(step, tiles.group, work.ranges, self._run_id, [read])
        queries = [(range_, Query(sql=sql, relations=self._inputs(work, range_))) for range_ in work.ranges]
        return self._files.publish(attempt, queries)

    def _inputs(self, work: _Work, range_: Interval) -> dict[str, Relation]:
        tiles = work.tiles
        if work.finer is None:
            return {"events": _events(tiles, range_)}
        names = {state.name for state in tiles.states}
        finer = [state for state in work.finer.states if state.name in names]
        heads = self._ledger.heads({state.dataset: [range_] for state in finer})
        return {"tiles": self._files.relation(work.finer, finer, heads, {state.dataset: [range_] for state in finer})}

    # -- reading ------------------------------------------------------------------------------------------------------

    def _relations(
        self, needs: Sequence[tuple[TileSet, Needed]], heads: TileHeads, sets: Sequence[TileSet],
        event_ranges: Iterable[Interval], made_rows: int,
    ) -> TilesRead:  # fmt: skip
        relations: dict[str, Relation] = {}
        for tiles, needed in needs:
            used = _wanted([(tiles, needed)])
            relations[tiles.relation] = self._files.relation(tiles, tiles.states, heads, used)
        pins = [
            Pin(view=dataset, start=range_.start, end=range_.end, sequence=heads.sequence)
            for dataset, ranges in sorted(_wanted(needs).items())
            for range_ in ranges
        ]
        read = merge_intervals(event_ranges)
        ignored = sum(self._backends.engine.count_ignored(_events(sets[0], range_)) for range_ in read)
        return TilesRead(
            relations=relations, pins=tuple(pins), event_ranges=tuple(read), ignored_rows=ignored, made_rows=made_rows
        )


def _wanted(needs: Sequence[tuple[TileSet, Needed]], *, merging: bool = False) -> dict[str, list[Interval]]:
    """Return which ranges of which data sets are read; with ``merging`` also fine tiles that coarse ones may be made of."""
    wanted: dict[str, list[Interval]] = {}
    for tiles, needed in needs:
        fine = [*needed.fine, *(needed.coarse if merging else ())]
        for state in tiles.states:
            wanted[state.dataset] = merge_intervals([*wanted.get(state.dataset, ()), *fine])
        if tiles.coarse is not None:
            for state in coarse_tiles(tiles).states:
                wanted[state.dataset] = merge_intervals([*wanted.get(state.dataset, ()), *needed.coarse])
    return wanted


def _cut(tiles: TileSet, states: Sequence[TileState]) -> TileSet:
    """Return a set of only some states, and of the source only the columns that they read."""
    columns = dict.fromkeys([*tiles.keys, *tiles.sub_columns, *(name for state in states for name in state.columns)])
    events = msgspec.structs.replace(tiles.events, columns=tuple(columns))
    return msgspec.structs.replace(tiles, states=tuple(states), events=events)


def _events(tiles: TileSet, range_: Interval) -> EventRelation:
    item = tiles.events
    return EventRelation(source=item.source, start=range_.start, end=range_.end, columns=item.columns, keys=tiles.keys)
