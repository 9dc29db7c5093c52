"""Asking an engine what a query gives, before there is anything to compute.

The plan itself opens nothing: whoever compiles with types hands in a :data:`Bind`, which describes a SELECT over empty
relations. Takes SQL and the types of its relations, and gives the types of its columns, or reports why there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Set

from fstore.definitions.problems import Reporter
from fstore.errors import ComputeError
from fstore.plan.columns import Schemas, source_columns
from fstore.plan.conversions import converts_exactly, is_type
from fstore.plan.inference import sql_type
from fstore.plan.steps import EVENT_TIMESTAMP, DimensionInput, EventInput, HistoryInput, SnapshotInput, StepInput
from fstore.types import parse_type

RelationTypes = Mapping[str, Mapping[str, str]]
"""Alias to column to type text of the relations that a SELECT reads."""

Bind = Callable[[str, RelationTypes, Collection[str]], Mapping[str, str]]
"""Describes a SELECT over relations with the given columns and types, and instants by the given names as parameters.

Returns its columns with types as text (``unsupported(…)`` where fstore has none). Raises ComputeError when it is refused.
"""


def relation_types(item: StepInput, schemas: Schemas, names: Set[str] | None) -> dict[str, str] | None:
    """Return the columns that an input shows with their types; None while one of them is not known.

    ``names`` are the lower-case names that the reader can mean (None: all). Columns of a type that fstore has no name for
    are left out, and where the reader can mean one nothing is known.
    """
    match item:
        case EventInput() | DimensionInput():
            columns = source_columns(item.source, schemas)
            if columns is None:
                return None
            times = (item.source.event_time, getattr(item.source, "updated_at", None))
            if unnamed_type(columns, names) is not None:
                return None
            shown = {name: text for name, text in columns.items() if is_type(text)}
            return {name: "timestamp" if name in times and text == "date" else text for name, text in shown.items()}
        case SnapshotInput() | HistoryInput():
            features = {column.name: column.type for column in item.features}
            if not all(is_type(text) for text in features.values()):
                return None
            return {**{key.name: key.type for key in item.keys}, EVENT_TIMESTAMP: "timestamp", **features}


def unnamed_type(columns: Mapping[str, str], names: Set[str] | None) -> str | None:
    """Return a column that the reader can mean and whose type fstore has no name for, if there is one."""
    meant = (name for name in columns if names is None or name.lower() in names)
    return next((name for name in meant if not is_type(columns[name])), None)


def bound_columns(
    bind: Bind, sql: str, relations: RelationTypes, parameters: Collection[str], report: Reporter
) -> dict[str, str] | None:
    """Return the types of a SELECT's columns; None, and a problem, when the engine refuses it."""
    try:
        return dict(bind(sql, relations, parameters))
    except ComputeError as error:
        report.add(f"has SQL that the engine refuses: {first_lines(str(error))}")
        return None


def check_declared(name: str, declared: str, bound: str, report: Reporter) -> None:
    """Report a declared type that not every value of the bound type fits without a decision of the author's.

    ``name`` is that of an output column, empty for the value of an expression.
    """
    if not converts_exactly(bound, declared):
        given = _plain(bound)
        report.add(
            f"declares {f'{name!r} as ' if name else 'the type '}{declared}, and its SQL gives {given}.",
            f"Declare it as {given}, or convert it in the SQL: CAST({name or '…'} AS {sql_type(parse_type(declared))}).",
        )


def bound_type(name: str, bound: str, report: Reporter) -> str | None:
    """Return the type of a column that declares none, or report why it has to."""
    if bound.startswith("unsupported(") or "NULL" in bound:
        report.add(
            f"gives {repr(name) if name else 'a value'} as {_plain(bound)}, which is none of the types of fstore.",
            "Convert it in the SQL with CAST.",
        )
        return None
    return bound


def _plain(bound: str) -> str:
    """Return a bound type as messages name it."""
    return bound.removeprefix("unsupported(").removesuffix(")").strip('"') if bound.startswith("unsupported(") else bound


def first_lines(text: str) -> str:
    """Return a message of the engine on one line, up to its picture of the SQL."""
    lines = []
    for line in text.splitlines():
        if line.strip().startswith(("LINE ", "in the SQL:", "Candidate functions:")) or not line.strip():
            break
        lines.append(line.strip())
    message = " ".join(lines).rstrip()
    return message if message.endswith((".", "?", "!")) else f"{message}."
