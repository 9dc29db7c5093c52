"""Servers that the benchmarks over HTTP measure, each in a process of its own, and the load that is put on them.

All serve the same project, the one of :mod:`benchmarks.online_reads` with its end at the last midnight, so that ttl holds.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import psutil

from benchmarks import online_reads
from benchmarks.http_load import Load, Outcome
from benchmarks.online_reads import TTL, features, sample
from fstore.settings import Settings
from scripts.servers import free_port

WIDTH = 10
PATH = "/v1/online-features"
START_SECONDS = 120.0
ROOT = Path(__file__).resolve().parent.parent


class Server:
    """A server that runs: its port and its process."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process, self.port = process, port

    def cpu_seconds(self) -> float:
        """Processor seconds of the process and its children so far."""
        processes = [psutil.Process(self.process.pid)]
        processes += processes[0].children(recursive=True)
        return sum(sum(process.cpu_times()[:2]) for process in processes)

    def resident_bytes(self) -> int:
        process = psutil.Process(self.process.pid)
        return int(process.memory_info().rss + sum(child.memory_info().rss for child in process.children(recursive=True)))

    def post(self, body: str, path: str = PATH) -> str:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data=body.encode(), headers={"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(answer.read().decode())


def use_today() -> None:
    """Let the project's rows describe the last midnight: a server's clock cannot be set."""
    online_reads.END = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    online_reads.NOW = online_reads.END + timedelta(hours=6)


def bodies(batch: int, count: int = 64) -> list[str]:
    """Requests for users at random, every fiftieth unknown."""
    generator = random.Random(batch)
    wanted = features(WIDTH)
    return [json.dumps({"features": wanted, "entities": {"user_id": sample(batch, generator)}}) for _ in range(count)]


@contextmanager
def fstore_server(settings: Settings, **options: object) -> Iterator[Server]:
    """Run ``python -m fstore.serving``; options are settings without their ``serve_``."""
    port = free_port()
    given = {f"FSTORE_{name.upper()}": str(value) for name, value in msgspec.structs.asdict(settings).items()}
    given |= {f"FSTORE_SERVE_{name.upper()}": str(value) for name, value in {"port": port, "drain": 0.0, **options}.items()}
    with running([sys.executable, "-m", "fstore.serving"], port, given) as server:
        yield server


@contextmanager
def bare_server(url: str, prefix: str) -> Iterator[Server]:
    """Run the handler written by hand, with the same server and the same switches."""
    port = free_port()
    configuration = {
        "url": url, "prefix": prefix, "floor_end": int(online_reads.END.timestamp() * 1_000_000),
        "ttl": int(TTL.total_seconds() * 1_000_000),
    }  # fmt: skip
    command = [sys.executable, "-m", "uvicorn", "benchmarks.http_bare:app", "--port", str(port), "--no-access-log",
               "--log-level", "warning", "--no-server-header"]  # fmt: skip
    with running(command, port, {"FSTORE_BENCH_BARE": json.dumps(configuration)}) as server:
        yield server


@contextmanager
def running(command: Sequence[str], port: int, environment: Mapping[str, str], cwd: Path = ROOT) -> Iterator[Server]:
    """Run a server until it listens."""
    given = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    process = subprocess.Popen(command, env=given, cwd=cwd, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command} does not serve")
            time.sleep(0.05)
        yield Server(process, port)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def put_load(load: Load) -> Outcome:
    """Put a load on a server and wait for what came back."""
    command = [sys.executable, "-m", "benchmarks.http_load"]
    given = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=given, input=msgspec.json.encode(load), stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit("the load ended early; its messages are above")
    return msgspec.json.decode(done.stdout, type=Outcome)
