"""Send requests to a server and look at every answer, from a process of its own: ``python -m benchmarks.http_load``.

Takes a :class:`Load` as JSON on standard input and gives an :class:`Outcome` as JSON on standard output. Without a rate
every connection sends its next request when it has its answer; with one, requests have their times and their latency counts
from there, so that a server that stands still is seen to. An answer is right if its body is the one expected; 503 with
``Retry-After`` is counted apart, and so are connections that broke, where the load says that the store may be away.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter

import msgspec
import numpy as np
import uvloop


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What to send: bodies in turn, each with the answer expected (None: any with status 200)."""

    port: int
    path: str
    bodies: list[str]
    expected: list[str] | None
    connections: int
    seconds: float
    rate: float | None = None
    window_seconds: float = 10.0


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """Some seconds of the load: when they ended, how many answers were right or 503, and the latency of the right ones."""

    until: float
    right: int
    unavailable: int
    p50_ms: float
    p99_ms: float


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came back. ``wrong`` says what was wrong, and how often; ``cpu_seconds`` are the load's own."""

    right: int
    unavailable: int
    wrong: dict[str, int]
    seconds: float
    cpu_seconds: float
    windows: list[Window]


class Sender:
    """The connections of one load, and what they have seen."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._requests = [_request(load, body.encode()) for body in load.bodies]
        self._expected = None if load.expected is None else [body.encode() for body in load.expected]
        self.right: list[tuple[float, float]] = []
        self.unavailable: list[float] = []
        self.wrong: Counter[str] = Counter()

    async def run(self) -> None:
        self._began = time.perf_counter()
        await asyncio.gather(*(self._connection(number) for number in range(self._load.connections)))

    async def _connection(self, number: int) -> None:
        load, turn = self._load, number
        reader, writer = await asyncio.open_connection("127.0.0.1", load.port)
        while (now := time.perf_counter() - self._began) < load.seconds:
            due = now
            if load.rate is not None:
                due = turn / load.rate
                if due >= load.seconds:
                    break
                if due > now:
                    await asyncio.sleep(due - now)
            place = turn % len(self._requests)
            writer.write(self._requests[place])
            status, headers, body = await _answer(reader)
            ended = time.perf_counter() - self._began
            if status == 200 and (self._expected is None or body == self._expected[place]):
                self.right.append((ended, ended - due))
            elif status == 503 and b"retry-after:" in headers:
                self.unavailable.append(ended)
            else:
                self.wrong[f"{status} {body[:200].decode(errors='replace')}"] += 1
            if b"connection: close" in headers:
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", load.port)
            turn += load.connections
        writer.close()

    def windows(self) -> list[Window]:
        found = []
        for start in np.arange(0.0, self._load.seconds, self._load.window_seconds):
            end = min(start + self._load.window_seconds, self._load.seconds)
            taken = [latency for at, latency in self.right if start <= at < end]
            p50, p99 = np.percentile(taken, [50, 99]) * 1000 if taken else (0.0, 0.0)
            away = len([at for at in self.unavailable if start <= at < end])
            found.append(Window(until=float(end), right=len(taken), unavailable=away, p50_ms=float(p50), p99_ms=float(p99)))
        return found


def _request(load: Load, body: bytes) -> bytes:
    head = f"POST {load.path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = head.index(b"content-length:") + len(b"content-length:")
    size = int(head[length : head.index(b"\r\n", length)])
    return int(head[9:12]), head, await reader.readexactly(size)


def main() -> None:
    load = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)
    sender = Sender(load)
    began = time.perf_counter()
    uvloop.run(sender.run())
    outcome = Outcome(
        right=len(sender.right), unavailable=len(sender.unavailable), wrong=dict(sender.wrong),
        seconds=time.perf_counter() - began, cpu_seconds=time.process_time(), windows=sender.windows(),
    )  # fmt: skip
    sys.stdout.buffer.write(msgspec.json.encode(outcome))


if __name__ == "__main__":
    main()
