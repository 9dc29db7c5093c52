"""The files of tiles: written by an attempt and published at once, and read back state by state.

Takes queries of one attempt at tiles and leaves its files published; takes heads of the ledger and gives the relation that
reads, of every state, exactly the files and the time that its heads hold. Decides nothing about what is needed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from fstore.backends import Backends
from fstore.engines.engine import Query, TilePart, TilesRelation
from fstore.errors import FStoreError
from fstore.failpoints import failpoint
from fstore.interval import Interval, merge_intervals
from fstore.plan.steps import EVENT_TIMESTAMP, TileSet, TileState, tile_dataset
from fstore.plan.tile_states import TILE_START, TILE_SUB
from fstore.plan.tile_step import TILES_GENERATION
from fstore.registry.records import TileAttempt
from fstore.registry.tile_ledger import TileHeads
from fstore.runtime.incarnation import refuse_used_directory
from fstore.runtime.tile_ranges import clip_ranges
from fstore.stores.checksums import file_checksum
from fstore.types import DataFile

INSTANT = "TIMESTAMP WITH TIME ZONE"


class TileFiles:
    """Writes and reads the files of tiles of one project."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    def publish(self, attempt: TileAttempt, queries: Iterable[tuple[Interval, Query]]) -> int:
        """Run the query of each range into a file, publish them all, and return how many rows.

        A failed attempt is recorded with its error. Where others published the same meanwhile, the files are deleted.
        """
        offline, ledger = self._backends.offline, self._backends.registry.ledger
        directory = offline.attempt_directory(attempt.group, TILES_GENERATION, attempt.id)
        failpoint("tiles.begun")
        try:
            refuse_used_directory(self._backends, directory, attempt.id)
            offline.prepare_directory(directory)
            files = [self._write(directory, number, range_, query) for number, (range_, query) in enumerate(queries)]
            failpoint("tiles.written")
            published = ledger.tiles.publish(attempt.id, files)
            failpoint("tiles.published")
        except Exception as error:
            ledger.fail(attempt.id, str(error) if isinstance(error, FStoreError) else f"{type(error).__name__}: {error}")
            raise
        if not published:
            offline.delete_directory(directory)
        return sum(file.rows for file in files)

    def expect(self, heads: TileHeads, wanted: Mapping[str, Sequence[Interval]]) -> None:
        """Tell the engine where the files lie that hold the ranges wanted of each data set."""
        held = {
            head.attempt
            for dataset, ranges in wanted.items()
            for head in heads.heads.get(dataset, ())
            if clip_ranges([Interval(head.start, head.end)], ranges)
        }
        offline = self._backends.offline
        paths = [offline.full_path(file.path) for attempt in held for file in heads.files.get(attempt, ())]
        self._backends.engine.expect({path.rpartition("/")[0] for path in paths}, offline.filesystem)

    def relation(
        self, tiles: TileSet, states: Sequence[TileState], heads: TileHeads, wanted: Mapping[str, Sequence[Interval]]
    ) -> TilesRelation:
        """Return the relation of some states of both levels of a set, cut to the ranges wanted of each data set."""
        held: dict[tuple[str, Interval], dict[str, list[Interval]]] = {}
        names = {state.dataset: state.name for state in states}
        if tiles.coarse is not None:
            names |= {tile_dataset(state.identity, tiles.coarse): state.name for state in states}
        for dataset, name in names.items():
            ranges = wanted.get(dataset, ())
            for head in heads.heads.get(dataset, ()):
                spans = clip_ranges([Interval(head.start, head.end)], ranges)
                for file in heads.files.get(head.attempt, ()) if spans else ():
                    whole = Interval(file.start, file.end)
                    if parts := clip_ranges(spans, [whole]):
                        held.setdefault((file.path, whole), {}).setdefault(name, []).extend(parts)
        return TilesRelation(
            parts=self._parts(held),
            filesystem=self._backends.offline.filesystem,
            columns=(
                *((key, "") for key in tiles.keys),
                *(((TILE_SUB, ""),) if tiles.sub is not None else ()),
                (TILE_START, INSTANT),
                (EVENT_TIMESTAMP, INSTANT),
                *((state.name, state.type) for state in tiles.states),
            ),
            shared=(*tiles.keys, *((TILE_SUB,) if tiles.sub is not None else ()), TILE_START, EVENT_TIMESTAMP),
        )

    def _parts(self, held: Mapping[tuple[str, Interval], Mapping[str, Sequence[Interval]]]) -> tuple[TilePart, ...]:
        """Group files by the states that are read of them; states of a file with the same ranges are read together."""
        parts: dict[tuple[str, ...], list[tuple[str, tuple[Interval, ...] | None]]] = defaultdict(list)
        for (path, whole), states in held.items():
            by_ranges: dict[tuple[Interval, ...], list[str]] = defaultdict(list)
            for name, spans in states.items():
                by_ranges[tuple(merge_intervals(spans))].append(name)
            for ranges, names in by_ranges.items():
                counted = None if ranges == (whole,) else ranges
                parts[tuple(sorted(names))].append((self._backends.offline.full_path(path), counted))
        return tuple(TilePart(files=tuple(files), states=names) for names, files in parts.items())

    def _write(self, directory: str, number: int, range_: Interval, query: Query) -> DataFile:
        path = f"{directory}/tiles-{number:05d}.parquet"
        with self._backends.offline.writing(path) as local:
            written = self._backends.engine.write_raw(query, local, sort_by=[EVENT_TIMESTAMP])
            checksum = file_checksum(local)
        return DataFile(
            path=path,
            rows=written.rows,
            bytes=written.bytes,
            start=range_.start,
            end=range_.end,
            schema_id="tiles",
            checksum=checksum,
        )
