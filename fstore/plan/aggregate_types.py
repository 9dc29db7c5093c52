"""The SQL scalars that an aggregate reads, and the type of what it gives.

Takes an aggregate as declared and the source's columns as far as they are known; gives each scalar parsed, rendered and
typed, and the feature's type. Reports columns that do not exist and types that do not fit. Computes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from fstore.definitions.aggregation import COUNTS, Aggregation
from fstore.definitions.problems import Reporter
from fstore.definitions.source import Source
from fstore.errors import did_you_mean, listing
from fstore.plan.columns import UNSUPPORTED, find_column
from fstore.plan.comparisons import check_comparisons
from fstore.plan.inference import Untyped, infer_type
from fstore.plan.sql import ScalarSql, SqlProblem, parse_scalar, render_scalar
from fstore.types import DataType

_NUMERIC = ("sum", "avg", "stddev", "variance", "skew", "approx_percentile", "histogram", "decayed_sum")
"""The functions that take numbers only."""

_FLOATS = ("avg", "stddev", "variance", "skew", "approx_percentile", "decayed_sum")
"""The functions that give float64 whatever they take."""

_LISTS = ("first_k", "last_k", "top_k", "distinct")
"""The functions that list values of their argument."""

_NESTED = ("list", "vector", "map")


class Operand(msgspec.Struct, frozen=True, kw_only=True):
    """A SQL scalar over the source: as rendered, the real names of its columns, and its type (None: not known)."""

    text: str
    sql: str
    columns: tuple[str, ...]
    type: DataType | None


class Operands:
    """Reads the scalars of one aggregate. What is wrong is reported, and the scalar is None then."""

    def __init__(self, member: Aggregation, source: Source, columns: Mapping[str, str] | None, report: Reporter) -> None:
        self.member, self.source, self.columns, self.report = member, source, columns, report
        self.types = {
            name.lower(): None if text.startswith(UNSUPPORTED) else text for name, text in (columns or {}).items()
        }  # fmt: skip
        before = len(report.problems)
        self.argument = self._read(member.argument, "")
        self.where = self._read(member.where, "where ")
        self.by = self._read(member.by, "by ")
        self.order_by = self._read(member.order_by, "order_by ")
        if len(report.problems) == before:
            self._check_types()

    @property
    def every(self) -> list[Operand]:
        """All scalars that there are: the argument first."""
        return [item for item in (self.argument, self.where, self.by, self.order_by) if item is not None]

    def result_type(self) -> str | None:
        """Return the type of the feature; None when it hangs on an unknown schema, or after a problem."""
        function = self.member.function
        value = self._value_type()
        if value is None:
            return None
        if self.member.by is not None:
            return f"map<string,{value}>"
        return f"list<{value}>" if function in _LISTS else value

    def _value_type(self) -> str | None:
        """Return the type of a value, of which the feature may be a list or a map."""
        function = self.member.function
        if function in COUNTS:
            return "int64"
        if function == "histogram":
            return "list<int64>"
        if function in _FLOATS:
            return "float64"
        found = None if self.argument is None else self.argument.type
        if found is None or function != "sum":
            return None if found is None else str(found)
        if found.is_float:
            return "float64"
        return f"decimal(38,{found.scale})" if found.name == "decimal" else "int64"

    def _read(self, text: str | None, role: str) -> Operand | None:
        """Parse a scalar and check its columns; ``role`` names it in problems."""
        if text is None:
            return None
        try:
            scalar = parse_scalar(text)
        except SqlProblem as problem:
            self.report.add(problem.problem if not role else f"in {role.strip()}: {problem.problem}", problem.fix)
            return None
        real: list[str] = []
        for name in scalar.columns:
            found = name if self.columns is None else find_column(name, self.columns)
            if found is None:
                known = listing(self.columns or ())
                self.report.add(f"reads column {name!r}, which source {self.source.name!r} does not have: {known}.",
                                did_you_mean(name, self.columns or ()))  # fmt: skip
            else:
                real.append(found)
        if len(real) < len(scalar.columns):
            return None
        spelling = {name.lower(): name for name in self.columns or ()}
        return Operand(text=text, sql=render_scalar(scalar, spelling), columns=tuple(real), type=self._type(scalar, role))

    def _type(self, scalar: ScalarSql, role: str) -> DataType | None:
        check_comparisons(scalar.tree, self.types, self.report)
        if not role and self.member.function == "count":
            return None  # only whether it is null counts
        try:
            found = infer_type(scalar.tree, self.types)
        except Untyped as error:
            cast = f"CAST({error.part} AS {_CASTS.get(role, 'DOUBLE')})"
            self.report.add(f"has {role}{scalar.text!r}, and the type of {error.part} cannot be told.",
                            f"Write {cast}, or whatever its type is.")  # fmt: skip
            return None
        if found is None and self.columns is not None:
            unsupported = next((name for name in scalar.columns if self.types[name.lower()] is None), None)
            if unsupported is not None:
                kind = self.columns[find_column(unsupported, self.columns) or ""]
                self.report.add(f"reads column {unsupported!r} of type {kind}.", "Cast it to one of the types of fstore.")
        return found

    def _check_types(self) -> None:
        function = self.member.function
        argument, where = self.argument, self.where
        if argument is not None and argument.type is not None:
            if function in _NUMERIC and not argument.type.is_numeric:
                self.report.add(f"takes {function} of {argument.text!r}, which has type {argument.type}.",
                                "Use a number, or CAST(… AS INTEGER).")  # fmt: skip
            elif argument.type.name in _NESTED:
                fix = "Take one value out of it: x[1], say."
                self.report.add(f"takes {function} of {argument.text!r}, which has type {argument.type}.", fix)
        if where is not None and where.type is not None and where.type.name != "bool":
            self.report.add(f"has where {where.text!r}, which has type {where.type}; a condition is expected.",
                            "Compare it with something, as in \"amount > 0\".")  # fmt: skip
        for role, operand in (("by", self.by), ("order_by", self.order_by)):
            if operand is not None and operand.type is not None and operand.type.name in _NESTED:
                self.report.add(f"has {role} {operand.text!r}, which has type {operand.type}; one value is expected.")


_CASTS = {"where ": "BOOLEAN", "by ": "VARCHAR", "order_by ": "BIGINT"}
