"""Reads that take a thread: historical frames and the newest values of a batch.

A bounded number runs at once, each on a thread with a client of its own, because a client is for one thread and holds an
engine with its memory. Who comes when all are busy waits a little, then is told to come again. A read whose deadline has
passed still holds its place until it ends: the place stands for the memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

import pyarrow as pa

from fstore.errors import NotAcceptable, RequestInvalid, ServerBusy
from fstore.retrieval.client import Client
from fstore.retrieval.frame_stream import FrameStream
from fstore.serving.entities import typed_table
from fstore.serving.exchange import Answer, Received
from fstore.serving.inputs import DeclaredInputs
from fstore.serving.json_values import Unreadable, decode_instant
from fstore.serving.media import ARROW_TYPE, Form
from fstore.serving.requests import (
    Asked,
    BatchOptions,
    BatchRequest,
    Entities,
    HistoricalOptions,
    HistoricalRequest,
    check_rows,
    count_rows,
    read_arrow,
    read_json,
)
from fstore.serving.responses import frame_answer
from fstore.serving.streaming import Pipe, StreamedBody, run_in

Result = TypeVar("Result")

_PATIENCE = 1.0
"""For how many seconds a request waits for a place before it is told that the server is busy."""


class ReadingThreads:
    """Threads that read with clients of their own."""

    def __init__(self, places: int, open_client: Callable[[], Client]) -> None:
        self._places, self._open = places, open_client
        self._free = asyncio.Semaphore(places)
        self._threads = ThreadPoolExecutor(places, thread_name_prefix="fstore-reads")
        self._clients: SimpleQueue[Client] = SimpleQueue()

    async def run(self, read: Callable[[Client], Result]) -> Result:
        """Return what a function reads with a client. Raises ServerBusy, and what the function raises."""
        try:
            await asyncio.wait_for(self._free.acquire(), _PATIENCE)
        except TimeoutError:
            raise ServerBusy(
                f"this server runs {self._places} historical read(s) at once, and all are running: come again"
            ) from None
        running = asyncio.get_running_loop().run_in_executor(self._threads, self._with_client, read)
        running.add_done_callback(self._release)
        return await asyncio.shield(running)

    def close(self) -> None:
        """Wait for what is running, and close the clients."""
        self._threads.shutdown(wait=True)
        while not self._clients.empty():
            self._clients.get().close()

    def _with_client(self, read: Callable[[Client], Result]) -> Result:
        client = self._open() if self._clients.empty() else self._clients.get()
        try:
            return read(client)
        finally:
            self._clients.put(client)

    def _release(self, running: asyncio.Future[Result]) -> None:
        self._free.release()
        if not running.cancelled():
            running.exception()  # one whose caller has left is nobody's any more


class HistoricalRoutes:
    """The handlers of the routes that read frames."""

    def __init__(self, threads: ReadingThreads, inputs: DeclaredInputs, max_rows: int, seconds: float) -> None:
        self._threads, self._inputs, self._max_rows, self._seconds = threads, inputs, max_rows, seconds

    async def historical(self, received: Received) -> Answer:
        """Answer ``POST /v1/historical-features``."""
        return await self._threads.run(partial(self._read_historical, received))

    async def scan(self, received: Received) -> Answer:
        """Answer ``POST /v1/scan-historical-features``: begins to answer when the first part is read."""
        if received.answer_form is not Form.ARROW:
            raise NotAcceptable(f"this route answers {ARROW_TYPE} only: send it as Accept")
        pipe = Pipe()
        reading = asyncio.create_task(self._threads.run(partial(run_in, pipe, partial(self._scan_historical, received))))
        body = StreamedBody(pipe, reading, self._seconds)
        await body.begin()
        return Answer(body=[], content_type=ARROW_TYPE, stream=body)

    async def batch(self, received: Received) -> Answer:
        """Answer ``POST /v1/batch-features``."""
        return await self._threads.run(partial(self._read_batch, received))

    def _read_historical(self, received: Received, client: Client) -> Answer:
        options, rows = self._historical_request(received)
        frame = client.get_historical_features(
            rows, options.features, service=options.service, timestamp_column=options.timestamp_column,
            missing=options.missing, as_of=_as_of(options.as_of), full_names=options.full_names, accuracy=options.accuracy,
            matures_after=options.matures_after,
        )  # fmt: skip
        return frame_answer(frame, received.answer_form)

    def _scan_historical(self, received: Received, client: Client) -> FrameStream:
        options, rows = self._historical_request(received)
        return client.scan_historical_features(
            rows, options.features, service=options.service, timestamp_column=options.timestamp_column,
            missing=options.missing, as_of=_as_of(options.as_of), full_names=options.full_names, accuracy=options.accuracy,
            matures_after=options.matures_after,
        )  # fmt: skip

    def _historical_request(self, received: Received) -> tuple[HistoricalOptions, pa.Table]:
        options: HistoricalOptions
        if received.body_form is Form.ARROW:
            options, rows = read_arrow(HistoricalOptions, received.body, self._max_rows)
        else:
            options = request = read_json(HistoricalRequest, received.body)
            rows = self._table(request.entity_rows, request.types, options, time=options.timestamp_column)
        return options, rows

    def _read_batch(self, received: Received, client: Client) -> Answer:
        options: BatchOptions
        if received.body_form is Form.ARROW:
            options, rows = read_arrow(BatchOptions, received.body, self._max_rows)
        else:
            options = request = read_json(BatchRequest, received.body)
            rows = self._table(request.entity_rows, request.types, options)
        frame = client.get_batch_features(rows, options.features, service=options.service, full_names=options.full_names)
        return frame_answer(frame, received.answer_form)

    def _table(self, entities: Entities, types: Mapping[str, str], asked: Asked, *, time: str | None = None) -> pa.Table:
        check_rows(count_rows(entities), self._max_rows)
        declared = self._inputs.read(asked.features, asked.service)
        return typed_table(entities, types, declared if time is None else {**declared, time: "timestamp"})


def _as_of(value: int | str | None) -> int | datetime | None:
    if not isinstance(value, str):
        return value
    try:
        return decode_instant(value)
    except Unreadable as error:
        raise RequestInvalid(f"as_of is neither a sequence nor an instant: {error}") from None
