"""The two forms in which bodies travel, JSON and Arrow IPC streams, and which of them a request means."""

from __future__ import annotations

from enum import Enum
from functools import lru_cache

from fstore.errors import MediaTypeUnsupported, NotAcceptable

JSON_TYPE = "application/json"
ARROW_TYPE = "application/vnd.apache.arrow.stream"

ASK_FOR_ARROW = f"Ask for Arrow instead: Accept: {ARROW_TYPE}"
"""What helps where a value has no form in JSON."""


class Form(Enum):
    """How a body is written; the value is its media type."""

    JSON = JSON_TYPE
    ARROW = ARROW_TYPE


@lru_cache(maxsize=256)
def forms(content_type: bytes, accept: bytes) -> tuple[Form, Form]:
    """Return the forms of a request's body and of its answer. Raises MediaTypeUnsupported and NotAcceptable."""
    body = body_form(content_type)
    return body, answer_form(accept, body)


def body_form(content_type: bytes) -> Form:
    """Return the form that ``Content-Type`` names; none means JSON. Raises MediaTypeUnsupported."""
    text = content_type.decode("latin-1").partition(";")[0].strip().lower()
    match text:
        case "" | "application/json":
            return Form.JSON
        case "application/vnd.apache.arrow.stream":
            return Form.ARROW
    raise MediaTypeUnsupported(f"the body is {text!r}; send Content-Type: {JSON_TYPE} or {ARROW_TYPE}")


def answer_form(accept: bytes, body: Form) -> Form:
    """Return the form that ``Accept`` prefers; where it leaves the choice, that of the body. Raises NotAcceptable."""
    wanted = accept.decode("latin-1")
    if not wanted.strip():
        return body
    weights = _weights(wanted)

    def weight(form: Form) -> float:
        return weights.get(form.value, weights.get("application/*", weights.get("*/*", 0.0)))

    best: Form = max((body, *Form), key=weight)  # the first of equals: the body's own
    if weight(best) <= 0:
        raise NotAcceptable(f"Accept is {wanted!r}; this route answers {JSON_TYPE} or {ARROW_TYPE}")
    return best


def _weights(accept: str) -> dict[str, float]:
    """Return the quality of each media range (RFC 9110, 12.5.1); one that cannot be read counts as refused."""
    weights: dict[str, float] = {}
    for part in accept.split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
        try:
            weights[media] = float(quality)
        except ValueError:
            weights[media] = 0.0
    return weights
