"""What the routes take: the options of a read, and the entities that it is about, as JSON or as an Arrow stream.

In JSON one object holds both. An Arrow stream holds the entities as its rows, and the options as a JSON object under
``fstore.request`` in the metadata of its schema. The options are those of the :class:`~fstore.Client`'s methods. A field
that nobody knows is an error: it would be a mistake passed over in silence.
"""

from __future__ import annotations

import re
from typing import Any, TypeAlias, TypeVar

import msgspec
import pyarrow as pa

from fstore.decoding import decode_json, json_decoder
from fstore.errors import RequestInvalid, RequestTooLarge, did_you_mean, listing
from fstore.retrieval.training import Accuracy, Missing

REQUEST_KEY = b"fstore.request"
"""Where an Arrow stream has the options, in the metadata of its schema."""

Entities: TypeAlias = dict[str, list[Any]] | list[dict[str, Any]]
"""Entities in JSON: lists by column, or an object per entity."""

_MOST_LISTS, _LONGEST_LIST = 1000, 1 << 16
"""How many lists of features are kept decoded, and of how many bytes at most."""
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every read asks for: features or a service, and how their columns are named."""

    features: list[str] | None = None
    service: str | None = None
    full_names: bool = False


class OnlineOptions(Asked, frozen=True, kw_only=True):
    """The options of an online read. ``statuses`` and ``event_timestamps`` ask for these beside the values."""

    statuses: bool = False
    event_timestamps: bool = False


class OnlineRequest(OnlineOptions, frozen=True, kw_only=True):
    """An online read in JSON. ``types`` says which columns hold what JSON has no form of its own for."""

    entities: Entities
    request: dict[str, list[Any]] | None = None
    types: dict[str, str] = {}


class _PlainOnlineRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An online read that asks for nothing but values of features; these as they were sent."""

    features: msgspec.Raw
    entities: Entities


class HistoricalOptions(Asked, frozen=True, kw_only=True):
    """The options of a historical read. ``as_of`` is a sequence, or an instant as text."""

    timestamp_column: str = "event_timestamp"
    missing: Missing = "error"
    as_of: int | str | None = None
    accuracy: Accuracy = "snapshot"
    matures_after: str | None = None


class HistoricalRequest(HistoricalOptions, frozen=True, kw_only=True):
    """A historical read in JSON."""

    entity_rows: Entities
    types: dict[str, str] = {}


class BatchOptions(Asked, frozen=True, kw_only=True):
    """The options of a read of the newest values."""


class BatchRequest(BatchOptions, frozen=True, kw_only=True):
    """A read of the newest values in JSON."""

    entity_rows: Entities
    types: dict[str, str] = {}


Options = TypeVar("Options", bound=msgspec.Struct)


def read_json(kind: type[Options], body: bytes) -> Options:
    """Return the request that a JSON body holds. Raises RequestInvalid, which names the field."""
    try:
        found: Options = decode_json(body, kind)
    except msgspec.ValidationError as error:
        raise RequestInvalid(_explained(kind, str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestInvalid(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise RequestInvalid("the body is nested too deep") from None
    return found


class OnlineRequests:
    """Decodes online reads in JSON; lists of features that came before are not decoded again.

    Callers send the same list again and again, and decoding and comparing its texts takes longer than looking up a row. What
    is not plain is left to :func:`read_json`, and so are the errors.
    """

    def __init__(self) -> None:
        self._decoder: msgspec.json.Decoder[_PlainOnlineRequest] = json_decoder(_PlainOnlineRequest)
        self._lists: dict[bytes, list[str]] = {}

    def read(self, body: bytes) -> OnlineRequest:
        """Return the request that a JSON body holds. Raises RequestInvalid, which names the field."""
        try:
            plain = self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return read_json(OnlineRequest, body)
        text = bytes(plain.features)
        features = self._lists.get(text)
        if features is not None:
            return OnlineRequest(features=features, entities=plain.entities)
        request = read_json(OnlineRequest, body)
        if request.features is not None and len(text) <= _LONGEST_LIST:
            if len(self._lists) >= _MOST_LISTS:
                self._lists.clear()
            self._lists[text] = request.features
        return request


def read_arrow(kind: type[Options], body: bytes, limit: int) -> tuple[Options, pa.Table]:
    """Return the options and the entities that an Arrow stream holds.

    Raises RequestInvalid, also for a stream that is damaged, and RequestTooLarge for more rows than ``limit``.
    """
    try:
        with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
            metadata = dict(reader.schema.metadata or {})
            batches: list[pa.RecordBatch] = []
            rows = 0
            for batch in reader:
                rows += batch.num_rows
                check_rows(rows, limit)
                batches.append(batch)
            table = pa.Table.from_batches(batches, reader.schema)
        table.validate(full=True)
        _ = table.column_names  # which are decoded now
    except (pa.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
        raise RequestInvalid(f"the body is no Arrow IPC stream: {error}") from None
    options = metadata.pop(REQUEST_KEY, None)
    if options is None:
        raise RequestInvalid(
            f"the stream's schema has no metadata {REQUEST_KEY.decode()!r}: put the options there as a JSON object, such as "
            '{"features": ["view:feature"]}'
        )
    return read_json(kind, options), table.replace_schema_metadata(metadata or None)


def write_arrow(options: msgspec.Struct, entities: pa.Table) -> bytes:
    """Return entities and options as the Arrow stream that :func:`read_arrow` reads."""
    metadata = {**(entities.schema.metadata or {}), REQUEST_KEY: msgspec.json.encode(options)}
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, entities.schema.with_metadata(metadata)) as writer:
        writer.write_table(entities)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def check_rows(rows: int, limit: int) -> None:
    """Raise RequestTooLarge when there are more entity rows than the server takes."""
    if rows > limit:
        raise RequestTooLarge(f"the request has more than {limit:,} entity rows, which is what this server takes: split it")


def count_rows(entities: Entities) -> int:
    """Return the number of entities, which is that of the longest column where they differ."""
    if isinstance(entities, dict):
        return max(map(len, entities.values()), default=0)
    return len(entities)


def _explained(kind: type[msgspec.Struct], problem: str) -> str:
    """Word what msgspec says of a body, with the fields that there are and the nearest one."""
    if match := _UNKNOWN.search(problem):
        name, known = match[1], [field.encode_name for field in msgspec.structs.fields(kind)]
        return f"the request has no field {name!r}; it has {listing(known)}.{did_you_mean(name, known)}"
    return f"the request is not what this route takes: {problem}"
