"""Sources that are made of others, as far as a plan can know them: whether their SQL fits, and where columns come from.

Takes definitions and recorded schemas; reports what a SqlSource or UnionSource reads and does not have, and traces columns
through them down to files and tables. Knows nothing of views.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from fstore.definitions.problems import Reporter
from fstore.definitions.source import (
    CompositeSource,
    PhysicalSource,
    Source,
    SqlSource,
    UnionSource,
)
from fstore.errors import did_you_mean, listing
from fstore.plan.analysis import Relations, Traced, Transformation, unknown_columns, unknown_tables
from fstore.plan.source_pieces import pieces_problem, source_inputs
from fstore.plan.sql import SqlProblem, parse_scalar, parse_select
from fstore.plan.steps import ColumnEdge

ColumnsOf = Callable[[Source], Mapping[str, str] | None]
"""Gives the columns of a source and their types, None where they are not known."""

Origin = tuple[PhysicalSource, str, Transformation]
"""A column of a file or table, under the name that it has there, and what was done to it."""


def check_composite(source: CompositeSource, columns_of: ColumnsOf, report: Reporter) -> None:
    """Report what is wrong with a source that is made of others."""
    if isinstance(source, SqlSource):
        _check_sql(source, columns_of, report)
    else:
        _check_union(source, columns_of, report)


def _check_sql(source: SqlSource, columns_of: ColumnsOf, report: Reporter) -> None:
    try:
        select = parse_select(source.sql)
    except SqlProblem as problem:
        report.add(problem.problem, problem.fix)
        return
    before = len(report.problems)
    relations = _relations(source, columns_of)
    missing = unknown_tables(select, relations)
    for table in missing:
        report.unknown("reads table", table, relations, "its inputs")
    read = {table.lower() for table in select.tables}
    for alias in relations:
        if alias.lower() not in read:
            report.add(f"has the input {alias!r}, which its SQL does not read.", "Remove it, or read it.")
    for parameter in select.parameters:
        report.add(f"has SQL with the parameter ${parameter}, which only views have: a source gives all of its events.",
                   "Remove it: whoever reads the source cuts it in time.")  # fmt: skip
    for column, candidates in [] if missing else unknown_columns(select, relations):
        report.add(f"reads column {column!r}, which its inputs do not have; they have {listing(candidates)}.",
                   did_you_mean(column, candidates))  # fmt: skip
    if len(report.problems) > before:
        return
    outputs = Traced(select, relations).outputs
    if outputs is not None and source.event_time.lower() not in {name.lower() for name in outputs}:
        report.add(f"has event_time {source.event_time!r}, which its SQL does not give: {listing(outputs)}.",
                   did_you_mean(source.event_time, outputs) or "Add it to the SELECT.")  # fmt: skip
    if misfit := pieces_problem(source):
        report.add(*misfit)


def _relations(source: SqlSource, columns_of: ColumnsOf) -> dict[str, tuple[str, ...] | None]:
    found = {item.alias: columns_of(item.source) for item in source_inputs(source)}
    return {alias: None if columns is None else tuple(columns) for alias, columns in found.items()}


def _check_union(source: UnionSource, columns_of: ColumnsOf, report: Reporter) -> None:
    known = {member.name: columns_of(member) for member in source.sources}
    mapped = source.columns if isinstance(source.columns, dict) else {}
    for name in source.columns or ():
        given = mapped.get(name, {})
        for member in source.sources:
            columns = known[member.name]
            written = given.get(member.name)
            if written is not None:
                _check_expression(member, name, written, columns, report)
            elif columns is not None and name.lower() not in _lower(columns) and name.lower() != source.event_time.lower():
                report.add(
                    f"has column {name!r}, which source {member.name!r} does not have: {listing(columns)}.",
                    did_you_mean(name, columns) or f'Say what it is there: {{"{member.name}": "NULL"}}.',
                )


def _check_expression(member: Source, name: str, sql: str, columns: Mapping[str, str] | None, report: Reporter) -> None:
    try:
        scalar = parse_scalar(sql)
    except SqlProblem as problem:
        report.add(f"{problem.problem.rstrip('.')} (column {name!r} of source {member.name!r}).", problem.fix)
        return
    for column in scalar.columns:
        if columns is not None and column.lower() not in _lower(columns):
            report.add(
                f"reads column {column!r} for {name!r}, which source {member.name!r} does not have: {listing(columns)}.",
                did_you_mean(column, columns),
            )


def _lower(names: Mapping[str, str] | Sequence[str]) -> set[str]:
    return {name.lower() for name in names}


# -- lineage ----------------------------------------------------------------------------------------------------------


def physical_edges(
    edges: Sequence[ColumnEdge], sources: Mapping[str, Source], columns_of: ColumnsOf
) -> tuple[ColumnEdge, ...]:
    """Return edges that lead to files and tables instead of sources made of others, with the columns' names there."""
    found: list[ColumnEdge] = []
    for edge in edges:
        source = sources.get(edge.dataset) if edge.kind == "source" else None
        if source is None or (isinstance(source, PhysicalSource) and not source.renamed):
            found.append(edge)
            continue
        strongest: dict[tuple[str, str], Transformation] = {}
        for origin, column, inner in _origins(source, edge.column, columns_of):
            known = strongest.get((origin.name, column), edge.transformation)
            strongest[origin.name, column] = max(known, inner, key=_RANKS.index)
        found.extend(
            msgspec.structs.replace(edge, dataset=dataset, column=column, transformation=transformation)
            for (dataset, column), transformation in strongest.items()
        )
    return tuple(found)


_RANKS: tuple[Transformation, ...] = ("IDENTITY", "TRANSFORMATION", "AGGREGATION")


def _origins(source: Source, column: str, columns_of: ColumnsOf) -> Iterator[Origin]:
    """Yield the columns of files and tables that a column of a source is derived from, as far as that can be told."""
    match source:
        case SqlSource():
            relations: Relations = _relations(source, columns_of)
            members = {item.alias.lower(): item.source for item in source_inputs(source)}
            for alias, name, transformation in _trace_sql(source, relations, column):
                yield from _through(members[alias], name, transformation, columns_of)
        case UnionSource():
            for member in source.sources:
                for name, transformation in _union_columns(source, member, column):
                    yield from _through(member, name, transformation, columns_of)
        case _:
            real = {shown.lower(): found for found, shown in source.renamed.items()}
            yield source, real.get(column.lower(), column), "IDENTITY"


def _through(source: Source, column: str, transformation: Transformation, columns_of: ColumnsOf) -> Iterator[Origin]:
    for origin, name, inner in _origins(source, column, columns_of):
        yield origin, name, max(transformation, inner, key=_RANKS.index)


def _trace_sql(source: SqlSource, relations: Relations, column: str) -> list[tuple[str, str, Transformation]]:
    try:
        return Traced(parse_select(source.sql), relations).sources(column)
    except SqlProblem:
        return []


def _union_columns(source: UnionSource, member: Source, column: str) -> list[tuple[str, Transformation]]:
    if column.lower() == source.event_time.lower():
        return [(member.event_time or "", "IDENTITY")]
    given = source.columns if isinstance(source.columns, dict) else {}
    written = next((item.get(member.name) for name, item in given.items() if name.lower() == column.lower()), None)
    if written is None:
        return [(column, "IDENTITY")]
    try:
        scalar = parse_scalar(written)
    except SqlProblem:
        return []
    plain = len(scalar.columns) == 1 and scalar.columns[0].lower() == written.strip().strip('"').lower()
    return [(name, "IDENTITY" if plain else "TRANSFORMATION") for name in scalar.columns]
