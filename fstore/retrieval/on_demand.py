"""Evaluate on-demand features: the same code for the rows of a training frame and for an online request.

Compiled once per list of features: all SQL expressions become one SELECT, which the engine parses once; functions are
imported once. Values of stored features come in as the point-in-time join or the online read gave them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from fstore.arrow import arrow_type
from fstore.dataframes import as_column, column_array, declared_column
from fstore.definitions.modules import load_function
from fstore.definitions.references import ON_DEMAND
from fstore.errors import ComputeError, DefinitionError, OutputMismatch, RetrievalError
from fstore.plan.steps import request_column
from fstore.retrieval.entity_rows import request_values
from fstore.types import Column, parse_type

if TYPE_CHECKING:
    from fstore.backends import Backends
    from fstore.engines.engine import Engine
    from fstore.plan.steps import PlannedOnDemand
    from fstore.retrieval.features import SelectedOnDemand, SelectedView, Selection


class OnDemandProgram:
    """The on-demand features of one selection, ready to be evaluated. Safe to share between threads."""

    def __init__(
        self, selected: Sequence[SelectedOnDemand], views: Sequence[SelectedView], engine: Callable[[], Engine],
        definitions_dir: Path,
    ) -> None:  # fmt: skip
        """Compile a selection. ``engine`` is asked for only if there is SQL; functions come from ``definitions_dir``.

        Raises RetrievalError when a function cannot be loaded or a type is not known yet.
        """
        self.selected = tuple(selected)
        self.request = _request(selected)
        stored = {field.name: field.type for view in views for field in view.schema}
        self._functions = [
            (item, _function(item.definition, definitions_dir)) for item in selected if item.definition.function is not None
        ]
        expressions = [item for item in selected if item.definition.sql is not None]
        self._run: Callable[[pa.Table], pa.Table] | None = None
        if expressions:
            requested = {request_column(column): arrow_type(parse_type(column.type)) for column in self.request}
            read = {name: stored[name] for item in expressions for name in item.arguments.values()}
            # a table without a column has no rows; so there is always one
            schema = pa.schema({"row:": pa.bool_(), **read, **requested}.items())
            self._run = engine().compile_rows(_select(expressions), schema)

    def evaluate(self, rows: pa.Table, stored: Mapping[str, pa.ChunkedArray | pa.Array]) -> dict[str, pa.ChunkedArray]:
        """Return the values of every feature by its column; ``rows`` bring the request values, ``stored`` is by column.

        Raises EntityColumnError for a request value that is missing or does not fit its type, and what the SQL or the
        function raises.
        """
        if not self.selected:
            return {}
        requested = self.requested(rows)
        found: dict[str, pa.ChunkedArray] = {}
        if self._run is not None:
            columns = {"row:": pa.nulls(rows.num_rows, pa.bool_()), **stored}
            columns |= {request_column(column): values for column, values in requested.items()}
            result = self._run(pa.table(columns))
            for name in result.column_names:
                item = next(item for item in self.selected if item.column == name)
                found[name] = result[name].cast(arrow_type(parse_type(item.definition.type or "")))
        for item, function in self._functions:
            arguments = {column.name: requested[column] for column in item.definition.request}
            arguments |= {name: _chunked(stored[column]) for name, column in item.arguments.items()}
            found[item.column] = _call(item.definition, function, arguments, rows.num_rows)
        return found

    def requested(self, rows: pa.Table) -> dict[Column, pa.ChunkedArray]:
        """Return the request values. Raises EntityColumnError for one that is missing or does not fit its type."""
        return {column: request_values(rows, column, self._needed_by(column)) for column in self.request}

    def _needed_by(self, column: Column) -> str:
        return next(item.definition.name for item in self.selected if column in item.definition.request)


def on_demand_program(backends: Backends, selection: Selection) -> OnDemandProgram:
    """Compile the on-demand features of a selection, with the project's engine and definition modules."""
    directory = Path(backends.settings.definitions_dir)
    return OnDemandProgram(selection.on_demand, selection.views, lambda: backends.engine, directory)


def _request(selected: Sequence[SelectedOnDemand]) -> tuple[Column, ...]:
    columns = dict.fromkeys(column for item in selected for column in item.definition.request)
    return tuple(columns)


def _select(selected: Sequence[SelectedOnDemand]) -> str:
    values = []
    for item in selected:
        if item.definition.type is None:
            raise RetrievalError(
                f"the type of on-demand feature {item.definition.name!r} is not known yet, because the sources behind "
                "it were never read. Run `fstore apply` where they can be read."
            )
        name = item.column.replace('"', '""')
        values.append(f'{item.definition.sql} AS "{name}"')
    return f"SELECT {', '.join(values)} FROM rows"


def _function(definition: PlannedOnDemand, directory: Path) -> Callable[..., object]:
    assert definition.function is not None, "the caller chose those with one"
    try:
        return load_function(directory, definition.function)
    except (DefinitionError, ImportError) as error:
        raise RetrievalError(
            f"on-demand feature {definition.name!r} is computed by the Python function {definition.function.name!r} of "
            f"{definition.function.module}, which cannot be loaded from {directory}: {error} A client that reads it needs "
            "the project's definition modules as they were applied (set FSTORE_ROOT to the project); SQL needs none."
        ) from error


def _call(
    definition: PlannedOnDemand, function: Callable[..., object], arguments: Mapping[str, pa.ChunkedArray], rows: int
) -> pa.ChunkedArray:
    """Call a function with whole columns, and check what it returns."""
    assert definition.function is not None, "the caller chose those with one"
    subject = f"function {definition.function.name!r} ({definition.function.module}) of {ON_DEMAND}:{definition.name}"
    frames = definition.function.frames
    given = {name: as_column(column, frames.get(name, "arrow")) for name, column in arguments.items()}
    try:
        output = function(**given)
    except Exception as error:
        raise ComputeError(f"{subject} raised {type(error).__name__}: {error}") from error
    column = column_array(output)
    if column is None:
        raise OutputMismatch(
            f"{subject} returned {type(output).__name__}; expected an Arrow array, a pandas or Polars Series"
        )
    if len(column) != rows:
        raise OutputMismatch(f"{subject} returned {len(column)} values for {rows} rows; expected one per row, in order")
    wanted = arrow_type(parse_type(definition.type or ""))
    try:
        return declared_column(column, wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise OutputMismatch(
            f"{subject} returned {column.type}, which does not fit its type {definition.type}: {error}"
        ) from None


def _chunked(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray:
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
