"""Training frames: entity rows with the features they had at their time, and the manifest that rebuilds them.

The frame is an Arrow table in memory, one row per entity row in the given order. Its manifest names the definitions, the
position in the publication log and a checksum of the entity rows: reading again with the same rows, features and ``as_of``
gives equal content.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from fstore.decoding import decode_json
from fstore.definitions.references import ON_DEMAND
from fstore.errors import RetrievalError, SettingsError
from fstore.interval import format_duration, format_instant
from fstore.retrieval.point_in_time import ViewReport
from fstore.retrieval.splits import mature_rows, split_rows

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

Missing = Literal["error", "allow"]
Accuracy = Literal["snapshot", "exact"]
"""Where windows end: at the end of the newest published interval, or at each row's own instant less the lag."""

MANIFEST_KEY = b"fstore.manifest"
"""Where a frame's manifest is kept in the metadata of Arrow tables and Parquet files."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a training frame was made of.

    ``registry`` identifies the registry, ``registry_version`` the state of its definitions, ``sequence`` the newest
    publication that was visible. ``spine_checksum`` covers names, types and values of the keys, the request values and the
    time. ``on_demand`` has the fingerprints of on-demand features by name; ``content_checksum``
    covers the values of keys, request values, time and features.
    """

    project: str
    registry: str
    registry_version: int
    sequence: int
    created_at: datetime
    features: tuple[str, ...]
    columns: tuple[str, ...]
    timestamp_column: str
    missing: Missing
    full_names: bool
    rows: int
    spine_checksum: str
    views: tuple[ViewReport, ...]
    on_demand: dict[str, str] = {}
    content_checksum: str = ""
    accuracy: Accuracy = "snapshot"
    service: str | None = None

    @property
    def fallback_rows(self) -> dict[str, int]:
        """Per view (and per alias of it), the rows whose own interval is blocked or missing, and that read an older one."""
        return {report.alias or report.view: report.fallback_rows for report in self.views}

    @property
    def definitions(self) -> dict[str, str]:
        """The fingerprint of each view, and of each on-demand feature under its full name."""
        computed = {f"{ON_DEMAND}:{name}": fingerprint for name, fingerprint in self.on_demand.items()}
        return {report.view: report.fingerprint for report in self.views} | computed

    def to_json(self) -> str:
        """Return the manifest as JSON."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Return the manifest that :meth:`to_json` wrote. Raises RetrievalError for any other text."""
        try:
            return decode_json(text, cls)
        except msgspec.DecodeError as error:
            raise RetrievalError(f"the text is no manifest of a training frame: {error}") from None


def read_manifest(path: str | Path) -> Manifest:
    """Return the manifest of a frame's Parquet file, or of a JSON file. Raises RetrievalError."""
    file = Path(path)
    try:
        if file.suffix == ".parquet":
            metadata = pq.read_metadata(file).metadata or {}
            return Manifest.from_json(metadata[MANIFEST_KEY])
        return Manifest.from_json(file.read_bytes())
    except (OSError, KeyError, pa.ArrowInvalid, RetrievalError) as error:
        raise RetrievalError(f"{file} holds no manifest of a training frame: {error}") from None


