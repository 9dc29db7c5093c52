"""What a view of aggregates asks for, with names checked and SQL rendered: the input of :mod:`fstore.plan.windows`.

Plain values; compiles nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import msgspec

from fstore.definitions.aggregation import Function, Scalar


class WindowFeature(msgspec.Struct, frozen=True, kw_only=True):
    """One aggregate over one window.

    ``argument`` (None for ``count`` of all events), ``where``, ``by`` and ``order_by`` are SQL scalars over the source's
    columns, of which they read ``columns``. ``window`` is None for a lifetime; ``offset`` moves it back. ``fill`` replaces
    null. ``type`` is that of the feature and ``argument_type`` that of the argument, None where the source's schema is
    unknown: a value then has whatever type DuckDB gives it. The rest is as in
    :class:`~fstore.definitions.aggregation.Aggregation`.
    """

    name: str
    function: Function
    argument: str | None
    window: timedelta | None
    argument_type: str | None = None
    offset: timedelta = timedelta()
    where: str | None = None
    by: str | None = None
    order_by: str | None = None
    limit: int | None = None
    edges: tuple[float, ...] = ()
    percentile: float | None = None
    half_life: timedelta | None = None
    fill: Scalar = None
    type: str | None = None
    columns: tuple[str, ...] = ()

    @property
    def span(self) -> Span:
        """The stretch of time before an interval's end that it covers."""
        return Span(window=self.window, offset=self.offset)


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of time before an interval's end: ``[end - offset - window, end - offset)``, without a window since ever."""

    window: timedelta | None
    offset: timedelta = timedelta()

    @property
    def reach(self) -> timedelta | None:
        """How long before the interval's end it begins."""
        return None if self.window is None else self.window + self.offset


class WindowExpression(msgspec.Struct, frozen=True, kw_only=True):
    """A feature computed from other features of its view, by a SQL scalar over their names."""

    name: str
    sql: str
    type: str | None = None


def longest_reach(spans: Sequence[Span]) -> timedelta | None:
    """Return how long before an interval's end the earliest of some spans begins; None for ever."""
    reaches = [span.reach for span in spans]
    known = [reach for reach in reaches if reach is not None]
    return None if len(known) < len(reaches) else max(known)
