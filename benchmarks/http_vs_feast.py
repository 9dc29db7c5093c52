"""Requests per second of a server with one worker, against ``feast serve`` with one worker over the same rows and Redis.

Batches of 1 and 100 users by 10 features. Feast 0.67 runs in an environment of its own. Rounds alternate; the worse batch
counts.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import online_reads
from benchmarks.harness import report
from benchmarks.http_load import Load
from benchmarks.http_servers import PATH, WIDTH, Server, bodies, fstore_server, put_load, running, use_today
from benchmarks.online_feast import USERS, feast
from benchmarks.online_reads import columns, features, project
from benchmarks.peers import FEAST, peer_python
from scripts.servers import free_port, redis_server

BATCHES = (1, 100)
CONNECTIONS = 8
ROUNDS = int(os.environ.get("FSTORE_BENCH_RUNS", "3"))
SECONDS = float(os.environ.get("FSTORE_BENCH_SECONDS", "6"))
FEAST_PATH = "/get-online-features"


def main() -> None:
    use_today()
    online_reads.USERS = USERS
    speedups: dict[int, float] = {}
    with redis_server() as redis, tempfile.TemporaryDirectory() as root:
        store = {"type": "redis", "connection_string": f"127.0.0.1:{redis.port},db=1"}
        with (
            project(Path(root), redis.url) as backends,
            feast(Path(root), store),
            _feast_server(Path(root), store) as theirs,
            fstore_server(backends.settings) as ours,
        ):
            for batch in BATCHES:
                asked = bodies(batch)
                _check(ours, theirs, asked[:8])
                rates: dict[str, list[float]] = {"fstore": [], "feast": []}
                for _ in range(ROUNDS):
                    rates["fstore"].append(_rate(ours, PATH, asked))
                    rates["feast"].append(_rate(theirs, FEAST_PATH, asked))
                mine, its = (statistics.median(rates[name]) for name in ("fstore", "feast"))
                speedups[batch] = mine / its
                print(f"  batch {batch}: {mine:,.0f} requests/s, feast serve {its:,.1f}: {mine / its:.1f} x", flush=True)
    text = ", ".join(f"batch {batch} {times:.1f} x" for batch, times in speedups.items())
    report("http_vs_feast", min(speedups.values()), f"(requests/s of feast serve, one worker each: {text}; at least 4)")


def _rate(server: Server, path: str, asked: list[str]) -> float:
    load = Load(port=server.port, path=path, bodies=asked, expected=None, connections=CONNECTIONS, seconds=SECONDS)
    outcome = put_load(load)
    if outcome.wrong or outcome.unavailable:
        raise SystemExit(f"{path}: wrong answers: {json.dumps(outcome.wrong)}, {outcome.unavailable} unavailable")
    return outcome.right / outcome.seconds


@contextmanager
def _feast_server(directory: Path, store: dict[str, str]) -> Iterator[Server]:
    """Run ``feast serve`` over what :func:`feast` has filled."""
    configuration = {
        "project": "bench", "provider": "local", "registry": str(directory / "feast.db"), "offline_store": {"type": "file"},
        "online_store": store, "entity_key_serialization_version": 3,
    }  # fmt: skip
    (directory / "feature_store.yaml").write_text(json.dumps(configuration), encoding="utf-8")  # JSON is YAML, too
    port = free_port()
    binary = peer_python("feast", FEAST).with_name("feast")
    command = [str(binary), "--chdir", str(directory), "serve", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
               "--no-access-log", "--max-requests", "0"]  # fmt: skip
    with running(command, port, {"PYTHONPATH": "", "FEAST_USAGE": "False", "IS_TEST": "True"}, directory) as server:
        yield server


def _check(ours: Server, theirs: Server, asked: list[str]) -> None:
    """Fail unless both give the same values; what Feast does not know is null there, as here."""
    for body in asked:
        mine = json.loads(ours.post(body))["values"]
        answer = json.loads(theirs.post(body, FEAST_PATH))
        names = answer["metadata"]["feature_names"]
        its = {name: result["values"] for name, result in zip(names, answer["results"], strict=True)}
        for column in columns(WIDTH):
            if mine[column.name] != its[column.name]:
                raise SystemExit(f"the two differ in {column.name}: {mine[column.name]} and {its[column.name]}")
    assert len(features(WIDTH)) == WIDTH


if __name__ == "__main__":
    main()
