"""Answers that hold a table: columns of values with their types as JSON, or the same as an Arrow stream.

A JSON answer has ``columns`` (name and logical type, in order), ``rows``, and ``values`` (a list per column). A training
frame brings its manifest: beside the values, or in the metadata of the stream's schema.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa

from fstore.retrieval.training import MANIFEST_KEY, Manifest, TrainingFrame
from fstore.serving.exchange import Answer
from fstore.serving.json_values import encode_column, json_type
from fstore.serving.media import Form

_BATCH_ROWS = 65_536


class ColumnDescription(msgspec.Struct, frozen=True, kw_only=True):
    """A column of an answer: its name, and its logical type as definitions write it (``null``: no value is known)."""

    name: str
    type: str


class TableAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer in JSON: the given columns first, then the features in the order asked for."""

    columns: list[ColumnDescription]
    rows: int
    values: dict[str, list[Any]]


class FrameAnswer(TableAnswer, frozen=True, kw_only=True):
    """An answer to a historical read, with the manifest that rebuilds it."""

    manifest: Manifest


def frame_answer(frame: TrainingFrame, form: Form) -> Answer:
    """Return a training frame as an answer. Raises NotAcceptable for what JSON has no form for."""
    table = frame.to_arrow()
    if form is Form.ARROW:
        return arrow_answer(table)
    answer = FrameAnswer(
        columns=[ColumnDescription(name=field.name, type=json_type(field.type, field.name)) for field in table.schema],
        rows=table.num_rows,
        values={name: encode_column(table[name], name) for name in table.column_names},
        manifest=frame.manifest,
    )
    return Answer(body=[msgspec.json.encode(answer)], content_type=form.value, rows=table.num_rows)


def read_frame(body: bytes) -> TrainingFrame:
    """Return the training frame that an Arrow answer holds."""
    table = read_table(body)
    manifest = Manifest.from_json(table.schema.metadata[MANIFEST_KEY])
    return TrainingFrame(table.replace_schema_metadata(None), manifest)


def arrow_answer(table: pa.Table) -> Answer:
    """Return a table as an answer in Arrow."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=_BATCH_ROWS)
    return Answer(body=[memoryview(sink.getvalue())], content_type=Form.ARROW.value, rows=table.num_rows)


def read_table(body: bytes) -> pa.Table:
    """Return the table that an Arrow answer holds."""
    with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
        return reader.read_all()
