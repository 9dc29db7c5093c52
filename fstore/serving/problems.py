"""Errors over HTTP: as problem details (RFC 9457) where they happen, and as the same exceptions where they arrive.

A problem carries the error's code, its message, whether trying again can help, and the facts that a reader's code may need.
The status says whose move it is: 4xx the caller's, 503 and 429 the caller's after ``Retry-After`` seconds, 5xx the
operator's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from fstore.decoding import decode_json
from fstore.errors import (
    DeadlineExceeded,
    EntityColumnError,
    FeatureNameClash,
    FileDamaged,
    FloorMissing,
    FStoreError,
    IncompleteHistory,
    MediaTypeUnsupported,
    NotAcceptable,
    RegistryOutdated,
    RequestInvalid,
    RequestTooLarge,
    RetrievalError,
    RouteUnknown,
    ServerBusy,
    ServerFailed,
    ServerUnavailable,
    SnapshotExpired,
    StoreMismatch,
    StoreMissing,
    UnknownFeature,
)

PROBLEM_TYPE = "application/problem+json"
RETRY_SOON, RETRY_LATER = 1, 30
"""Seconds for ``Retry-After``: what passes by itself, and what somebody has to mend."""

_SHOWN = 200

_STATUS: dict[type[FStoreError], int] = {
    RequestInvalid: 400,
    UnknownFeature: 404,
    RouteUnknown: 404,
    NotAcceptable: 406,
    SnapshotExpired: 410,
    RequestTooLarge: 413,
    MediaTypeUnsupported: 415,
    EntityColumnError: 422,
    FeatureNameClash: 422,
    IncompleteHistory: 422,
    RetrievalError: 422,
    ServerBusy: 429,
    FloorMissing: 503,
    StoreMissing: 503,
    StoreMismatch: 503,
    RegistryOutdated: 503,
    DeadlineExceeded: 504,
}
"""The status of an error, or of its nearest ancestor here; else 503 for what is retryable and 500 for the rest."""

STATUSES = (200, 400, 404, 405, 406, 410, 413, 415, 422, 429, 500, 503, 504)
"""Every status that the server answers with."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error as it travels: the members of RFC 9457, then fstore's own.

    ``facts`` are the attributes of an error of reading, such as the ``view``, ``ranges`` and ``rows`` of IncompleteHistory.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    request_id: str = ""
    facts: dict[str, Any] = {}


_URL = re.compile(r"\b([a-z][a-z0-9+.-]*)://[^\s'\"`]*[^\s'\"`.,;:)]")


def status_of(error: FStoreError) -> int:
    """Return the HTTP status of an error."""
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status
    for kind in type(error).__mro__:
        if kind in _STATUS:
            return _STATUS[kind]
    return 503 if error.retryable else 500


def retry_after(error: FStoreError, status: int) -> int | None:
    """Return the seconds after which the caller may try again; None where the status says nothing of the kind."""
    if status not in (429, 503):
        return None
    return RETRY_SOON if error.retryable else RETRY_LATER


def encode_problem(error: FStoreError, status: int, request_id: str) -> bytes:
    """Return the body that tells of an error; of the URLs of registry and stores it tells the scheme only."""
    problem = Problem(
        type=f"urn:fstore:error:{error.code}",
        title=(type(error).__doc__ or "").partition("\n")[0].strip(),
        status=status,
        detail=_URL.sub(r"\1://…", str(error)),
        code=error.code,
        retryable=error.retryable,
        request_id=request_id,
        facts=_facts(error),
    )
    return msgspec.json.encode(problem)


def decode_problem(status: int, content_type: str, body: bytes, where: str) -> FStoreError:
    """Return the exception that an answer tells of: of the class that the server met, with its message and facts.

    What answers without a problem is no fstore server: ServerUnavailable for 502 to 504, else ServerFailed.
    """
    if content_type.partition(";")[0].strip().lower() == PROBLEM_TYPE:
        try:
            problem = decode_json(body, Problem)
        except msgspec.DecodeError:
            pass
        else:
            return _rebuilt(problem)
    text = body[:_SHOWN].decode(errors="replace")
    kind = ServerUnavailable if status in (502, 503, 504) else ServerBusy if status == 429 else ServerFailed
    return kind(f"{where} answered {status} with no problem of fstore: {text!r}. Is a proxy in between, or another server?")


def _facts(error: FStoreError) -> dict[str, Any]:
    if not isinstance(error, RetrievalError | FileDamaged):
        return {}
    return {name: value for name, value in vars(error).items() if not name.startswith("_")}


def _rebuilt(problem: Problem) -> FStoreError:
    kind = _classes().get(problem.code, ServerFailed)
    error = kind.__new__(kind)  # constructors word the message from other arguments; here it is known
    Exception.__init__(error, problem.detail)
    for name, value in problem.facts.items():
        setattr(error, name, _fact(name, value))
    if error.retryable != problem.retryable:
        error.retryable = problem.retryable
    return error


def _fact(name: str, value: Any) -> object:
    match name:
        case "ranges":
            return msgspec.convert(value, tuple[tuple[datetime, datetime], ...], strict=False)
        case "since":
            return msgspec.convert(value, datetime | None, strict=False)
    return value


def _classes() -> dict[str, type[FStoreError]]:
    return {kind.code: kind for kind in _descendants(FStoreError) if "code" in vars(kind)}


def _descendants(kind: type[FStoreError]) -> Iterator[type[FStoreError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _descendants(child)
