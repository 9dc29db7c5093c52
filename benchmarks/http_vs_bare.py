"""Requests per second of a server with one worker, against a Starlette handler that does the same reads by hand.

Batches of 1 and 100 users by 10 features, from Redis and from LMDB. Both must answer the same bytes before anything is
measured. Rounds alternate between the two servers; the shape that is worst for fstore counts.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from benchmarks.harness import report
from benchmarks.http_load import Load
from benchmarks.http_servers import PATH, WIDTH, Server, bare_server, bodies, fstore_server, put_load, use_today
from benchmarks.online_reads import PROJECT, SEQUENCE, codec, project, rows, view_name
from scripts.servers import redis_server

BATCHES = (1, 100)
CONNECTIONS = 8
ROUNDS = int(os.environ.get("FSTORE_BENCH_RUNS", "3"))
SECONDS = float(os.environ.get("FSTORE_BENCH_SECONDS", "6"))
STORES = os.environ.get("FSTORE_BENCH_STORES", "redis,lmdb").split(",")


def main() -> None:
    use_today()
    ratios: dict[str, float] = {}
    for store in STORES:
        with {"redis": _on_redis, "lmdb": _on_lmdb}[store]() as (ours, bare):
            for batch in BATCHES:
                asked = bodies(batch)
                expected = [bare.post(body) for body in asked]
                for body, answer in zip(asked, expected, strict=True):
                    if ours.post(body) != answer:
                        raise SystemExit(f"the two differ:\n{ours.post(body)}\n{answer}")
                rates: dict[str, list[float]] = {"fstore": [], "bare": []}
                costs: dict[str, list[float]] = {"fstore": [], "bare": []}
                for _ in range(ROUNDS):
                    for name, server in (("fstore", ours), ("bare", bare)):
                        rate, cost = _measure(server, asked, expected)
                        rates[name].append(rate)
                        costs[name].append(cost)
                mine, its = (statistics.median(rates[name]) for name in ("fstore", "bare"))
                own, other = (statistics.median(costs[name]) * 1e6 for name in ("fstore", "bare"))
                ratios[f"{store}, batch {batch}"] = mine / its
                print(
                    f"  {store}, batch {batch}: {mine:,.0f} requests/s of {its:,.0f}, ratio {mine / its:.2f}; processor "
                    f"{own:.0f} us a request of {other:.0f}",
                    flush=True,
                )
    worst = min(ratios, key=ratios.__getitem__)
    shapes = "; ".join(f"{shape} {ratio:.2f}" for shape, ratio in ratios.items())
    report("http_vs_bare", ratios[worst], f"(requests/s of the handler by hand: {shapes}; at least 0.6)")


def _measure(server: Server, asked: list[str], expected: list[str]) -> tuple[float, float]:
    """Return requests per second, and processor seconds of the server per request."""
    before = server.cpu_seconds()
    outcome = put_load(
        Load(port=server.port, path=PATH, bodies=asked, expected=expected, connections=CONNECTIONS, seconds=SECONDS)
    )
    if outcome.wrong or outcome.unavailable:
        raise SystemExit(f"wrong answers: {json.dumps(outcome.wrong)}, {outcome.unavailable} unavailable")
    return outcome.right / outcome.seconds, (server.cpu_seconds() - before) / outcome.right


@contextmanager
def _on_redis() -> Iterator[tuple[Server, Server]]:
    with redis_server() as redis, tempfile.TemporaryDirectory() as root, project(Path(root), redis.url) as backends:
        prefix = f"fstore:{PROJECT}:row:{view_name(WIDTH)}:1:"
        with fstore_server(backends.settings) as ours, bare_server(redis.url, prefix) as bare:
            yield ours, bare


@contextmanager
def _on_lmdb() -> Iterator[tuple[Server, Server]]:
    with tempfile.TemporaryDirectory() as root, project(Path(root), f"lmdb:{root}/online") as backends:
        table, own = rows(WIDTH), codec(WIDTH)
        with (
            lmdb.open(f"{root}/raw", map_size=1 << 30) as environment,
            environment.begin(write=True) as transaction,
            transaction.cursor() as cursor,
        ):
            cursor.putmulti(zip(own.encode_keys(table), own.encode_rows(table, SEQUENCE), strict=True))
        with fstore_server(backends.settings) as ours, bare_server(f"{root}/raw", "") as bare:
            yield ours, bare


if __name__ == "__main__":
    main()
