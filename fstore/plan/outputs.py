"""Planning a SQL or Python view: what it reads, what it gives, and whether the two fit.

Takes the view, its inputs and their columns as far as they are known, and gives the features with their types and
fingerprints, the SQL to run, and where every output column comes from. Upstream views show their keys, ``event_timestamp``
and features. A view is an event view exactly when ``event_timestamp`` is among its output columns (for a Python view: among
those it declares). Runs nothing; a Python function's columns are taken at its word and compared with its output at run time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Literal

import msgspec

from fstore.definitions.expression import Field
from fstore.definitions.feature_view import PythonFunction, View
from fstore.definitions.problems import Reporter
from fstore.errors import did_you_mean, listing
from fstore.plan.analysis import Relations, Traced, referenced_names, unknown_columns, unknown_tables
from fstore.plan.binding import Bind, bound_columns, bound_type, check_declared, relation_types, unnamed_type
from fstore.plan.columns import Schemas, relation_columns, source_columns
from fstore.plan.fingerprint import ViewIdentity, input_identity, python_fingerprint, sql_fingerprint
from fstore.plan.sql import SelectSql, SqlProblem, parse_select, quoted
from fstore.plan.steps import (
    EVENT_TIMESTAMP,
    ColumnEdge,
    DimensionInput,
    EventInput,
    Feature,
    HistoryInput,
    SnapshotInput,
    Step,
    StepInput,
)
from fstore.types import parse_type


class Outputs(msgspec.Struct, frozen=True, kw_only=True):
    """What a SQL or Python view gives. ``sql`` is the SELECT to run, with its ``parameters``; empty for a Python view."""

    kind: Literal["snapshot", "event"]
    features: tuple[Feature, ...]
    lineage: tuple[ColumnEdge, ...]
    sql: str = ""
    parameters: tuple[str, ...] = ()


class DeclaredFields(msgspec.Struct, frozen=True, kw_only=True):
    """The output columns that a view declares beside its keys, in order, and whether it declares its own times."""

    fields: dict[str, Field]
    own_times: bool


def declared_fields(view: View) -> DeclaredFields:
    """Return the columns that a SQL or Python view declares with ``feature()``."""
    fields = {member.name or name: member for name, member in view.members.items() if isinstance(member, Field)}
    return DeclaredFields(fields=fields, own_times=fields.pop(EVENT_TIMESTAMP, None) is not None)


class SqlOutputs:
    """Checks the SELECT of a SQL view and works out what it gives."""

    def __init__(self, view: View, identity: ViewIdentity, inputs: Sequence[StepInput], schemas: Schemas, bind: Bind | None,
                 report: Reporter) -> None:  # fmt: skip
        self.view, self.identity, self.inputs, self.report = view, identity, inputs, report
        self.relations: Relations = {item.alias: relation_columns(item, schemas) for item in inputs}
        self.schemas, self.bind = schemas, bind

    def compile(self, declared: DeclaredFields, upstream: Mapping[str, Step]) -> Outputs | None:
        """Return what the view gives; None when there is a problem (all of them are reported)."""
        text = self.view.sql or ""
        try:
            select = parse_select(text)
        except SqlProblem as problem:
            self.report.add(problem.problem, problem.fix)
            return None
        before = len(self.report.problems)
        self._check_references(select)
        if len(self.report.problems) > before:
            return None
        traced = Traced(select, self.relations)
        own_times = self._own_times(declared, traced, text)
        self._check_outputs(traced, declared, own_times=own_times)
        if len(self.report.problems) > before:
            return None
        names_read = referenced_names(select)
        types = self._types(select, declared, names_read)
        if len(self.report.problems) > before:
            return None
        kind: Literal["snapshot", "event"] = "event" if own_times else "snapshot"
        identity = msgspec.structs.replace(self.identity, kind=kind)
        identities = [input_identity(item, upstream, names_read) for item in self.inputs]
        features = tuple(
            Feature(
                name=name,
                type=types[name],
                fingerprint=sql_fingerprint(identity, name, field.type or "", select.text, identities),
                description=field.description,
                pii=field.pii,
            )
            for name, field in declared.fields.items()
        )
        names = [*self._keys(), *([EVENT_TIMESTAMP] if own_times else []), *declared.fields]
        sql = f"SELECT {', '.join(quoted(name) for name in names)}\nFROM (\n{select.text}\n) AS view_rows"
        edges = tuple(self._edges(traced, names))
        return Outputs(kind=kind, features=features, lineage=edges, sql=sql, parameters=select.parameters)

    def _keys(self) -> list[str]:
        return [key.name for key in self.identity.keys]

    def _types(self, select: SelectSql, declared: DeclaredFields, names: Set[str] | None) -> dict[str, str | None]:
        """Return the type of every feature: declared, else what the engine says that the SQL gives, if it can be asked.

        ``names`` are those that the SQL can mean a column by (None: all).
        """
        fields = declared.fields.items()
        types = {name: None if field.type is None else str(parse_type(field.type)) for name, field in fields}
        known = {item.alias: relation_types(item, self.schemas, names) for item in self.inputs}
        relations = {alias: columns for alias, columns in known.items() if columns is not None}
        if self.bind is None or len(relations) < len(known):
            self._report_untold(declared, names)
            return types
        bound = bound_columns(self.bind, select.text, relations, select.parameters, self.report)
        given = {name.lower(): text for name, text in (bound or {}).items()}
        for name, field in fields:
            report = self.report.about(self.report.subject, field.location)
            if name.lower() not in given:
                continue  # the columns were compared before, as far as they are known
            if field.type is None:
                types[name] = bound_type(name, given[name.lower()], report)
            else:
                check_declared(name, types[name] or "", given[name.lower()], report)
        return types

    def _report_untold(self, declared: DeclaredFields, names: Set[str] | None) -> None:
        """Report features without a type whose SQL reads a column that the engine cannot be asked with."""
        for item in self.inputs:
            columns = source_columns(item.source, self.schemas) if isinstance(item, EventInput | DimensionInput) else None
            column = None if columns is None else unnamed_type(columns, names)
            if columns is None or column is None:
                continue
            for name, field in declared.fields.items():
                if field.type is None:
                    self.report.add(
                        f"declares {name!r} without a type, which cannot be told: its SQL reads column {column!r} of input "
                        f"{item.alias!r}, of type {columns[column]}.", 'Write its type, such as feature("float64").',
                        at=field.location)  # fmt: skip
            return

    def _check_references(self, select: SelectSql) -> None:
        """Report tables and columns that are not there, and inputs that nothing reads."""
        missing = unknown_tables(select, self.relations)
        for table in missing:
            self.report.unknown("reads table", table, self.relations, "its inputs")
        read = {table.lower() for table in select.tables}
        for alias in self.relations:
            if alias.lower() not in read:
                self.report.add(f"has the input {alias!r}, which its SQL does not read.", "Remove it, or read it.")
        for column, candidates in [] if missing else unknown_columns(select, self.relations):
            self.report.add(f"reads column {column!r}, which its inputs do not have; they have {listing(candidates)}.",
                            did_you_mean(column, candidates))  # fmt: skip

    def _own_times(self, declared: DeclaredFields, traced: Traced, text: str) -> bool:
        """Whether the output has its own event_timestamp, which must be written out rather than come with a ``*``."""
        if traced.outputs is None:
            return declared.own_times
        found = EVENT_TIMESTAMP in {name.lower() for name in traced.outputs}
        if found and not declared.own_times and EVENT_TIMESTAMP not in text.lower():
            self.report.add(f"gives {EVENT_TIMESTAMP} through a *, which would make it an event view by accident.",
                            "Name the columns that it gives.")  # fmt: skip
        return found or declared.own_times

    def _check_outputs(self, traced: Traced, declared: DeclaredFields, *, own_times: bool) -> None:
        """Compare the SELECT's columns with the entity's keys and the declared features."""
        if traced.outputs is None:
            return
        wanted = [*self._keys(), *([EVENT_TIMESTAMP] if own_times else []), *declared.fields]
        given = [name.lower() for name in traced.outputs]
        missing = [name for name in wanted if name.lower() not in given]
        expected = {name.lower() for name in wanted}
        extra = [name or "(without a name)" for name in traced.outputs if name.lower() not in expected]
        twice = sorted({name for name in given if name and given.count(name) > 1})
        if missing:
            fix = did_you_mean(missing[0], extra) or "Add them to the SELECT, or remove their declarations."
            self.report.add(f"gives the columns {listing(traced.outputs)} and lacks {listing(missing)}.", fix)
        elif extra:
            self.report.add(f"gives the columns {listing(extra)}, which it does not declare.",
                            f'Declare them with {extra[0]} = feature("…"), or remove them from the SELECT.')  # fmt: skip
        if twice:
            self.report.add(f"gives the columns {listing(twice)} more than once.", "Rename or remove one of each.")

    def _edges(self, traced: Traced, names: Sequence[str]) -> list[ColumnEdge]:
        inputs = {item.alias.lower(): item for item in self.inputs}
        edges: list[ColumnEdge] = []
        for name in names:
            for alias, column, transformation in traced.sources(name):
                kind, dataset = _dataset(inputs[alias])
                edges.append(
                    ColumnEdge(feature=name, kind=kind, dataset=dataset, column=column, transformation=transformation)
                )
        return edges


def _dataset(item: StepInput) -> tuple[Literal["source", "view"], str]:
    match item:
        case EventInput() | DimensionInput():
            return "source", item.source.name
        case SnapshotInput() | HistoryInput():
            return "view", item.view


def compile_python_outputs(
    function: PythonFunction, identity: ViewIdentity, inputs: Sequence[StepInput], relations: Relations,
    declared: DeclaredFields, upstream: Mapping[str, Step],
) -> Outputs:  # fmt: skip
    """Return what a Python view gives.

    Column lineage: only keys are traced, to the inputs' columns of the same name. What a function does with the other
    columns cannot be known, so no edges are claimed for features; the step's inputs say which datasets they come from.
    """
    kind: Literal["snapshot", "event"] = "event" if declared.own_times else "snapshot"
    identity = msgspec.structs.replace(identity, kind=kind)
    identities = [input_identity(item, upstream, None) for item in inputs]
    features = tuple(
        Feature(
            name=name,
            type=str(parse_type(field.type or "")),
            fingerprint=python_fingerprint(identity, name, field.type or "", function, identities),
            description=field.description,
            pii=field.pii,
        )
        for name, field in declared.fields.items()
    )
    edges = [
        ColumnEdge(feature=key.name, kind=_dataset(item)[0], dataset=_dataset(item)[1], column=key.name,
                   transformation="IDENTITY")
        for key in identity.keys
        for item in inputs
        if key.name in (relations[item.alias] or ())
    ]  # fmt: skip
    return Outputs(kind=kind, features=features, lineage=tuple(edges))
