"""A TCP proxy that breaks connections on demand, to put between a program and a real server in tests.

Takes a server's address, listens on a free port of the loopback interface and forwards bytes both ways. Faults are set
while it runs and hold for connections that are open and for new ones, until others are set. A connection has two threads.
It deliberately knows nothing of the protocols that pass, nor of fstore.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import socket
import struct
import termios
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Self
from urllib.parse import urlsplit, urlunsplit

_CHUNK = 65_536
_RESET = struct.pack("ii", 1, 0)  # closing such a socket sends RST and drops what was not sent


class Mode(Enum):
    """What happens to whole connections."""

    PASS = "pass"  # noqa: S105 (not a password)
    REFUSE = "refuse"
    """Nobody listens; connections that are open are reset."""
    RESET = "reset"
    """Connections are accepted and reset; those that are open are reset as well."""
    BLACK_HOLE = "black hole"
    """Connections are accepted and nothing passes; what waits goes on when the fault ends, as after a lost route."""


class Cut(Enum):
    """Where a connection is reset when the pattern passes to the server."""

    BEFORE = "before"
    """Nothing of the pattern, or after it, reaches the server."""
    ANSWERED = "answered"
    """The server gets it and answers; the answer never reaches the client."""


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What is wrong. ``latency`` is in seconds, for every chunk in each direction.

    A connection is reset when ``to_server`` or ``to_client`` bytes have passed that way since the fault was set (exactly so
    many pass), or where ``pattern`` passes to the server, after it has passed ``skip`` times. ``times`` bounds how many
    connections are cut so; then it is over.
    """

    mode: Mode = Mode.PASS
    latency: float = 0.0
    to_server: int | None = None
    to_client: int | None = None
    pattern: bytes = b""
    cut: Cut = Cut.BEFORE
    skip: int = 0
    times: int | None = None


NONE = Faults()


