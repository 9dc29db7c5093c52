"""The published files that a join reads: chosen by the log, with the ranges that count in each, in one scan where possible.

Takes heads; gives a relation for the engine, and what is known of its size without opening a file. Reading through it names
what is lost: deleted, missing or damaged files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa

from fstore.arrow import arrow_schema
from fstore.engines.engine import ArrowRelation, FilesRelation, Query
from fstore.integrity import HeldFile, explain_failure, refuse_lost
from fstore.interval import Interval, from_micros, to_micros

if TYPE_CHECKING:
    from fstore.backends import Backends
    from fstore.registry.records import Head
    from fstore.retrieval.features import SelectedView
    from fstore.retrieval.history import Answer


Estimate: TypeAlias = Literal["at most", "at least"]
"""What an engine shall think of the number of rows, so that the side that ought to be hashed is the smaller one for it.

DuckDB takes the first file's rows for those of every file: with the smallest file first it sees too few, else too many.
"""


class PublishedRows(msgspec.Struct, frozen=True, kw_only=True):
    """The files that hold what a join reads of a view."""

    view: SelectedView
    held: tuple[HeldFile, ...]
    sequence: int | None

    @property
    def rows(self) -> int:
        """The rows in the files."""
        return sum(item.file.rows for item in self.held)

    @property
    def attempts(self) -> list[int]:
        """The attempts that wrote the files."""
        return [item.attempt for item in self.held]


def find_published(backends: Backends, view: SelectedView, heads: Sequence[Head], sequence: int | None) -> PublishedRows:
    """Return the published rows that heads hold. Raises SnapshotExpired and FileDamaged for files known to be lost."""
    held = backends.held_files(heads)
    lost = backends.registry.retention.lost({item.attempt for item in held})
    refuse_lost(view.step.view, held, lost, sequence)
    return PublishedRows(view=view, held=tuple(held), sequence=sequence)


def whole_files(published: PublishedRows, heads: Sequence[Head], answer: Answer) -> PublishedRows:
    """Return the same files, with one range for all that hold no row of a snapshot in use that another file answers for.

    Only for joins on the ends of snapshots in use: any other row of such a file finds no partner. One scan with one bound
    reads hundreds of files as fast as a few; a bound for each would be a join of its own.
    """
    used = answer.used
    if not len(used):
        return published
    ends = answer.grid.ends[used]
    owners = np.array([head.attempt for head in heads])[answer.grid.head[used]]
    every = Interval(from_micros(int(answer.grid.starts[used[0]])), from_micros(int(ends[-1])))

    def widened(item: HeldFile) -> HeldFile:
        first, last = np.searchsorted(ends, [to_micros(item.file.start), to_micros(item.file.end)], side="right")
        whole = bool((owners[first:last] == item.attempt).all())
        return msgspec.structs.replace(item, ranges=(every,)) if whole else item

    return msgspec.structs.replace(published, held=tuple(widened(item) for item in published.held))


def read_joined(
    backends: Backends, published: PublishedRows, sql: str, relations: Mapping[str, pa.Table], *, estimate: Estimate
) -> pa.Table:
    """Run a join over tables and the relation ``published``, and return its rows.

    Raises SnapshotExpired for files that were deleted while they were read, and FileDamaged.
    """
    tables = {name: ArrowRelation(table=table) for name, table in relations.items()}
    query = Query(sql=sql, relations={**tables, "published": _relation(backends, published, estimate)})
    with explaining_losses(backends, published):
        return backends.engine.read_table(query)


@contextlib.contextmanager
def explaining_losses(backends: Backends, published: PublishedRows) -> Iterator[None]:
    """Turn what fails because a file was deleted or damaged into SnapshotExpired or FileDamaged."""
    try:
        yield
    except Exception as error:
        view, held = published.view.step.view, published.held
        why = explain_failure(backends.registry, backends.offline, view, held, published.sequence)
        if why is None:
            raise
        raise why from error


def _relation(backends: Backends, published: PublishedRows, estimate: Estimate) -> FilesRelation:
    """Return the relation of published rows: keys, ``event_timestamp`` and the features asked for."""
    step, offline = published.view.step, backends.offline
    ordered = sorted(published.held, key=lambda item: item.file.rows, reverse=estimate == "at least")
    return FilesRelation(
        files=tuple((offline.full_path(item.file.path), item.ranges) for item in ordered),
        filesystem=offline.filesystem,
        schema=arrow_schema(step.columns({feature.name for feature in published.view.features})),
        ends_inclusive=step.kind == "snapshot",
        layouts=tuple(item.file.schema_id for item in ordered),
        directory=offline.full_path(backends.settings.project),
    )
