"""Connections to callers: the head of an answer goes out together with the beginning of its body.

ASGI lets a server keep the head until there is a part of the body. uvicorn writes it at once, which costs every answer a
packet more, and wakes its reader twice. Parsing, keep-alive and limits stay uvicorn's.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

_SMALL_BYTES = 1 << 16
"""Up to here copying a part of a body costs less than another write."""


class HeadKeeping(asyncio.Transport):
    """A transport that keeps the head of an answer for the next write, and passes on everything else."""

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        super().__init__()
        self._transport, self._connection = transport, connection
        self._head: bytes | None = None
        self._begun: RequestResponseCycle | None = None

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Write data after what is kept; or keep it, if it is the first that is written of an answer."""
        head = self._head
        if head is not None:
            self._head = None
            if len(data) <= _SMALL_BYTES:
                self._transport.write(head + data)
                return
            self._transport.write(head)
        else:
            cycle = self._connection.cycle
            if cycle is not None and cycle is not self._begun and cycle.response_started:
                self._begun, self._head = cycle, bytes(data)
                return
        self._transport.write(data)

    def flush(self) -> None:
        """Write what is kept."""
        if self._head is not None:
            self.write(b"")

    def close(self) -> None:
        """Write what is kept, and close."""
        if not self._transport.is_closing():
            self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def is_closing(self) -> bool:
        """Whether it is closing or closed."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: object = None) -> Any:
        """Return what is known about the connection."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Take nothing in until reading is resumed."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take in what comes."""
        self._transport.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Let another protocol have what comes."""
        self._transport.set_protocol(protocol)


class Connection(HttpToolsProtocol):
    """uvicorn's connection, over a transport that keeps heads."""

    transport: HeadKeeping

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        super().connection_made(HeadKeeping(transport, self))

    def on_response_complete(self) -> None:
        """End an answer: one without a body is its head."""
        self.transport.flush()
        super().on_response_complete()
