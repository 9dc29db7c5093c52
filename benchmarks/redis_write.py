"""Writing 1 M published rows to Redis, against a hand-written Lua compare-and-set of the same bytes.

fstore reads Parquet, packs, writes and raises the floor; the bound is handed packed rows and does nothing but send them,
500 keys a call and 10 calls a pipeline. Both replace an older publication, so that every row is compared.
"""

from __future__ import annotations

import time
from functools import partial

import redis

from benchmarks.harness import MEBIBYTE, measure, report
from benchmarks.online_rows import CODEC, END, ROWS, VIEW, batches, check, packed, prepare
from fstore.stores.online import Floor, apply_rows
from fstore.stores.redis import RedisStore
from scripts.servers import redis_server

BOUND_SCRIPT = """
local n = #KEYS
local old = redis.call('MGET', unpack(KEYS))
local put, k = {}, 0
for i = 1, n do
  local o, v = old[i], ARGV[i]
  if (not o) or string.sub(o, 1, 16) < string.sub(v, 1, 16) then
    put[k + 1], put[k + 2] = KEYS[i], v
    k = k + 2
  end
end
if k > 0 then redis.call('MSET', unpack(put, 1, k)) end
return k / 2
"""


def fstore_write(url: str) -> float:
    fill(url)
    store = RedisStore(url, VIEW.project)
    started = time.perf_counter()
    applied = apply_rows(store, VIEW, CODEC, batches(), 2)
    store.raise_floor(VIEW, Floor(sequence=2, end=END))
    seconds = time.perf_counter() - started
    assert applied.written == ROWS
    keys = [b"user-%08d" % n for n in range(0, ROWS, 997)]
    check(store.read_rows(VIEW, keys), keys)
    store.close()
    return seconds


def hand_written(url: str) -> float:
    fill(url)
    keys, rows = packed(2)
    prefix = b"fstore:bench:row:user_purchases:1:"
    keys = [prefix + key for key in keys]
    client = redis.Redis.from_url(url, socket_timeout=120)
    sha = client.script_load(BOUND_SCRIPT)
    written = 0
    started = time.perf_counter()
    for first in range(0, len(keys), 5000):
        pipeline = client.pipeline(transaction=False)
        for start in range(first, min(first + 5000, len(keys)), 500):
            part = keys[start : start + 500]
            pipeline.evalsha(sha, len(part), *part, *rows[start : start + 500])
        written += sum(pipeline.execute())
    seconds = time.perf_counter() - started
    assert written == ROWS
    check(client.mget(keys[::997]), keys[::997])
    client.close()
    return seconds


def fill(url: str) -> None:
    """Write the older publication, in pieces, so that it costs this process no memory worth counting."""
    with redis.Redis.from_url(url, socket_timeout=120) as client:
        client.flushall()
    store = RedisStore(url, VIEW.project)
    store.create("bench")
    apply_rows(store, VIEW, CODEC, batches(), 1)
    store.close()


def main() -> None:
    prepare()
    with redis_server() as server:
        measured = measure({"fstore": partial(fstore_write, server.url), "hand-written": partial(hand_written, server.url)})
    ours, bound = measured["fstore"], measured["hand-written"]
    speeds = f"{ROWS / ours.median:,.0f} rows/s, hand-written {ROWS / bound.median:,.0f}"
    report(
        "redis_write",
        ours.median / bound.median,
        f"({speeds}, peak {ours.peak_bytes // MEBIBYTE} MB; at most 2.5 and 500 MB)",
    )


if __name__ == "__main__":
    main()
