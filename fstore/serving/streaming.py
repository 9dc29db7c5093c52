"""Frames that are sent while they are read: from a thread that joins part after part to a connection, and not faster.

An answer is an Arrow IPC stream. Its last batch has no rows and says in its metadata how the read ended: the manifest of the
frame, or the problem that it met on its way. A stream without such a batch was cut. Memory holds two batches besides the
part that is being joined.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from typing import TypeVar

import pyarrow as pa

from fstore.errors import DeadlineExceeded, FStoreError, ServerFailed
from fstore.retrieval.frame_stream import FrameStream
from fstore.retrieval.training import MANIFEST_KEY
from fstore.serving.problems import encode_problem, status_of

PROBLEM_KEY = b"fstore.problem"
"""Where the last batch of a stream has the problem that ended it."""

_AHEAD = 2

Result = TypeVar("Result")


class CallerLeft(Exception):
    """Nobody takes what a thread is reading."""


class Pipe:
    """Pieces of an answer on their way from a thread to an event loop, at most two at a time."""

    def __init__(self) -> None:
        self.rows = 0
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue(_AHEAD)
        self._closed = False

    def put(self, piece: bytes, rows: int) -> None:
        """Hand over a piece, on the thread; waits until there is room. Raises CallerLeft when nobody wants it."""
        if self._closed:
            raise CallerLeft
        asyncio.run_coroutine_threadsafe(self._pieces.put(piece), self._loop).result()
        self.rows += rows

    async def get(self) -> bytes:
        """Return the next piece."""
        return await self._pieces.get()

    @property
    def empty(self) -> bool:
        """Whether nothing is waiting to be taken."""
        return self._pieces.empty()

    def close(self) -> None:
        """Want no more: the thread ends at its next piece."""
        self._closed = True
        while not self._pieces.empty():
            self._pieces.get_nowait()


class StreamedBody:
    """The body of an answer that is still being read."""

    def __init__(self, pipe: Pipe, reading: asyncio.Task[None], seconds: float) -> None:
        """Take pieces of a pipe until ``reading`` has ended; ``seconds`` may pass until the next one is there."""
        self._pipe, self._reading, self.seconds = pipe, reading, seconds
        self._first: bytes | None = None

    async def begin(self) -> None:
        """Wait for the first piece. Raises what reading raises before it."""
        try:
            self._first = await self.next()
        except BaseException:
            self.close()
            raise

    @property
    def rows(self) -> int:
        """How many entity rows were answered so far."""
        return self._pipe.rows

    async def next(self) -> bytes | None:
        """Return the next piece, None at the end. Raises DeadlineExceeded, and what reading raises."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        getting = asyncio.ensure_future(self._pipe.get())
        try:
            await asyncio.wait({getting, self._reading}, timeout=self.seconds, return_when=asyncio.FIRST_COMPLETED)
            if not getting.done() and self._reading.done() and not self._pipe.empty:
                await asyncio.wait({getting})
            if getting.done():
                return getting.result()
            if self._reading.done():
                self._reading.result()
                return None
        finally:
            getting.cancel()
        raise DeadlineExceeded(f"the next part of the frame was not ready within {self.seconds:g} s")

    def close(self) -> None:
        """Let the reading thread end as soon as it can."""
        self._pipe.close()
        self._reading.add_done_callback(_forget)


def _forget(reading: asyncio.Task[None]) -> None:
    if not reading.cancelled():
        reading.exception()


def send_frame(stream: FrameStream, pipe: Pipe) -> None:
    """Put a frame into a pipe as an Arrow stream, on a thread. Raises what reading raises before the first batch."""
    batches = stream.to_batches()
    first = next(batches)
    sink = _Sink()
    empty = pa.RecordBatch.from_pylist([], first.schema)
    try:
        with pa.ipc.new_stream(sink, first.schema) as writer:
            try:
                batch: pa.RecordBatch | None = first
                while batch is not None:
                    writer.write_batch(batch)
                    pipe.put(sink.taken(), batch.num_rows)
                    batch = next(batches, None)
                ending = {MANIFEST_KEY: stream.manifest.to_json().encode()}
            except CallerLeft:
                raise
            except FStoreError as error:
                ending = {PROBLEM_KEY: encode_problem(error, status_of(error), "")}
            except Exception as error:  # whatever it is, the caller must not take what there is for the whole
                failed = ServerFailed(f"the server failed with {type(error).__name__} in the middle of a frame")
                pipe.put(sink.taken(), 0)
                writer.write_batch(empty, custom_metadata={PROBLEM_KEY: encode_problem(failed, 500, "")})
                pipe.put(sink.taken(), 0)
                raise
            writer.write_batch(empty, custom_metadata=ending)
        pipe.put(sink.taken(), 0)
    except CallerLeft:
        return


def run_in(pipe: Pipe, open_stream: Callable[[Result], FrameStream], client: Result) -> None:
    """Read a frame with a client into a pipe."""
    with open_stream(client) as stream:
        send_frame(stream, pipe)


class _Sink(io.RawIOBase):
    """Takes what an Arrow writer writes, until it is taken from there."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        """Say that it can be written to."""
        return True

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        """Take some bytes."""
        part = bytes(data)
        self._parts.append(part)
        return len(part)

    def taken(self) -> bytes:
        """Return what was written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)
