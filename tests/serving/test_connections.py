"""Answers on the wire: the head goes out with the body, and nothing that is sent around it gets lost."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from tests.serving.running import RunningApp

BODY = json.dumps({"features": ["typed:whole"], "entities": {"user_id": ["safe"]}}).encode()
ANSWER = (
    b'{"columns":[{"name":"user_id","type":"string"},{"name":"whole","type":"int64"}],"rows":1,"values":{"user_id":["safe"],'
)
PATH = b"/v1/online-features"


@contextmanager
def connected(server: RunningApp) -> Iterator[socket.socket]:
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        yield connection


def head(method: bytes, path: bytes, length: int, *more: bytes) -> bytes:
    lines = [method + b" " + path + b" HTTP/1.1", b"host: x", b"content-length: %d" % length, *more]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def receive(connection: socket.socket, *, body: bool = True) -> tuple[int, bytes]:
    """Read one answer, and return its status and its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(connection)
    lines, _, rest = data.partition(b"\r\n\r\n")
    headers = dict(line.lower().split(b": ", 1) for line in lines.split(b"\r\n")[1:])
    size = int(headers.get(b"content-length", b"0")) if body else 0
    while len(rest) < size:
        rest += _some(connection)
    assert len(rest) == size, "more than the answer came"
    return int(lines[9:12]), rest


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(1 << 16)
    assert data, "the connection was closed before the answer was whole"
    return data


def test_head_and_body_of_an_answer_come_at_once(server: RunningApp) -> None:
    with connected(server) as connection:
        for _ in range(3):
            connection.sendall(head(b"POST", PATH, len(BODY)) + BODY)
            whole = connection.recv(1 << 16)
            assert whole.startswith(b"HTTP/1.1 200 OK\r\n")
            assert whole.partition(b"\r\n\r\n")[2].startswith(ANSWER)


def test_a_caller_that_waits_for_100_continue_gets_it(server: RunningApp) -> None:
    with connected(server) as connection:
        for _ in range(2):
            connection.sendall(head(b"POST", PATH, len(BODY), b"expect: 100-continue"))
            assert receive(connection) == (100, b"")
            connection.sendall(BODY)
            status, body = receive(connection)
            assert status == 200
            assert body.startswith(ANSWER)


def test_requests_sent_at_once_are_answered_in_turn(server: RunningApp) -> None:
    users = ["safe", "more", "nobody"]
    bodies = [json.dumps({"features": ["typed:text"], "entities": {"user_id": [user]}}).encode() for user in users]
    with connected(server) as connection:
        connection.sendall(b"".join(head(b"POST", PATH, len(body)) + body for body in bodies))
        data = b""
        while data.count(b'"user_id":[') < len(users):
            data += _some(connection)
        places = [data.index(f'"user_id":["{user}"]'.encode()) for user in users]
        assert places == sorted(places)
        assert data.count(b"HTTP/1.1 200 OK\r\n") == len(users)


def test_answers_without_a_body_arrive(server: RunningApp) -> None:
    with connected(server) as connection:
        connection.sendall(head(b"HEAD", b"/openapi.json", 0))
        status, _ = receive(connection, body=False)
        assert status == 200  # and the connection goes on
        connection.sendall(head(b"POST", PATH, len(BODY)) + BODY)
        assert receive(connection)[1].startswith(ANSWER)


def test_what_is_no_http_is_refused(server: RunningApp) -> None:
    with connected(server) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_a_caller_that_leaves_does_no_harm(server: RunningApp) -> None:
    for _ in range(20):
        with connected(server) as connection:
            connection.sendall(head(b"POST", PATH, len(BODY)) + BODY)
    with connected(server) as connection:
        connection.sendall(head(b"POST", PATH, len(BODY)) + BODY)
        assert receive(connection)[0] == 200
    assert "Traceback" not in server.log()
