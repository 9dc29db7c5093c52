"""One exchange over HTTP: a request's body comes in whole, an answer or a problem goes out.

An :class:`Exchange` is the ASGI application of one route. It holds the body to its limit and the work to its deadline, turns
every error into a problem, gives the request an id, and counts it. What to answer is the handler's matter. Written on bare
ASGI, because most of an online request's time would otherwise go into wrapping it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from fstore.errors import FStoreError, RequestInvalid, RequestTooLarge, ServerFailed
from fstore.serving.deadlines import Deadlines
from fstore.serving.lifecycle import Lifecycle
from fstore.serving.media import Form, forms
from fstore.serving.metrics import OTHER, ROUTES, Metrics
from fstore.serving.problems import PROBLEM_TYPE, encode_problem, retry_after, status_of
from fstore.serving.streaming import StreamedBody

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

TIMEOUT_HEADER = b"fstore-timeout"
"""How many seconds the caller will wait; the server's own limit holds beside it."""
REQUEST_ID_HEADER = b"x-request-id"

_PROCESS_ID = os.urandom(4).hex()
_numbers = itertools.count()
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_CHUNK_BYTES = 1 << 20
_PATIENCE = 16
"""How many times the limit a body may be for its sender to be listened to until it reads the refusal."""

logger = logging.getLogger("fstore.serving")
access = logging.getLogger("fstore.serving.access")


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A request: its body, how that is written, and how the answer shall be."""

    body: bytes
    body_form: Form
    answer_form: Form


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What goes back: a body in one or more pieces, or a stream of them. ``rows`` are the entity rows, for the metrics."""

    body: Sequence[bytes | memoryview]
    content_type: str
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()
    rows: int = 0
    stream: StreamedBody | None = None


Handler: TypeAlias = Callable[[Received], Awaitable[Answer]]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The most that a request may bring, in bytes, and take, in seconds."""

    body_bytes: int
    seconds: float


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What all exchanges of a worker share."""

    limits: Limits
    deadlines: Deadlines
    metrics: Metrics
    lifecycle: Lifecycle
    log_access: bool


class Gone(Exception):
    """The caller closed the connection before its request was whole."""


class Exchange:
    """The ASGI application of a route: calls the handler, and sends what it gives or raises."""

    def __init__(self, name: str, handle: Handler, around: Surroundings) -> None:
        """Serve a handler; the metrics count it under its name if they have one of that, else among the others."""
        self._route = name if name in ROUTES else OTHER
        self._handle, self._around = handle, around

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        around = self._around
        began = time.perf_counter()
        around.metrics.began(self._route)
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = _request_id(headers)
        status, rows, sent = 499, 0, 0
        try:
            answer = await self._answer(scope, headers, receive, around, request_id)
            closing = around.lifecycle.draining or answer.status == 413
            if answer.stream is None:
                status, rows, sent = answer.status, answer.rows, sum(map(len, answer.body))
                await _send(send, answer, request_id, sent, closing=closing)
            else:
                try:
                    status, sent = await _stream(send, receive, answer, answer.stream, request_id, closing=closing)
                finally:
                    rows = answer.stream.rows
        except Gone:
            pass
        finally:
            seconds = time.perf_counter() - began
            around.metrics.ended(self._route, status, seconds, rows)
            if around.log_access:
                _log(scope, request_id, status, seconds, sent, rows)

    async def _answer(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, around: Surroundings, request_id: str
    ) -> Answer:
        try:
            form, accepted = forms(headers.get(b"content-type", b""), headers.get(b"accept", b""))
            with around.deadlines.hold(_seconds(headers, around.limits.seconds)):
                body = await _body(headers, receive, around.limits.body_bytes) if scope["method"] == "POST" else b""
                return await self._handle(Received(body=body, body_form=form, answer_form=accepted))
        except FStoreError as error:
            if (status := status_of(error)) == 500:
                logger.exception("request %s failed", request_id)
            return problem_answer(error, status, request_id)
        except Gone:
            raise
        except Exception as error:  # whatever it is, the caller gets an answer and the log the traceback
            logger.exception("request %s failed", request_id)
            failed = ServerFailed(f"the server failed with {type(error).__name__}; its log has more under id {request_id}")
            return problem_answer(failed, 500, request_id)


