"""The events of sources that are made of others: the SQL of a SqlSource and the members of a UnionSource as views.

Takes what a reader may see and gives the SELECT over the members' views, which are cut before the user's SQL runs. SQL that
does not work row by row runs beforehand, piece by piece, into files of the session (see ``fstore.plan.source_pieces``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from fstore.definitions.source import CompositeSource, Source, SqlSource, UnionSource
from fstore.engines.duckdb_types import file_list, instant_literal, quoted, sql_type
from fstore.engines.duckdb_views import View, composed
from fstore.engines.engine import DimensionRelation, EventRelation, Relation
from fstore.engines.source_files import source_error
from fstore.errors import SourceSchemaDrift
from fstore.interval import EPOCH, Interval
from fstore.plan.conversions import widens
from fstore.plan.source_pieces import SourceInput, piece_length, source_inputs

ViewOf = Callable[[str, Relation], View]
"""Makes a relation of a member under an alias."""

ColumnsOf = Callable[[Source], Mapping[str, str]]
"""Gives the columns of a source and their logical types."""

Bounds = tuple[datetime | None, datetime]

MakePieces = Callable[[SqlSource, Bounds], Sequence[str]]
"""Runs the SQL of a source for the pieces that a range of time touches; gives the files with its rows, in one directory."""


def sql_view(alias: str, source: SqlSource, bounds: Bounds, view_of: ViewOf) -> View:
    """Return what the SQL of a source gives when its inputs are cut to the bounds, less the windows before the start."""
    start, end = bounds
    views: dict[str, View] = {}
    for item in source_inputs(source):
        name = f"{alias}__{item.alias}"
        views[item.alias] = view_of(name, _input_relation(item, start, end))
    inputs = ", ".join(f"{quoted(name)} AS NOT MATERIALIZED ({view.select})" for name, view in views.items())
    return composed(f"WITH {inputs} SELECT * FROM (\n{source.sql}\n)", views.values(), source)


def _input_relation(item: SourceInput, start: datetime | None, end: datetime) -> Relation:
    if item.source.is_dimension:
        return DimensionRelation(source=item.source, end=end)
    try:
        first = None if start is None or item.back is None else start - item.back
    except OverflowError:
        first = None
    return EventRelation(source=item.source, start=first, end=end)


def union_view(alias: str, source: UnionSource, bounds: Bounds, view_of: ViewOf, columns_of: ColumnsOf) -> View:
    """Return the events of all members of a union within the bounds, their columns in one type each."""
    views: list[View] = []
    selects: list[str] = []
    types = union_columns(source, columns_of)
    for index, member in enumerate(source.sources):
        view = view_of(f"{alias}__{index}", EventRelation(source=member, start=bounds[0], end=bounds[1]))
        listed = ", ".join(
            f"CAST({sql} AS {sql_type(types[name])}) AS {quoted(name)}" if not types[name].startswith("unsupported")
            else f"{sql} AS {quoted(name)}"
            for name, sql in union_expressions(source, member, list(types)).items()
        )  # fmt: skip
        selects.append(f"SELECT {listed} FROM ({view.select}) AS {quoted(member.name)}")
        views.append(view)
    return composed(" UNION ALL ".join(selects), views, source)


def union_expressions(source: UnionSource, member: Source, names: Sequence[str]) -> dict[str, str]:
    """Return the SQL that gives each column of a union from the columns of one member."""
    given = source.columns if isinstance(source.columns, dict) else {}
    expressions: dict[str, str] = {}
    for name in names:
        if name == source.event_time:
            expressions[name] = quoted(member.event_time or "")
        else:
            written = given.get(name, {}).get(member.name)
            expressions[name] = f"(\n{written}\n)" if written is not None else quoted(name)
    return expressions


def union_names(source: UnionSource, columns_of: ColumnsOf) -> list[str]:
    """Return the columns of a union: its event time, then those declared, or else those that all members share."""
    if source.columns is not None:
        listed = list(source.columns)
    else:
        shared = [{name.lower() for name in columns_of(member)} for member in source.sources]
        times = {(member.event_time or "").lower() for member in source.sources}
        first = columns_of(source.sources[0])
        listed = [name for name in first if all(name.lower() in names for names in shared) and name.lower() not in times]
    return [source.event_time, *(name for name in listed if name.lower() != source.event_time.lower())]


def union_columns(source: UnionSource, columns_of: ColumnsOf) -> dict[str, str]:
    """Return the columns of a union and the type that holds the values of all members.

    Raises SourceSchemaDrift where the members' types have no such type.
    """
    found = [columns_of(_UnionMember(source=source, member=member).as_source(columns_of)) for member in source.sources]
    types: dict[str, str] = {}
    for name in union_names(source, columns_of):
        every = [columns[name] for columns in found]
        common = next((wanted for wanted in every if all(widens(type_, wanted) for type_ in every)), None)
        if common is None:
            listed = ", ".join(f"{type_} in {member.name!r}" for type_, member in zip(every, source.sources, strict=True))
            raise source_error(
                SourceSchemaDrift,
                source,
                f"is made of sources that disagree on column {name!r}: it is {listed}. Convert it: "
                f'columns={{"{name}": {{"{source.sources[0].name}": "CAST({_written(source, name)} AS …)"}}, …}}.',
            )
        types[name] = common
    return types


def _written(source: UnionSource, name: str) -> str:
    """Return what makes a column of a union from the first of its members."""
    given = source.columns if isinstance(source.columns, dict) else {}
    return given.get(name, {}).get(source.sources[0].name, name)


class _UnionMember(msgspec.Struct, frozen=True):
    """One member of a union with the union's columns, as a source of its own whose types can be asked for."""

    source: UnionSource
    member: Source

    def as_source(self, columns_of: ColumnsOf) -> Source:
        names = union_names(self.source, columns_of)
        expressions = union_expressions(self.source, self.member, names)
        listed = ", ".join(f"{sql} AS {quoted(name)}" for name, sql in expressions.items())
        return SqlSource(
            self.source.name,
            location=self.source.location,
            inputs={"m": self.member},
            sql=f"SELECT {listed} FROM m",
            event_time=self.source.event_time,
        )


