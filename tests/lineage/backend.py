"""An OpenLineage backend on loopback that can be told to misbehave, request by request."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class UnreliableBackend(ThreadingHTTPServer):
    """Takes events; ``script`` says what becomes of the next requests, ``refuses`` which run ids it never takes.

    A step of the script is a status, ``"drop"`` (the event is taken and the answer lost), ``"cut"`` (neither), or
    ``"late"`` (it is taken, and answered after the client has given up). After the script every event is accepted.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: list[int | str] = []
        self.refuses: set[str] = set()
        self.received: list[dict[str, Any]] = []
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def seen(self) -> list[tuple[str, str]]:
        """Return the events in the order in which they came first: run id and kind."""
        return list(dict.fromkeys((event["run"]["runId"], event["eventType"]) for event in self.received))

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that has gone."""


class _Handler(BaseHTTPRequestHandler):
    server: UnreliableBackend

    def do_POST(self) -> None:
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            step = self.server.script.pop(0) if self.server.script else 201
            if event["run"]["runId"] in self.server.refuses:
                step = 422
            if step == "cut":
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if not isinstance(step, int) or step < 300:
                self.server.received.append(event)
        if step == "drop":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if step == "late":
            time.sleep(0.6)
        self.send_response(step if isinstance(step, int) else 201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def unreliable_backend() -> Iterator[UnreliableBackend]:
    """Serve until the end of the block."""
    server = UnreliableBackend()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
