"""Compute a view over a few rows, and compare it with what a test expects.

The rows stand in the place of what the view reads: they are cut to the instants that it may see, and its compiled query or
function runs over them in the engine, as in production. Nothing is published and nothing of the project's data is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime

from fstore.definitions.feature_view import FeatureView
from fstore.interval import Interval, format_instant, parse_instant
from fstore.plan.steps import Step
from fstore.testing.comparison import Computed, ExpectationError, Expected, describe_differences, find_differences
from fstore.testing.computation import Given, compute_rows
from fstore.testing.declared import DeclaredView, declared_view
from fstore.testing.rows import Rows

Instant = str | date | datetime


class ViewMismatch(AssertionError):
    """A view gave something else than a test expects; the message lists every difference."""


def check_view(
    view: type[FeatureView] | DeclaredView, *, at: Instant, expect: Expected, rows: Rows | None = None,
    inputs: Mapping[str, Rows] | None = None,
) -> None:  # fmt: skip
    """Compute a view at the end of an interval and raise ViewMismatch unless it gives what is expected.

    ``rows`` are those of the view's event source; ``inputs`` those of everything that a SQL or Python view reads, by alias
    (of other views: their published rows), and of the other views whose features an expression reads, by the view's name.
    Columns have the types that the source declares, or else those of the values. ``expect`` maps keys (tuples where an
    entity has several) to features to values, or is a list of rows with the key columns in them, or, where the rows have
    one key only, maps features to values. Keys and features that it does not mention may have any value; None instead of a
    mapping says that a key has no row. A key without a row has the values of the empty row, such as a count of 0. Of an
    event view it maps keys to lists of rows in the order of time. Floats are equal within 1e-9, or as ``pytest.approx``
    says.
    """
    __tracebackhide__ = True
    declared = view if isinstance(view, DeclaredView) else declared_view(view)
    computed = _compute(declared, at, rows, inputs)
    differences = find_differences(computed, expect)
    if differences:
        raise ViewMismatch(describe_differences(computed, differences))


def compute_view(
    view: type[FeatureView] | DeclaredView,
    *,
    at: Instant,
    rows: Rows | None = None,
    inputs: Mapping[str, Rows] | None = None,
) -> list[dict[str, object]]:
    """Return the rows that a view gives at the end of an interval, sorted by key; the arguments are as in check_view."""
    declared = view if isinstance(view, DeclaredView) else declared_view(view)
    return list(_compute(declared, at, rows, inputs).rows)


def _compute(declared: DeclaredView, at: Instant, rows: Rows | None, inputs: Mapping[str, Rows] | None) -> Computed:
    given = Given(rows=rows, inputs=dict(inputs or {}))
    step, computed = compute_rows(declared, given, lambda step: _interval(step, at))
    return Computed(name=declared.name, step=step, at=_parse(at), rows=tuple(computed))


def _interval(step: Step, at: Instant) -> Interval:
    """Return the interval that ends at an instant."""
    end = _parse(at)
    interval = step.schedule.interval_ending_by(end)
    if interval.end != end:
        following = step.schedule.intervals(interval.end, interval.end + 2 * (interval.end - interval.start))
        later = f" or {format_instant(following[0].end)}" if following else ""
        raise ExpectationError(
            f"view {step.view!r} has no interval that ends at {format_instant(end)}: its schedule {step.schedule.cron!r} "
            f"({step.schedule.timezone}) has boundaries at {format_instant(interval.end)}{later}. Use one of these as `at`."
        )
    return interval


def _parse(at: Instant) -> datetime:
    if isinstance(at, str):
        return parse_instant(at)
    return parse_instant(at.isoformat())
