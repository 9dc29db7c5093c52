"""In which pieces of time the SQL of a source runs, so that an event never depends on when it is computed.

SQL that works *row by row* gives, for any range of time, the rows of its input events in that range: it may be cut anywhere.
All other SQL (aggregates, window functions, joins of events, dimensions with a history, times of its own) sees other rows
when it is cut elsewhere. It therefore always runs over whole pieces, aligned to 1970 in UTC: for the events of ``[a, b)`` it
sees its input events of ``[a - window, b)`` and its dimensions as they were at ``b``. The length of the pieces follows from
the definition alone, and whoever reads the source ends its intervals where pieces end. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import msgspec
from sqlglot import exp

from fstore.definitions.source import PhysicalSource, Source, SqlSource, UnionSource, WindowedSource
from fstore.interval import format_duration, parse_duration
from fstore.plan.sql import SelectSql, SqlProblem, parse_select

LENGTHS = (
    timedelta(days=1), timedelta(hours=1), timedelta(minutes=15), timedelta(minutes=5), timedelta(minutes=1),
    timedelta(seconds=1), timedelta(milliseconds=1), timedelta(microseconds=1),
)  # fmt: skip
"""The possible lengths of pieces; each is a whole multiple of the next."""

UNBOUNDED = "all"


class SourceInput(msgspec.Struct, frozen=True, kw_only=True):
    """An input of a SqlSource: ``back`` is how long before a piece its events are seen, None for all of them."""

    alias: str
    source: Source
    back: timedelta | None


def source_inputs(source: SqlSource) -> list[SourceInput]:
    """Return the inputs of a source in order."""
    inputs = []
    for alias, item in source.inputs.items():
        window = item.window if isinstance(item, WindowedSource) else "0s"
        back = None if window == UNBOUNDED else parse_duration(window)
        inputs.append(SourceInput(alias=alias, source=item.source if isinstance(item, WindowedSource) else item, back=back))
    return inputs


def piece_length(source: SqlSource) -> timedelta | None:
    """Return the length of the pieces that a source's SQL runs in; None when it works row by row.

    It is the longest of :data:`LENGTHS` of which every window of its inputs is a whole multiple, and never shorter than
    that of a source among them.
    """
    if is_row_by_row(source):
        return None
    backs = [item.back for item in source_inputs(source) if item.back is not None]
    return next(length for length in LENGTHS if not any(back % length for back in backs))


def alignment(source: Source) -> timedelta | None:
    """Return the length of which the ends of whoever reads a source must be whole multiples since 1970; None: any."""
    match source:
        case SqlSource():
            own = piece_length(source)
            inner = [alignment(item.source) for item in source_inputs(source) if not item.source.is_dimension]
        case UnionSource():
            own, inner = None, [alignment(member) for member in source.sources]
        case _:
            return None
    return max((length for length in (own, *inner) if length is not None), default=None)


def pieces_problem(source: Source) -> tuple[str, str] | None:
    """Return what is wrong with the pieces of a source of other sources, and the fix; None when all is well."""
    if not isinstance(source, SqlSource) or (own := piece_length(source)) is None:
        return None
    for item in source_inputs(source):
        inner = None if item.source.is_dimension else alignment(item.source)
        if inner is not None and own < inner:
            have, need = format_duration(own), format_duration(inner)
            return (
                f"runs in pieces of {have}, but its input {item.alias!r} is made in pieces of {need}.",
                f"Make the windows of its inputs whole multiples of {need}.",
            )
    return None


def is_row_by_row(source: SqlSource) -> bool:
    """Whether the SQL of a source gives at most a row's own rows for each row of its one event input, at the row's time."""
    try:
        select = parse_select(source.sql)
    except SqlProblem:
        return False
    inputs = source_inputs(source)
    events = [item for item in inputs if not item.source.is_dimension]
    dimensions = [item for item in inputs if item.source.is_dimension]
    if len(events) != 1 or any(not _is_static(item.source) for item in dimensions):
        return False
    return _is_row_by_row(select, events[0], {item.alias.lower() for item in dimensions}, source.event_time)


def _is_static(source: Source) -> bool:
    return isinstance(source, PhysicalSource) and source.static


def _is_row_by_row(select: SelectSql, events: SourceInput, static: set[str], time: str) -> bool:
    tree = select.tree
    if not isinstance(tree, exp.Select) or set(_clauses(tree)) - {"expressions", "from_", "joins", "where", "order"}:
        return False
    if any(_looks_beyond(node, tree) for node in tree.walk()):
        return False
    table = tree.args["from_"].this if tree.args.get("from_") else None
    if not isinstance(table, exp.Table) or table.name.lower() != events.alias.lower() or table.args.get("joins"):
        return False
    if not all(_is_lookup(join, static) for join in tree.args.get("joins") or ()):
        return False
    own = {"", table.alias_or_name.lower()}
    return _gives_time(tree, own, (events.source.event_time or "").lower(), time.lower(), alone=not static)


def _clauses(tree: exp.Select) -> Iterator[str]:
    return (name for name, value in tree.args.items() if value)


def _looks_beyond(node: exp.Expr, root: exp.Expr) -> bool:
    """Whether a part of a SELECT may see more than one row of the events."""
    if node is root:
        return False
    return isinstance(node, exp.Query | exp.Subquery | exp.Exists | exp.Window | exp.AggFunc | exp.Pivot | exp.Lateral)


def _is_lookup(join: exp.Join, static: set[str]) -> bool:
    """Whether a join adds columns of a table without history, or unnests a list of the row."""
    if join.args.get("method") or (join.side or "").upper() not in ("", "LEFT"):
        return False
    if (join.kind or "").upper() not in ("", "INNER", "OUTER", "CROSS", "SEMI", "ANTI"):
        return False
    if isinstance(join.this, exp.Unnest):
        return True
    return isinstance(join.this, exp.Table) and not join.this.args.get("joins") and join.this.name.lower() in static


def _gives_time(tree: exp.Select, own: set[str], column: str, time: str, *, alone: bool) -> bool:
    """Whether a SELECT gives the events' own time as the column ``time``, and only that."""
    given = []
    for item in tree.expressions:
        if isinstance(item, exp.Star):
            if set(_clauses_of(item)) or not alone:
                return False
            given.append(column == time)
        elif isinstance(item, exp.Column) and isinstance(item.this, exp.Star):
            if set(_clauses_of(item.this)):
                return False
            if item.table.lower() in own:
                given.append(column == time)
        elif item.alias_or_name.lower() == time:
            value = item.this if isinstance(item, exp.Alias) else item
            is_time = isinstance(value, exp.Column) and value.name.lower() == column and value.table.lower() in own
            if not is_time:
                return False
            given.append(True)
    return given.count(True) == 1


def _clauses_of(star: exp.Star) -> Iterator[str]:
    return (name for name, value in star.args.items() if value)
