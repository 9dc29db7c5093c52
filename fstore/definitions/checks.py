"""Checks: what must hold of a view's rows before they are published.

A check that finds a violation *warns* (recorded, published), *quarantines* (the rows are set aside and read as null or
are withheld) or is an *error* (the interval is not published). Null passes every check but ``not_null``; NaN fails a range.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from fstore.definitions.aggregation import Scalar
from fstore.definitions.location import Located
from fstore.errors import did_you_mean, listing

Severity = Literal["warn", "quarantine", "error"]
SEVERITIES: tuple[Severity, ...] = ("warn", "quarantine", "error")
CheckKind = Literal["not_null", "in_range", "one_of", "unique", "row_count"]
KINDS: tuple[CheckKind, ...] = ("not_null", "in_range", "one_of", "unique", "row_count")


class Check(Located, frozen=True, kw_only=True):
    """One rule over the rows of an interval.

    ``columns`` are features of the view (none for ``row_count``, several for ``unique``). ``minimum`` and ``maximum`` are
    inclusive and either may be None.
    """

    kind: CheckKind
    columns: tuple[str, ...] = ()
    minimum: int | float | None = None
    maximum: int | float | None = None
    values: tuple[Scalar, ...] = ()
    severity: Severity = "error"

    @property
    def label(self) -> str:
        """The check as it reads in a report, such as ``in_range(amount_avg_30d, 0, 10000)``."""
        arguments: list[str] = [*self.columns]
        if self.kind in ("in_range", "row_count"):
            arguments += [str(self.minimum), str(self.maximum)]
        if self.kind == "one_of":
            arguments.append(str(list(self.values)))
        return f"{self.kind}({', '.join(arguments)})"


class _Checks:
    """The functions of the namespace ``check``."""

    def not_null(self, column: str, *, severity: Severity = "error") -> Check:
        """Require a value in every row."""
        return Check(kind="not_null", columns=(column,), severity=severity)

    def in_range(
        self, column: str, minimum: int | float | None = None, maximum: int | float | None = None, *,
        severity: Severity = "error",
    ) -> Check:  # fmt: skip
        """Require every value to lie between the two, both included; None leaves a side open."""
        return Check(kind="in_range", columns=(column,), minimum=minimum, maximum=maximum, severity=severity)

    def one_of(self, column: str, values: Sequence[Scalar], *, severity: Severity = "error") -> Check:
        """Require every value to be one of those listed."""
        return Check(kind="one_of", columns=(column,), values=tuple(values), severity=severity)

    def unique(self, *columns: str, severity: Severity = "error") -> Check:
        """Let no two rows of an interval share the values of the columns (rows with a null among them are left out)."""
        return Check(kind="unique", columns=columns, severity=severity)

    def row_count(self, minimum: int | None = None, maximum: int | None = None, *, severity: Severity = "error") -> Check:
        """Bound the number of rows of an interval, both bounds included; None leaves a side open."""
        return Check(kind="row_count", minimum=minimum, maximum=maximum, severity=severity)

    def __getattr__(self, name: str) -> Check:
        raise AttributeError(f"check has no rule {name!r}, only {listing(KINDS)}.{did_you_mean(name, KINDS)}")


check = _Checks()
"""The checks: ``check.not_null("amount")``, ``check.in_range("score", 0, 1, severity="warn")``, …"""
