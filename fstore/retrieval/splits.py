"""Cutting labelled rows by time, so that no part is learned from what another is tested on.

A label that says what happens in the time after its instant is known only when that time is over: it *matures*. Takes tables
of rows with an instant each, and gives tables of some of their rows, in the same order; computes no features.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fstore.errors import ImmatureLabels, RetrievalError
from fstore.interval import MICROSECOND, format_instant, parse_duration, to_micros
from fstore.retrieval.entity_rows import time_column

_LONGEST = timedelta(days=365_243)
"""Of the durations after which labels mature: a thousand years."""


def split_rows(
    table: pa.Table, timestamp_column: str, cuts: Sequence[datetime], matures_after: str | timedelta | None
) -> list[pa.Table]:
    """Return the rows before the first cut, those from each cut to the next, and those from the last one on.

    Rows whose label matures only after the end of their part are in none: what they say happened within the next part.
    Raises RetrievalError when there is no cut, or they do not ascend.
    """
    instants = time_column(table, timestamp_column)
    edges = [to_micros(_instant(cut, "a cut")) for cut in cuts]
    if not edges or any(later <= earlier for earlier, later in pairwise(edges)):
        raise RetrievalError(
            f"cuts must be instants in ascending order, at least one; got {', '.join(map(str, cuts)) or 'none'}"
        )
    wait = 0 if matures_after is None else _micros(matures_after)
    parts = np.searchsorted(edges, instants, side="right")
    known = np.searchsorted(edges, instants + wait, side="left") <= parts
    known |= parts == len(edges)
    return [table.filter(pa.array(known & (parts == number))) for number in range(len(edges) + 1)]


def mature_rows(table: pa.Table, timestamp_column: str, matures_after: str | timedelta, at: datetime) -> pa.Table:
    """Return the rows whose label was known at an instant: ``t + matures_after <= at``."""
    return table.filter(pa.array(_mature(time_column(table, timestamp_column), matures_after, at)))


def refuse_immature(instants: npt.NDArray[np.int64], matures_after: str | timedelta, now: datetime) -> None:
    """Raise ImmatureLabels if a label is not known yet."""
    rows = int((~_mature(instants, matures_after, now)).sum())
    if rows:
        latest = now - timedelta(microseconds=_micros(matures_after))
        raise ImmatureLabels(rows, str(matures_after), format_instant(latest))


def _mature(instants: npt.NDArray[np.int64], matures_after: str | timedelta, at: datetime) -> npt.NDArray[np.bool_]:
    return instants + _micros(matures_after) <= to_micros(_instant(at, "at"))


def _micros(duration: str | timedelta) -> int:
    try:
        wait = parse_duration(duration) if isinstance(duration, str) else duration
    except ValueError as error:
        raise RetrievalError(f"matures_after: {error}") from None
    if not isinstance(wait, timedelta):
        raise RetrievalError(f'matures_after must be a duration, such as "30d" or a timedelta, got {duration!r}')
    if wait < timedelta():
        raise RetrievalError(f"matures_after must not be negative, got {duration!r}")
    if wait > _LONGEST:
        raise RetrievalError(f"matures_after must not be longer than a thousand years, got {duration!r}")
    return wait // MICROSECOND


def _instant(value: datetime, what: str) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise RetrievalError(f"{what} must be an instant with a time zone, got {value!r}: add tzinfo=UTC")
    return value
