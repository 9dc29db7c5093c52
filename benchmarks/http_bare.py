"""The server that ``http_vs_bare`` compares with: a Starlette handler that reads one view by hand and answers the same JSON.

    FSTORE_BENCH_BARE='{"url": "redis://…", …}' uvicorn benchmarks.http_bare:app

It knows the names, the layout and the key prefix by heart, applies the empty row and ttl, and checks nothing. JSON is read
and written by msgspec, rows are unpacked by ``struct``, the store is read by redis.asyncio or one LMDB transaction.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Awaitable, Callable

import lmdb
import msgspec
import redis.asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.online_reads import columns

WIDTH = 10


class Bare(msgspec.Struct, frozen=True, kw_only=True):
    """Where the rows are, and what the handler has to know: the empty row's time and ttl in microseconds."""

    url: str
    prefix: str
    floor_end: int
    ttl: int


class Asked(msgspec.Struct):
    features: list[str]
    entities: dict[str, list[str]]


CONFIGURATION = msgspec.json.decode(os.environ["FSTORE_BENCH_BARE"], type=Bare)
COLUMNS = columns(WIDTH)
TEXT = next(place for place, column in enumerate(COLUMNS) if column.type == "string")
HEAD = struct.Struct(">Qq")
FIXED = struct.Struct(
    "<" + "".join({"float64": "d", "int64": "q", "bool": "?", "string": ""}[c.type] for c in COLUMNS) + "I"
)
SIZE = 24 + (WIDTH + 7) // 8 + FIXED.size
BEGIN = (
    b'{"columns":'
    + msgspec.json.encode([{"name": "user_id", "type": "string"}, *({"name": c.name, "type": c.type} for c in COLUMNS)])
    + b',"rows":'
)
decoder = msgspec.json.Decoder(Asked)


def _reads() -> Callable[[list[bytes]], Awaitable[list[bytes | None]]]:
    prefix = CONFIGURATION.prefix.encode()
    if CONFIGURATION.url.startswith("redis"):
        client = redis.asyncio.Redis.from_url(CONFIGURATION.url)
        return lambda keys: client.mget([prefix + key for key in keys])
    environment = lmdb.open(CONFIGURATION.url, map_size=1 << 30, readahead=False, readonly=True, lock=False)

    async def read(keys: list[bytes]) -> list[bytes | None]:
        with environment.begin() as transaction:
            return [transaction.get(key) for key in keys]

    return read


read = _reads()


async def online_features(request: Request) -> Response:
    asked = decoder.decode(await request.body())
    users = asked.entities["user_id"]
    oldest = int(time.time() * 1_000_000) - CONFIGURATION.ttl
    lists: list[list[object]] = [[] for _ in COLUMNS]
    for row in await read([user.encode() for user in users]):
        micros = CONFIGURATION.floor_end if row is None else HEAD.unpack_from(row)[1]
        if row is None or micros < oldest:
            for values in lists:
                values.append(None)
            continue
        valid = row[24] | row[25] << 8
        *numbers, end = FIXED.unpack_from(row, 26)
        numbers.insert(TEXT, row[SIZE : SIZE + end].decode())
        for place, values in enumerate(lists):
            values.append(numbers[place] if valid >> place & 1 else None)
    values = {"user_id": users, **{column.name: found for column, found in zip(COLUMNS, lists, strict=True)}}
    body = BEGIN + str(len(users)).encode() + b',"values":' + msgspec.json.encode(values) + b"}"
    return Response(body, media_type="application/json")


app = Starlette(routes=[Route("/v1/online-features", online_features, methods=["POST"])])
