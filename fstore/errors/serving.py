"""Errors of reading over HTTP: what a server refuses, and what a client meets on the way to it."""

from __future__ import annotations

from fstore.errors.root import FStoreError


class ServingError(FStoreError):
    """A request over HTTP that cannot be answered."""

    code = "serving_error"


class RequestInvalid(ServingError):
    """The body, a header or the query of a request is not what the route takes."""

    code = "request_invalid"


class RouteUnknown(ServingError):
    """The server has no such path, or the path does not take this method."""

    code = "route_unknown"


class MediaTypeUnsupported(ServingError):
    """The body is in a form that the route does not take."""

    code = "media_type_unsupported"


class NotAcceptable(ServingError):
    """The answer cannot be given in a form that the request accepts."""

    code = "not_acceptable"


class RequestTooLarge(ServingError):
    """The body has more bytes, or more entity rows, than the server takes."""

    code = "request_too_large"


class ServerBusy(ServingError):
    """As many reads of this kind are running as the server allows at once."""

    code = "server_busy"
    retryable = True


class DeadlineExceeded(ServingError):
    """The answer was not ready within the time that the request or the server allows."""

    code = "deadline_exceeded"
    retryable = True


class ServerUnavailable(ServingError):
    """The server cannot be reached, or went away while it was answering."""

    code = "server_unavailable"
    retryable = True


class ServerFailed(ServingError):
    """The server met an error that it does not know: a bug, or a proxy that answers in its place."""

    code = "server_failed"