# -- pieces -----------------------------------------------------------------------------------------------------------


def pieces_of(length: timedelta, start: datetime, end: datetime) -> range:
    """Return the numbers of the whole pieces that a range of time touches: piece ``n`` begins ``n`` lengths after 1970."""
    return range((start - EPOCH) // length, -((EPOCH - end) // length))


def piece(length: timedelta, number: int) -> Interval:
    """Return the time of a piece."""
    return Interval(EPOCH + number * length, EPOCH + (number + 1) * length)


def composite_rows(
    alias: str, source: CompositeSource, bounds: Bounds, view_of: ViewOf, columns_of: ColumnsOf, make: MakePieces
) -> View:
    """Return the events of a composite source, not yet cut to the bounds where pieces reach beyond them."""
    if isinstance(source, UnionSource):
        return union_view(alias, source, bounds, view_of, columns_of)
    if piece_length(source) is None:
        return sql_view(alias, source, bounds, view_of)
    paths = make(source, bounds)
    if not paths:
        nulls = [f"CAST(NULL AS {_physical(type_)}) AS {quoted(name)}" for name, type_ in columns_of(source).items()]
        return View(select=f"SELECT {', '.join(nulls)} WHERE false", source=source)
    return View(
        select=f"SELECT * FROM read_parquet({file_list(paths)}, hive_partitioning=false)",
        directories=(paths[0].rpartition("/")[0],),
        source=source,
    )


def cut(view: View, relation: EventRelation, columns: Mapping[str, str], *, null_keys: bool = False) -> View:
    """Return the rows of a composite that a relation shows: within its bounds, its columns, no null in a key."""
    names = {name.lower(): name for name in columns}
    time = quoted(_named(relation.source, names, relation.source.event_time or ""))
    keys = [_named(relation.source, names, key) for key in relation.keys]
    wanted = list(columns)
    if relation.columns is not None:
        chosen = [_named(relation.source, names, name) for name in relation.columns]
        wanted = list(dict.fromkeys([*chosen, *keys, _named(relation.source, names, relation.source.event_time or "")]))
    where = " AND ".join(_conditions(time, keys, relation, null_keys=null_keys))
    listed = ", ".join(map(quoted, wanted))
    return msgspec.structs.replace(view, select=f"SELECT {listed} FROM ({view.select}) WHERE {where}")


def _conditions(time: str, keys: Sequence[str], relation: EventRelation, *, null_keys: bool) -> Iterator[str]:
    if relation.start is not None:
        yield f"{time} >= {instant_literal(relation.start)}"
    yield f"{time} < {instant_literal(relation.end)}"
    if null_keys:
        yield "(" + " OR ".join(f"{quoted(key)} IS NULL" for key in keys) + ")" if keys else "false"
    else:
        yield from (f"{quoted(key)} IS NOT NULL" for key in keys)


def _named(source: Source, names: Mapping[str, str], name: str) -> str:
    if name.lower() in names:
        return names[name.lower()]
    raise source_error(SourceSchemaDrift, source, f"has no column {name!r}; its columns are {', '.join(names.values())}")


def _physical(type_: str) -> str:
    return type_.removeprefix("unsupported(").removesuffix(")") if type_.startswith("unsupported(") else sql_type(type_)
