"""Clients that read features from a server: the interface of :class:`~fstore.Client`, over HTTP.

Answers and exceptions are of the same classes as those of a client that reads the stores itself. Connections are kept and
shared between threads. Reads change nothing, so a try that cannot have been answered, or that the server asked to repeat, is
repeated while the time allows: a connection that failed before any answer, 429, and 503 with ``Retry-After``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from functools import partial

from fstore.errors import FStoreError, SettingsError
from fstore.retrieval.entity_rows import EntityRows
from fstore.retrieval.features import Wanted
from fstore.retrieval.online_response import OnlineResponse
from fstore.retrieval.training import Accuracy, Missing, TrainingFrame
from fstore.serving.received_response import read_online
from fstore.serving.responses import read_frame
from fstore.serving.retrying import Tries
from fstore.serving.wire import (
    HEADERS,
    SCAN,
    TIMEOUT_HEADER,
    Sent,
    batch_request,
    historical_request,
    online_request,
    read_answer,
)

try:
    import httpx
except ModuleNotFoundError as error:
    raise SettingsError("reading over HTTP needs httpx: pip install 'fstore[http]'") from error

from fstore.serving.received_stream import AsyncReceivedStream, ReceivedStream  # (which needs it, too)

TIMEOUT = 30.0
_CONNECT_SECONDS = 5.0


class HttpClient:
    """Reads features of the project that a server serves. Use as a context manager, or call :meth:`close`.

    ``url`` is the server's, such as ``https://features.example.com``; ``timeout`` how many seconds a read may take with all
    its tries; ``connections`` how many are kept and used at once; ``headers`` go along with every request, such as those
    that a proxy in front of the server asks for. Safe to share between threads.
    """

    def __init__(
        self, url: str, *, timeout: float = TIMEOUT, connections: int = 20, headers: Mapping[str, str] | None = None
    ) -> None:
        """Prepare to read; nothing is connected before the first read."""
        self._where, self._timeout = f"the server at {url}", timeout
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = httpx.Client(base_url=url, headers={**(headers or {}), **HEADERS}, limits=limits)

    def get_online_features(
        self,
        features: Sequence[Wanted] | None = None,
        entities: EntityRows | None = None,
        *,
        request: Mapping[str, Sequence[object]] | None = None,
        service: str | None = None,
        full_names: bool = False,
        timeout: float | None = None,
    ) -> OnlineResponse:
        """Read the features of entities as they are now; see :meth:`fstore.Client.get_online_features`."""
        sent = online_request(features, entities, request, service, full_names=full_names)
        return read_online(self._answered(sent, timeout))

    def get_historical_features(
        self,
        entity_rows: EntityRows,
        features: Sequence[Wanted] | None = None,
        *,
        service: str | None = None,
        timestamp_column: str = "event_timestamp",
        missing: Missing = "error",
        as_of: int | datetime | None = None,
        full_names: bool = False,
        accuracy: Accuracy = "snapshot",
        matures_after: str | timedelta | None = None,
        timeout: float | None = None,
    ) -> TrainingFrame:
        """Join features to entity rows; see :meth:`fstore.Client.get_historical_features`."""
        sent = historical_request(
            entity_rows, features, service, timestamp_column=timestamp_column, missing=missing, as_of=as_of,
            full_names=full_names, accuracy=accuracy, matures_after=matures_after,
        )  # fmt: skip
        return read_frame(self._answered(sent, timeout))

    def scan_historical_features(
        self,
        entity_rows: EntityRows,
        features: Sequence[Wanted] | None = None,
        *,
        service: str | None = None,
        timestamp_column: str = "event_timestamp",
        missing: Missing = "error",
        as_of: int | datetime | None = None,
        full_names: bool = False,
        accuracy: Accuracy = "snapshot",
        matures_after: str | timedelta | None = None,
        timeout: float | None = None,
    ) -> ReceivedStream:
        """Join features to entity rows while the result is consumed; see :meth:`fstore.Client.scan_historical_features`.

        The entity rows go along in one request, in the server's limits; how much comes back is not limited. ``timeout`` is
        how many seconds the first part, and then each further one, may take.
        """
        sent = historical_request(
            entity_rows, features, service, timestamp_column=timestamp_column, missing=missing, as_of=as_of,
            full_names=full_names, accuracy=accuracy, matures_after=matures_after, path=SCAN,
        )  # fmt: skip
        return ReceivedStream(partial(self._streamed, sent, timeout), self._where)

    def get_batch_features(
        self,
        entity_rows: EntityRows,
        features: Sequence[Wanted] | None = None,
        *,
        service: str | None = None,
        full_names: bool = False,
        timeout: float | None = None,
    ) -> TrainingFrame:
        """Join the newest values to entities; see :meth:`fstore.Client.get_batch_features`."""
        return read_frame(self._answered(batch_request(entity_rows, features, service, full_names=full_names), timeout))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> HttpClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextmanager
    def _streamed(self, sent: Sent, timeout: float | None) -> Iterator[Iterator[bytes]]:
        """Send a request, again while that may help, and give its answer as it comes."""
        tries = Tries(self._where, self._timeout if timeout is None else timeout)
        while True:
            request = build_request(self._http, sent, tries.begin())
            try:
                answer = self._http.send(request, stream=True)
            except httpx.TransportError as error:
                wait = tries.after_failure(error, late=was_late(error))
            else:
                with closing(answer):
                    if answer.status_code == 200:
                        read_answer(200, answer.headers, b"", self._where)
                        yield answer.iter_bytes()
                        return
                    wait = self._refused(answer, tries)
            time.sleep(wait)

    def _refused(self, answer: httpx.Response, tries: Tries) -> float:
        """Return how long to wait after an answer that is none; raises the error that it tells of otherwise."""
        try:
            read_answer(answer.status_code, answer.headers, answer.read(), self._where)
        except httpx.TransportError as error:
            return tries.after_failure(error, late=was_late(error))
        except FStoreError as error:
            return tries.after_refusal(error, answer.headers.get("retry-after"))
        raise AssertionError("what is not 200 is an error")

    def _answered(self, sent: Sent, timeout: float | None) -> bytes:
        tries = Tries(self._where, self._timeout if timeout is None else timeout)
        while True:
            request = build_request(self._http, sent, tries.begin())
            try:
                answer = self._http.send(request)
            except httpx.TransportError as error:
                wait = tries.after_failure(error, late=was_late(error))
            else:
                try:
                    return read_answer(answer.status_code, answer.headers, answer.content, self._where)
                except FStoreError as error:
                    wait = tries.after_refusal(error, answer.headers.get("retry-after"))
            time.sleep(wait)


class AsyncHttpClient:
    """:class:`HttpClient` for event loops. Use as an async context manager, or await :meth:`close`. For one event loop."""

    def __init__(
        self, url: str, *, timeout: float = TIMEOUT, connections: int = 100, headers: Mapping[str, str] | None = None
    ) -> None:
        """Prepare to read; see :class:`HttpClient`."""
        self._where, self._timeout = f"the server at {url}", timeout
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = httpx.AsyncClient(base_url=url, headers={**(headers or {}), **HEADERS}, limits=limits)
        self._blocking = HttpClient(url, timeout=timeout, connections=connections, headers=headers)

    async def get_online_features(
        self,
        features: Sequence[Wanted] | None = None,
        entities: EntityRows | None = None,
        *,
        request: Mapping[str, Sequence[object]] | None = None,
        service: str | None = None,
        full_names: bool = False,
        timeout: float | None = None,
    ) -> OnlineResponse:
        """Read the features of entities as they are now; see :meth:`fstore.Client.get_online_features`."""
        sent = online_request(features, entities, request, service, full_names=full_names)
        return read_online(await self._answered(sent, timeout))

    async def get_historical_features(
        self,
        entity_rows: EntityRows,
        features: Sequence[Wanted] | None = None,
        *,
        service: str | None = None,
        timestamp_column: str = "event_timestamp",
        missing: Missing = "error",
        as_of: int | datetime | None = None,
        full_names: bool = False,
        accuracy: Accuracy = "snapshot",
        matures_after: str | timedelta | None = None,
        timeout: float | None = None,
    ) -> TrainingFrame:
        """Join features to entity rows; see :meth:`fstore.Client.get_historical_features`."""
        sent = historical_request(
            entity_rows, features, service, timestamp_column=timestamp_column, missing=missing, as_of=as_of,
            full_names=full_names, accuracy=accuracy, matures_after=matures_after,
        )  # fmt: skip
        return read_frame(await self._answered(sent, timeout))

    def scan_historical_features(
        self,
        entity_rows: EntityRows,
        features: Sequence[Wanted] | None = None,
        *,
        service: str | None = None,
        timestamp_column: str = "event_timestamp",
        missing: Missing = "error",
        as_of: int | datetime | None = None,
        full_names: bool = False,
        accuracy: Accuracy = "snapshot",
        matures_after: str | timedelta | None = None,
        timeout: float | None = None,
    ) -> AsyncReceivedStream:
        """Join features to entity rows while the result is consumed; see :meth:`fstore.Client.scan_historical_features`.

        The entity rows go along in one request, in the server's limits; how much comes back is not limited. ``timeout`` is
        how many seconds the first part, and then each further one, may take. A thread waits, over a connection of its own.
        """
        stream = self._blocking.scan_historical_features(
            entity_rows, features, service=service, timestamp_column=timestamp_column, missing=missing, as_of=as_of,
            full_names=full_names, accuracy=accuracy, matures_after=matures_after, timeout=timeout,
        )  # fmt: skip
        return AsyncReceivedStream(stream)

    async def get_batch_features(
        self,
        entity_rows: EntityRows,
        features: Sequence[Wanted] | None = None,
        *,
        service: str | None = None,
        full_names: bool = False,
        timeout: float | None = None,
    ) -> TrainingFrame:
        """Join the newest values to entities; see :meth:`fstore.Client.get_batch_features`."""
        return read_frame(
            await self._answered(batch_request(entity_rows, features, service, full_names=full_names), timeout)
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()
        self._blocking.close()

    async def __aenter__(self) -> AsyncHttpClient:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def _answered(self, sent: Sent, timeout: float | None) -> bytes:
        tries = Tries(self._where, self._timeout if timeout is None else timeout)
        while True:
            request = build_request(self._http, sent, tries.begin())
            try:
                answer = await self._http.send(request)
            except httpx.TransportError as error:
                wait = tries.after_failure(error, late=was_late(error))
            else:
                try:
                    return read_answer(answer.status_code, answer.headers, answer.content, self._where)
                except FStoreError as error:
                    wait = tries.after_refusal(error, answer.headers.get("retry-after"))
            await asyncio.sleep(wait)


def build_request(http: httpx.Client | httpx.AsyncClient, sent: Sent, seconds: float) -> httpx.Request:
    """Return a try as a request, of which the server knows how long it is waited for."""
    timeouts = httpx.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS))
    return http.build_request(
        "POST", sent.path, content=sent.body, headers={TIMEOUT_HEADER: f"{seconds:.3f}"}, timeout=timeouts
    )


def was_late(error: httpx.TransportError) -> bool:
    """Whether a try failed because an answer did not come in time, rather than a connection."""
    return isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout)
