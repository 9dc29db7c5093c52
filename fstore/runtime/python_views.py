"""Run the function of a Python view over one interval: whole, or some of the keys at a time.

Takes a step and the relations of its inputs; gives the tables that the function returns, as Arrow. Inputs that do not fit
into memory are split by key where the view allows it (``transform(f, by_key=True)``), and are an error otherwise.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterator, Mapping

import msgspec
import pyarrow as pa

from fstore.backends import Backends
from fstore.dataframes import as_frame, frame_table
from fstore.definitions.modules import load_function
from fstore.engines.engine import Query, Relation
from fstore.errors import ComputeError, OutputMismatch
from fstore.interval import Interval
from fstore.plan.inference import sql_type
from fstore.plan.sql import quoted
from fstore.plan.steps import DimensionInput, EventInput, HistoryInput, PythonStep, SnapshotInput, StepInput
from fstore.types import parse_type

SHARE_OF_MEMORY = 0.5
"""How much of the memory limit the inputs of one call may take; the rest is for the function."""

_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


class _Input(msgspec.Struct, frozen=True):
    """An input's relation, and SQL of the batch that a row belongs to; none where the input comes whole to every call."""

    relation: Relation
    batch_of: str


def python_tables(
    backends: Backends, step: PythonStep, relations: Mapping[str, Relation], interval: Interval
) -> Iterator[pa.Table]:
    """Yield what a view's function returns for an interval: one table, or one per batch of keys.

    Raises ComputeError when the function fails or its inputs do not fit, and OutputMismatch when it returns no table.
    """
    function = load_function(backends.settings.definitions_dir, step.function)
    budget = int(memory_bytes(backends.settings.memory_limit) * SHARE_OF_MEMORY)
    inputs = {item.alias: _Input(relations[item.alias], _batch_of(step, item, backends)) for item in step.inputs}
    read = _read_within(backends, inputs, budget)
    if read is not None:
        yield call_function(function, read, step, interval)
        return
    if not step.function.by_key:
        raise ComputeError(
            f"the inputs of {_subject(step)} take more than {budget:,} bytes for {interval}, half of the memory limit of "
            f"{backends.settings.memory_limit}. If {step.function.name!r} computes each key from the rows of that key "
            f"alone, write compute = transform({step.function.name}, by_key=True), which runs it on some of the keys at a "
            "time; else narrow the windows of its inputs, or raise memory_limit (FSTORE_MEMORY_LIMIT).",
            view=step.view,
        )
    batches = -(-_total_bytes(backends, inputs, budget) // budget) + 1
    for number in range(batches):
        part = {alias: _read(backends, alias, item, (number, batches)) for alias, item in inputs.items()}
        yield call_function(function, part, step, interval)


def memory_bytes(text: str) -> int:
    """Return the number of bytes that a memory limit such as ``4GB`` means."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError(f"not a size: {text!r}")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def _batch_of(step: PythonStep, item: StepInput, backends: Backends) -> str:
    """Return SQL that is the same for rows of one key in every input, empty where an input lacks a part of the key."""
    columns = {name.lower(): name for name in _columns(item, backends)}
    if any(key.name.lower() not in columns for key in step.keys):
        return ""
    parts = [f"CAST({quoted(columns[key.name.lower()])} AS {sql_type(parse_type(key.type))})" for key in step.keys]
    return f"hash({', '.join(parts)})"


def _columns(item: StepInput, backends: Backends) -> list[str]:
    match item:
        case SnapshotInput() | HistoryInput():
            return [key.name for key in item.keys]
        case EventInput() | DimensionInput():
            return list(backends.engine.source_schema(item.source))


def _query(alias: str, item: _Input, part: tuple[int, int] | None, columns: str = "*") -> Query:
    where = "" if part is None or not item.batch_of else f" WHERE {item.batch_of} % {part[1]} = {part[0]}"
    return Query(sql=f"SELECT {columns} FROM {quoted(alias)}{where}", relations={alias: item.relation})


def _read(backends: Backends, alias: str, item: _Input, part: tuple[int, int] | None) -> pa.Table:
    with backends.engine.read(_query(alias, item, part)) as reader:
        return reader.read_all()


def _read_within(backends: Backends, inputs: Mapping[str, _Input], budget: int) -> dict[str, pa.Table] | None:
    """Return all inputs whole; None as soon as they turn out to take more than the budget."""
    tables: dict[str, pa.Table] = {}
    taken = 0
    for alias, item in inputs.items():
        with backends.engine.read(_query(alias, item, None)) as reader:
            batches: list[pa.RecordBatch] = []
            for batch in reader:
                taken += batch.nbytes
                if taken > budget:
                    return None
                batches.append(batch)
            tables[alias] = pa.Table.from_batches(batches, schema=reader.schema)
    return tables


def _total_bytes(backends: Backends, inputs: Mapping[str, _Input], budget: int) -> int:
    """Return about how many bytes the inputs take that can be split: the width of first rows times the number of rows."""
    total = 0
    for alias, item in inputs.items():
        if not item.batch_of:
            continue
        with backends.engine.read(_query(alias, item, None, "count(*) AS n")) as reader:
            (row,) = reader.read_all().to_pylist()
        sampled = sampled_bytes = 0
        with backends.engine.read(_query(alias, item, None)) as reader:
            for batch in reader:
                sampled, sampled_bytes = sampled + batch.num_rows, sampled_bytes + batch.nbytes
                if sampled_bytes > budget:
                    break
        total += -(-sampled_bytes * int(row["n"]) // max(sampled, 1))
    return total


def call_function(
    function: Callable[..., object], tables: Mapping[str, pa.Table], step: PythonStep, interval: Interval
) -> pa.Table:
    """Call the user's function; its exception becomes an error that names the line in the user's file."""
    frames = step.function.frames
    arguments = {alias: as_frame(table, frames.get(alias, "arrow")) for alias, table in tables.items()}
    if "interval" in step.function.parameters:
        arguments["interval"] = interval
    try:
        output = function(**arguments)
    except Exception as error:
        lines = [
            frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(step.function.module)
        ]
        where = f"{step.function.module}:{lines[-1].lineno}" if lines else step.function.module
        raise ComputeError(
            f"function {step.function.name!r} ({where}) of view {step.view!r} raised {type(error).__name__} for interval "
            f"{interval}: {error}",
            view=step.view,
        ) from error
    try:
        table = frame_table(output)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise OutputMismatch(
            f"function {step.function.name!r} of {_subject(step)} returned a frame with a column of mixed values: {error}",
            view=step.view,
        ) from None
    if table is None:
        raise OutputMismatch(
            f"function {step.function.name!r} of {_subject(step)} returned {type(output).__name__}; expected a "
            "pyarrow.Table, or a DataFrame of pandas or Polars",
            view=step.view,
        )
    return table


def _subject(step: PythonStep) -> str:
    return f"view {step.view!r} ({step.module}:{step.line})"