def problem_answer(error: FStoreError, status: int, request_id: str) -> Answer:
    """Return the answer that tells of an error."""
    seconds = retry_after(error, status)
    headers = () if seconds is None else ((b"retry-after", str(seconds).encode()),)
    return Answer(
        body=[encode_problem(error, status, request_id)], content_type=PROBLEM_TYPE, status=status, headers=headers
    )


async def _body(headers: Mapping[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """Read a body; one that is too large is refused, once its sender is done or has sent a multiple of the limit."""
    message = await receive()
    if not message.get("more_body", False) and message["type"] == "http.request" and len(message["body"]) <= limit:
        whole: bytes = message["body"]
        return whole
    announced = int(headers.get(b"content-length", b"0"))
    parts: list[bytes] = []
    size = 0
    while announced <= limit * _PATIENCE:
        if message["type"] == "http.disconnect":
            raise Gone
        size += len(message["body"])
        if size <= limit:
            parts.append(message["body"])
        if not message.get("more_body", False) or size > limit * _PATIENCE:
            break
        message = await receive()
    if size > limit or announced > limit:
        raise RequestTooLarge(f"the body has more than {limit:,} bytes, which is what this server takes: split the request")
    return b"".join(parts)


async def _send(send: Send, answer: Answer, request_id: str, size: int, *, closing: bool) -> None:
    headers = [
        (b"content-type", answer.content_type.encode()),
        (b"content-length", str(size).encode()),
        (REQUEST_ID_HEADER, request_id.encode()),
        *answer.headers,
    ]
    if closing:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    pieces = _pieces(answer.body)
    for piece in pieces[:-1]:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": pieces[-1], "more_body": False})


async def _stream(
    send: Send, receive: Receive, answer: Answer, stream: StreamedBody, request_id: str, *, closing: bool
) -> tuple[int, int]:
    """Send pieces while they are read, and return status and bytes sent. What fails on the way leaves the answer cut."""
    headers = [(b"content-type", answer.content_type.encode()), (REQUEST_ID_HEADER, request_id.encode())]
    if closing:
        headers.append((b"connection", b"close"))
    sent = 0
    left = asyncio.ensure_future(receive())  # the request is whole, so what comes is that the caller has gone
    try:
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        while not left.done():
            getting = asyncio.ensure_future(stream.next())
            await asyncio.wait({getting, left}, return_when=asyncio.FIRST_COMPLETED)
            if not getting.done():
                getting.cancel()
                break
            piece = getting.result()
            if piece is None:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return answer.status, sent
            for part in _pieces([piece]):
                await asyncio.wait_for(send({"type": "http.response.body", "body": part, "more_body": True}), stream.seconds)
            sent += len(piece)
        raise Gone
    except FStoreError as error:
        logger.warning("request %s was cut: %s", request_id, error)
        raise Gone from error
    except TimeoutError:
        logger.warning("request %s was cut: its caller takes nothing for %g s", request_id, stream.seconds)
        raise Gone from None
    finally:
        left.cancel()
        stream.close()


def _pieces(body: Sequence[bytes | memoryview]) -> Sequence[bytes | memoryview]:
    """Cut a body so that no piece fills the connection's buffer by far."""
    if len(body) == 1 and len(body[0]) <= _CHUNK_BYTES:
        return body
    return [
        memoryview(part)[start : start + _CHUNK_BYTES] for part in body for start in range(0, len(part), _CHUNK_BYTES)
    ] or [b""]


def _request_id(headers: Mapping[bytes, bytes]) -> str:
    """Return the caller's id of the request, if it is one that can stand in a log, else a new one."""
    given = headers.get(REQUEST_ID_HEADER)
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given.decode()
    return f"{_PROCESS_ID}{next(_numbers):08x}"


def _seconds(headers: Mapping[bytes, bytes], limit: float) -> float:
    text = headers.get(TIMEOUT_HEADER)
    if text is None:
        return limit
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        raise RequestInvalid(
            f"header {TIMEOUT_HEADER.decode()} is {text.decode('latin-1')!r}; it has to be seconds, above 0"
        )
    return min(seconds, limit)


def _log(scope: Scope, request_id: str, status: int, seconds: float, size: int, rows: int) -> None:
    client = scope.get("client")
    access.info(
        "%s",
        msgspec.json.encode(
            {
                "at": time.time(),
                "request_id": request_id,
                "client": client[0] if client else None,
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "ms": round(seconds * 1000, 3),
                "bytes": size,
                "rows": rows,
            }
        ).decode(),
    )
