"""Read training frames: resolve once what is asked for and at which moment of the log, then join tables of entity rows.

One reader makes one frame, at once or in parts, and its manifest from all parts together. The rules of a read (missing
history, labels that are not mature) hold for all rows: :meth:`FrameReader.check` takes part after part before any is joined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

from fstore.errors import ImmatureLabels, IncompleteHistory, RetrievalError
from fstore.interval import Interval, merge_intervals
from fstore.retrieval.checksums import FrameChecksums
from fstore.retrieval.entity_rows import key_columns, time_column
from fstore.retrieval.exact import check_exactly, join_exactly
from fstore.retrieval.features import SelectedView, Wanted, as_it_was, refuse_taken, select_features
from fstore.retrieval.on_demand import on_demand_program
from fstore.retrieval.point_in_time import check_view, join_view
from fstore.retrieval.splits import refuse_immature
from fstore.retrieval.training import Accuracy, Manifest, Missing
from fstore.retrieval.uneven_rows import without_marks
from fstore.retrieval.view_features import EntityTimes, ViewFeatures, ViewReport, merged_reports

if TYPE_CHECKING:
    from fstore.backends import Backends


class FrameRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for, as :meth:`~fstore.Client.get_historical_features` says."""

    features: Sequence[Wanted] | None = None
    service: str | None = None
    timestamp_column: str = "event_timestamp"
    missing: Missing = "error"
    as_of: int | datetime | None = None
    full_names: bool = False
    accuracy: Accuracy = "snapshot"
    matures_after: str | timedelta | None = None


