"""Errors of reading."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from fstore.errors.root import FStoreError


class RetrievalError(FStoreError):
    """A read that cannot be answered as asked."""

    code = "retrieval_error"


class UnknownFeature(RetrievalError):
    """No such view, feature or service in the registry."""

    code = "unknown_feature"


class EntityColumnError(RetrievalError):
    """A join key or the timestamp is missing from the entity rows or has the wrong type."""

    code = "entity_column_error"


class FeatureNameClash(RetrievalError):
    """Two of the features asked for share their short name."""

    code = "feature_name_clash"


class IncompleteHistory(RetrievalError):
    """Intervals that the entity rows need lie within the view's life but were never published.

    ``now`` is given where nothing could be published: the ranges are of a time that has not come yet.
    """

    code = "incomplete_history"

    def __init__(
        self, view: str, ranges: Sequence[tuple[datetime, datetime]], rows: int, *, now: datetime | None = None
    ) -> None:
        self.view, self.ranges, self.rows = view, tuple(ranges), rows
        if now is not None:
            super().__init__(
                f"{rows} entity row(s) ask view {view!r} for instants after {now:%Y-%m-%dT%H:%M:%SZ}, which is now: not all "
                'events can be there. Leave these rows out, or read what there is with missing="allow".'
            )
            return
        spans = ", ".join(f"{start:%Y-%m-%dT%H:%MZ} to {end:%Y-%m-%dT%H:%MZ}" for start, end in self.ranges[:5])
        more = f" and {len(self.ranges) - 5} more" if len(self.ranges) > 5 else ""
        first, last = self.ranges[0][0], self.ranges[-1][1]
        super().__init__(
            f"view {view!r} was never published for {spans}{more}, which {rows} entity row(s) need. Compute it with "
            f"`fstore run --select {view} --start {first:%Y-%m-%dT%H:%M} --end {last:%Y-%m-%dT%H:%M}`, or read what there "
            'is with missing="allow".'
        )


class ImmatureLabels(RetrievalError):
    """Labels that say what happens in a time that is not over yet."""

    code = "immature_labels"

    def __init__(self, rows: int, matures_after: str, latest: str) -> None:
        self.rows, self.matures_after, self.latest = rows, matures_after, latest
        super().__init__(
            f"{rows} entity row(s) have labels that are not known yet: they mature {matures_after} after their instant, so "
            f"only those up to {latest} are. Leave the later ones out, or read them without matures_after and take "
            "frame.mature(…)."
        )


class SnapshotExpired(RetrievalError):
    """What a read as of an earlier moment needs was superseded longer ago than the horizon, and is deleted.

    ``since`` is when it was superseded, ``as_of`` the sequence of the read.
    """

    code = "snapshot_expired"

    def __init__(self, view: str, as_of: int | None, since: datetime | None) -> None:
        self.view, self.as_of, self.since = view, as_of, since
        then = "" if as_of is None else f" as of sequence {as_of}"
        when = "" if since is None else f": it was superseded at {since:%Y-%m-%dT%H:%MZ}, longer ago than the horizon"
        super().__init__(
            f"view {view!r}{then} cannot be read any more{when}, so its files are deleted. Read a later moment; to keep one "
            "next time, pin it (`fstore pin add NAME --until …`), or raise the horizon (setting `retention`)."
        )