class Proxy:
    """A proxy that runs while its ``with`` block does.

    ``accepted`` counts connections, ``cuts`` those that were cut by bytes or by pattern.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.target = (host, port)
        self.port = 0
        self.accepted = 0
        self.cuts = 0
        self._faults = NONE
        self._changed = threading.Condition()
        self._links: set[_Link] = set()
        self._listener: socket.socket | None = None
        self._closed = False

    def __enter__(self) -> Self:
        with self._changed:
            self._listen()
        return self

    def __exit__(self, *exception: object) -> None:
        with self._changed:
            self._closed = True
            self._stop_listening()
            self._changed.notify_all()
        self.reset_connections()

    def url(self, url: str) -> str:
        """Return the URL of the server with the proxy's address in place of its own."""
        parts = urlsplit(url)
        user, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{user}{at}127.0.0.1:{self.port}"))

    @property
    def faults(self) -> Faults:
        """What is wrong now."""
        return self._faults

    def set(self, faults: Faults) -> None:
        """Let these faults hold from now on, in place of the earlier ones; counting of bytes begins anew."""
        with self._changed:
            self._faults = faults
            for link in self._links:
                link.passed = {True: 0, False: 0}
            if faults.mode is Mode.REFUSE:
                self._stop_listening()
            elif self._listener is None and not self._closed:
                self._listen()
            self._changed.notify_all()
        if faults.mode in (Mode.REFUSE, Mode.RESET):
            self.reset_connections()

    def heal(self) -> None:
        """Let everything pass again."""
        self.set(NONE)

    @contextlib.contextmanager
    def broken(self, faults: Faults) -> Iterator[None]:
        """Let faults hold within the block, and none after it."""
        self.set(faults)
        try:
            yield
        finally:
            self.heal()

    def reset_connections(self) -> None:
        """Reset the connections that are open; new ones are as the faults say."""
        with self._changed:
            links = list(self._links)
        for link in links:
            self._drop(link)

    # -- parts --------------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(128)
        self.port, self._listener = listener.getsockname()[1], listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True, name="proxy-accept").start()

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            link = _Link(client)
            with self._changed:
                self.accepted += 1
                if self._closed or self._faults.mode in (Mode.REFUSE, Mode.RESET):
                    link.reset()
                    continue
                self._links.add(link)
            threading.Thread(target=self._connect, args=(link,), daemon=True, name="proxy").start()

    def _connect(self, link: _Link) -> None:
        if not self._passes(link):
            return
        try:
            server = socket.create_connection(self.target, timeout=10)
        except OSError:
            self._drop(link)
            return
        server.settimeout(None)
        for connection in (link.client, server):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._changed:
            link.server = server
            gone = link.gone
        if gone:
            link.reset()
            return
        threading.Thread(target=self._pump, args=(link,), kwargs={"to_server": False}, daemon=True, name="proxy").start()
        self._pump(link, to_server=True)

    def _pump(self, link: _Link, *, to_server: bool) -> None:
        """Forward one direction until it ends."""
        source, sink = (link.client, link.server) if to_server else (link.server, link.client)
        if source is None or sink is None:
            return
        while True:
            try:
                data = source.recv(_CHUNK)
            except OSError:
                data = b""
            if link.gone or not self._passes(link):
                return
            if not data:
                with contextlib.suppress(OSError):
                    sink.shutdown(socket.SHUT_WR)
                self._half_closed(link)
                return
            with self._changed:
                data, cut = self._cut(link, data, to_server=to_server)
            try:
                sink.sendall(data)
            except OSError:
                self._drop(link)
                return
            if cut:
                # What was sent must be read before the reset, which would make the receiver forget it.
                _drain(sink)
                self._drop(link)
                return

    def _passes(self, link: _Link) -> bool:
        """Wait out latency and black holes; return whether the connection still is."""
        with self._changed:
            if self._faults.latency:
                self._changed.wait_for(lambda: link.gone or self._closed, timeout=self._faults.latency)
            self._changed.wait_for(lambda: self._faults.mode is not Mode.BLACK_HOLE or link.gone or self._closed)
            return not (link.gone or self._closed)

    def _cut(self, link: _Link, data: bytes, *, to_server: bool) -> tuple[bytes, bool]:
        """Return how much of the data passes, and whether the connection is cut after it."""
        faults, before = self._faults, link.passed[to_server]
        link.passed[to_server] += len(data)
        if faults.times is not None and faults.times <= 0:
            return data, False
        limit = faults.to_server if to_server else faults.to_client
        if limit is not None and before + len(data) > limit:
            return data[: max(0, limit - before)], self._count(faults)
        if not faults.pattern:
            return data, False
        if not to_server:
            return (b"", self._count(faults)) if link.marked else (data, False)
        seen = link.tail + data
        link.tail = seen[-(len(faults.pattern) - 1) :] if len(faults.pattern) > 1 else b""
        at = seen.find(faults.pattern)
        if at < 0:
            return data, False
        if faults.skip:
            self._faults, link.tail = replace(faults, skip=faults.skip - 1), b""
            return data, False
        if faults.cut is Cut.ANSWERED:
            link.marked = True
            return data, False
        return data[: max(0, at - (len(seen) - len(data)))], self._count(faults)

    def _count(self, faults: Faults) -> bool:
        self.cuts += 1
        if faults.times is not None:
            self._faults = replace(faults, times=faults.times - 1)
        return True

    def _drop(self, link: _Link) -> None:
        with self._changed:
            self._links.discard(link)
            link.reset()
            self._changed.notify_all()

    def _half_closed(self, link: _Link) -> None:
        with self._changed:
            link.ends += 1
            if link.ends == 2:
                self._links.discard(link)
                link.close()


@dataclass(eq=False)
class _Link:
    """A client's connection and the one to the server that belongs to it."""

    client: socket.socket
    server: socket.socket | None = None
    gone: bool = False
    marked: bool = False
    """The pattern has passed: the next answer is cut."""
    ends: int = 0
    tail: bytes = b""
    passed: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    """Bytes to the server, and to the client."""

    def reset(self) -> None:
        self.gone = True
        for connection in (self.client, self.server):
            if connection is not None:
                with contextlib.suppress(OSError):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    connection.shutdown(socket.SHUT_RD)  # wakes the thread that reads; only then is it really closed
                connection.close()

    def close(self) -> None:
        self.gone = True
        for connection in (self.client, self.server):
            if connection is not None:
                connection.close()


def _drain(connection: socket.socket) -> None:
    """Wait until the other side has acknowledged what was sent, for half a second at most."""
    unsent = array.array("i", [0])
    for _ in range(50):
        with contextlib.suppress(OSError, ValueError):
            fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, unsent)
        if not unsent[0]:
            time.sleep(0.01)  # acknowledged by the kernel; let the program read it
            return
        time.sleep(0.01)