class TrainingFrame:
    """Entity rows and features. The given columns come first, unchanged, then the features in the order asked for."""

    def __init__(self, table: pa.Table, manifest: Manifest) -> None:
        self._table, self.manifest = table, manifest

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __repr__(self) -> str:
        return f"<TrainingFrame of {len(self)} rows: {', '.join(self._table.column_names)}>"

    def to_arrow(self) -> pa.Table:
        """Return the frame as an Arrow table that carries the manifest in its metadata."""
        return self._table.replace_schema_metadata({MANIFEST_KEY: self.manifest.to_json().encode()})

    def to_pandas(self) -> pd.DataFrame:
        """Return the frame as a pandas DataFrame with a new index from 0; maps are dicts in the order of their keys."""
        frame: pd.DataFrame = self._table.to_pandas(maps_as_pydicts="strict")
        return frame

    def to_polars(self) -> pl.DataFrame:
        """Return the frame as a polars DataFrame. Raises SettingsError when polars is not installed."""
        try:
            import polars  # noqa: ICN001, PLC0415  (an optional dependency)
        except ImportError:
            raise SettingsError("polars is not installed: pip install 'fstore[polars]'") from None
        frame = polars.from_arrow(self._table)
        assert isinstance(frame, polars.DataFrame)
        return frame

    def mature(self, matures_after: str | timedelta, at: datetime | None = None) -> TrainingFrame:
        """Return the rows whose label was known at an instant (default: when the frame was read).

        A label at ``t`` says what happens until ``t + matures_after``, a duration such as ``"30d"``, and is known then. The
        manifest stays that of the whole frame.
        """
        at = self.manifest.created_at if at is None else at
        return TrainingFrame(mature_rows(self._table, self.manifest.timestamp_column, matures_after, at), self.manifest)

    def split_by_time(self, *cuts: datetime, matures_after: str | timedelta | None = None) -> tuple[TrainingFrame, ...]:
        """Cut the frame at instants, for training, validation and test: one frame more than there are cuts.

        A row at a cut belongs to the later part. Rows whose label matures only after the end of their part are left out:
        what they say happened within the next part. The manifests stay that of the whole frame. Raises RetrievalError.
        """
        parts = split_rows(self._table, self.manifest.timestamp_column, cuts, matures_after)
        return tuple(TrainingFrame(part, self.manifest) for part in parts)

    def to_parquet(self, path: str | Path) -> None:
        """Write the frame and its manifest as one Parquet file, which appears whole or not at all."""
        with appearing_whole(path) as partial:
            pq.write_table(self.to_arrow(), partial)

    def explain(self) -> str:
        """Describe in text where the values come from, view by view."""
        return explain_manifest(self.manifest)


@contextlib.contextmanager
def appearing_whole(path: str | Path) -> Iterator[Path]:
    """Give the path of a new file that takes the place of another one's once the block has ended well, and else is gone."""
    target = Path(path)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def explain_manifest(manifest: Manifest) -> str:
    """Describe in text where a frame's values come from, view by view."""
    head = (
        f"{_counted(manifest.rows, 'row')}, {_counted(len(manifest.features), 'feature')}, project {manifest.project!r} "
        f"at sequence {manifest.sequence}, registry version {manifest.registry_version}, read "
        f"{format_instant(manifest.created_at)}"
    )
    return "\n".join([head, *(line for report in manifest.views for line in _explain_view(report))])


def _explain_view(report: ViewReport) -> Sequence[str]:
    plan = report.plan
    join = (
        "windows at each row's own instant" if report.kind == "exact" else "nothing to join" if plan is None else plan.join
    )
    ttl = "no ttl" if report.ttl_seconds is None else f"ttl {format_duration(timedelta(seconds=report.ttl_seconds))}"
    written = "" if report.kind == "exact" else f", written by {_counted(len(report.attempts), 'attempt')}"
    counts = {
        "a row": report.value_rows,
        "the empty row": report.empty_rows,
        "null, older than ttl": report.expired_rows,
        "null, nothing known yet": report.absent_rows,
        "null, key is null": report.null_key_rows,
    }
    found = "; ".join(f"{count} {what}" for what, count in counts.items() if count)
    name = report.view if report.alias is None else f"{report.view} as {report.alias}"
    lines = [
        f"  {name} ({report.kind}, {report.fingerprint}, generation {report.generation}): {join}, {ttl}, lag "
        f"{format_duration(timedelta(seconds=report.lag_seconds))}{written}",
        f"    {found or 'no rows'}",
    ]
    if plan is not None:
        used = f"{report.intervals} of " if report.kind == "snapshot" else ""
        read = (
            f"reads {_counted(plan.files, 'file')} with {_counted(plan.rows, 'row')} for {used}"
            f"{_counted(plan.published_intervals, 'published interval')}"
        )
        lines.insert(1, f"    {read}; of the features {', '.join(plan.columns)}")
    if report.fallback_rows:
        rows = _counted(report.fallback_rows, "row")
        lines.append(f"    {rows} read an older interval: theirs is blocked or was not published")
    return lines


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
