"""A read as bytes to send, and its answer as what the caller gets: the part of the clients that knows no connection.

Everything travels as Arrow, so that every type and value is what it was. Which class an answer becomes, and which exception,
is the same as for a client that reads the stores itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from fstore.errors import RetrievalError, ServerFailed
from fstore.interval import format_duration
from fstore.retrieval.entity_rows import EntityRows, read_entity_rows, with_request
from fstore.retrieval.features import Wanted, as_texts
from fstore.retrieval.training import Accuracy, Missing
from fstore.serving.media import ARROW_TYPE, Form
from fstore.serving.problems import decode_problem
from fstore.serving.requests import BatchOptions, HistoricalOptions, OnlineOptions, write_arrow

if TYPE_CHECKING:
    import pyarrow as pa

ONLINE, HISTORICAL, BATCH = "/v1/online-features", "/v1/historical-features", "/v1/batch-features"
SCAN = "/v1/scan-historical-features"
HEADERS = {"content-type": ARROW_TYPE, "accept": ARROW_TYPE}
TIMEOUT_HEADER = "fstore-timeout"


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """A request: where it goes and what it holds."""

    path: str
    body: bytes


def online_request(
    features: Sequence[Wanted] | None,
    entities: EntityRows | None,
    request: Mapping[str, Sequence[object]] | None,
    service: str | None,
    *,
    full_names: bool,
) -> Sent:
    """Return an online read as it is sent; raises what the reader of the stores raises for entities that are none."""
    if entities is None:
        raise RetrievalError('entities is missing: pass the join keys, such as entities={"user_id": ["u1", "u2"]}')
    options = OnlineOptions(
        features=_texts(features), service=service, full_names=full_names, statuses=True, event_timestamps=True
    )
    return _sent(ONLINE, options, with_request(read_entity_rows(entities), request))


def historical_request(
    entity_rows: EntityRows,
    features: Sequence[Wanted] | None,
    service: str | None,
    *,
    timestamp_column: str,
    missing: Missing,
    as_of: int | datetime | None,
    full_names: bool,
    accuracy: Accuracy,
    matures_after: str | timedelta | None,
    path: str = HISTORICAL,
) -> Sent:
    """Return a historical read as it is sent."""
    if isinstance(as_of, datetime) and as_of.tzinfo is None:
        raise RetrievalError(f"as_of must be an instant with a time zone, got {as_of!r}: add tzinfo=UTC")
    options = HistoricalOptions(
        features=_texts(features), service=service, full_names=full_names, timestamp_column=timestamp_column,
        missing=missing, as_of=as_of.isoformat() if isinstance(as_of, datetime) else as_of, accuracy=accuracy,
        matures_after=_duration(matures_after),
    )  # fmt: skip
    return _sent(path, options, read_entity_rows(entity_rows))


def _duration(duration: str | timedelta | None) -> str | None:
    if not isinstance(duration, timedelta):
        return duration
    try:
        return format_duration(duration)
    except ValueError as error:
        raise RetrievalError(f"matures_after cannot be sent to a server: {error}") from None


def batch_request(
    entity_rows: EntityRows, features: Sequence[Wanted] | None, service: str | None, *, full_names: bool
) -> Sent:
    """Return a read of the newest values as it is sent."""
    options = BatchOptions(features=_texts(features), service=service, full_names=full_names)
    return _sent(BATCH, options, read_entity_rows(entity_rows))


def read_answer(status: int, headers: Mapping[str, str], body: bytes, where: str) -> bytes:
    """Return the body of an answer that is one; raises the error that it tells of otherwise."""
    content_type = headers.get("content-type", "")
    if status != 200:
        raise decode_problem(status, content_type, body, where)
    if content_type != Form.ARROW.value:
        raise ServerFailed(f"{where} answered {content_type!r} instead of {Form.ARROW.value!r}: is it an fstore server?")
    return body


def _texts(features: Sequence[Wanted] | None) -> list[str] | None:
    texts = as_texts(features)
    return None if texts is None else list(texts)


def _sent(path: str, options: msgspec.Struct, rows: pa.Table) -> Sent:
    return Sent(path=path, body=write_arrow(options, rows))