class FrameReader:
    """Reads one frame. ``strict`` joins refuse missing history; where all rows were checked before, they need not."""

    def __init__(self, backends: Backends, clock: Callable[[], datetime], request: FrameRequest) -> None:
        """Resolve a request. Raises UnknownFeature, FeatureNameClash and RetrievalError."""
        registry = backends.registry
        # before the views are looked up: later flips are undone
        then = None if request.as_of is None else log_sequence(backends, request.as_of)
        selection = select_features(
            registry, features=request.features, service=request.service, full_names=request.full_names
        )
        self._state, self._now = registry.state(), clock()
        self.sequence = self._state.sequence if then is None else then
        if then is not None:
            selection = as_it_was(registry, selection, then)
        self._backends, self._request, self.selection = backends, request, selection
        self._on_demand = on_demand_program(backends, selection)
        requested = dict.fromkeys(column.name for column in self._on_demand.request)
        self.spine_columns = tuple(dict.fromkeys([*selection.keys, *requested, request.timestamp_column]))
        self._checksums = FrameChecksums(self.spine_columns, selection.columns)
        self._rows = 0
        self._reports: list[list[ViewReport]] = []
        self._ends: list[set[int]] = [set() for _ in selection.views]

    def refuse_names(self, names: Sequence[str]) -> None:
        """Raise FeatureNameClash when entity rows have a column that a feature would have."""
        refuse_taken(self.selection, names)

    def check(self, parts: Iterable[pa.Table]) -> None:
        """Raise what a read of all these rows raises for missing history or immature labels, counted over all of them."""
        immature: list[ImmatureLabels] = []
        missing: dict[int, list[IncompleteHistory]] = {}
        for part in parts:
            instants = time_column(part, self._request.timestamp_column)
            if self._request.matures_after is not None:
                try:
                    refuse_immature(instants, self._request.matures_after, self._now)
                except ImmatureLabels as error:
                    immature.append(error)
            self._on_demand.requested(part)
            for index, view in enumerate(self.selection.views):
                rows = EntityTimes(keys=key_columns(part, view.keys, view.label), instants=instants)
                if self._request.missing == "error":
                    try:
                        self._check_view(view, rows)
                    except IncompleteHistory as error:
                        missing.setdefault(index, []).append(error)
        if immature:
            raise ImmatureLabels(sum(error.rows for error in immature), immature[0].matures_after, immature[0].latest)
        for index, found in missing.items():
            ranges = merge_intervals(Interval(start, end) for error in found for start, end in error.ranges)
            spans = [(span.start, span.end) for span in ranges]
            now = self._now if self._exactly(self.selection.views[index]) else None
            raise IncompleteHistory(found[0].view, spans, sum(error.rows for error in found), now=now)

    def join(self, rows: pa.Table, *, strict: bool) -> pa.Table:
        """Return entity rows with the features behind their columns, and take them into the manifest.

        Raises EntityColumnError, ImmatureLabels, SnapshotExpired, FileDamaged and, if ``strict``, IncompleteHistory.
        """
        instants = time_column(rows, self._request.timestamp_column)
        if self._request.matures_after is not None:  # counted over all rows before, where these are not all
            refuse_immature(instants, self._request.matures_after, self._now)
        selection = self.selection
        keys = [key_columns(rows, view.keys, view.label) for view in selection.views]

        def join(view: SelectedView, own: Sequence[pa.ChunkedArray]) -> ViewFeatures:
            times = EntityTimes(keys=own, instants=instants)
            if self._exactly(view):
                return join_exactly(self._backends, view, times, now=self._now, strict=strict)
            return join_view(self._backends, view, times, sequence=self.sequence, strict=strict)

        joined = _side_by_side(join, selection.views, keys)
        values = {name: part.table[name] for part in joined for name in part.table.column_names}
        values |= self._on_demand.evaluate(rows, values)
        table = without_marks(rows)
        for reference, column in zip(selection.references, selection.columns, strict=True):
            table = table.append_column(column, values[reference])
        self._checksums.add(table)
        self._rows += table.num_rows
        self._reports.append([part.report for part in joined])
        for ends, part in zip(self._ends, joined, strict=True):
            ends.update(part.snapshots)
        return table

    def manifest(self) -> Manifest:
        """Return the manifest of all rows joined so far."""
        request, selection = self._request, self.selection
        reports = [
            merged_reports(own, len(ends)) for own, ends in zip(zip(*self._reports, strict=True), self._ends, strict=True)
        ]
        return Manifest(
            project=self._backends.settings.project,
            registry=self._state.incarnation,
            registry_version=self._state.version,
            sequence=self.sequence,
            created_at=self._now,
            features=selection.references,
            columns=selection.columns,
            timestamp_column=request.timestamp_column,
            missing=request.missing,
            full_names=request.full_names,
            accuracy=request.accuracy,
            service=request.service,
            rows=self._rows,
            spine_checksum=self._checksums.spine,
            views=tuple(reports),
            on_demand={item.definition.name: item.definition.fingerprint for item in selection.on_demand},
            content_checksum=self._checksums.content,
        )

    def _exactly(self, view: SelectedView) -> bool:
        """Whether windows end at each row's instant; the rows of event views have instants of their own."""
        return self._request.accuracy == "exact" and view.step.kind == "snapshot"

    def _check_view(self, view: SelectedView, rows: EntityTimes) -> None:
        if not self._exactly(view):
            return check_view(self._backends, view, rows, sequence=self.sequence)
        return check_exactly(view, rows, now=self._now)


def log_sequence(backends: Backends, as_of: int | datetime) -> int:
    """Return the publication up to which a read as of a moment sees the log, so that all views are read at that one."""
    if not isinstance(as_of, datetime):
        if type(as_of) is not int or as_of < 0:
            raise RetrievalError(
                f"as_of must be a sequence of the publication log, from 0 up, or an instant with a time zone, got {as_of!r}"
            )
        return min(as_of, backends.registry.state().sequence)
    if as_of.tzinfo is None:
        raise RetrievalError(f"as_of must be an instant with a time zone, got {as_of!r}: add tzinfo=UTC")
    return backends.registry.retention.sequence_at(as_of)


def _side_by_side(
    join: Callable[[SelectedView, Sequence[pa.ChunkedArray]], ViewFeatures],
    views: Sequence[SelectedView],
    keys: Sequence[Sequence[pa.ChunkedArray]],
) -> list[ViewFeatures]:
    """Join views two at a time: while the engine gathers the rows of one, it scans for the other."""
    if len(views) < 2:
        return [join(view, own) for view, own in zip(views, keys, strict=True)]
    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(join, views, keys))
