"""Frames that arrive while they are read: what a client's ``scan_historical_features`` gives over HTTP.

An Arrow stream of which the last batch tells how the read ended. Without it the stream was cut, which is an error, and never
a shorter frame.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pyarrow as pa

from fstore.errors import DeadlineExceeded, ServerUnavailable
from fstore.retrieval.frame_stream import BatchStream
from fstore.retrieval.training import MANIFEST_KEY, Manifest
from fstore.serving.problems import PROBLEM_TYPE, decode_problem
from fstore.serving.streaming import PROBLEM_KEY

Opened = Callable[[], AbstractContextManager[Iterator[bytes]]]
"""Sends the request, and gives what comes as pieces."""


class ReceivedStream(BatchStream):
    """A training frame that a server reads while it is consumed, as often as wanted: each reading is a request.

    A reading after the first may see what was published between, unless ``as_of`` says which moment is meant.
    """

    def __init__(self, opened: Opened, where: str) -> None:
        """Read what a request gives; nothing is sent before the first batch is asked for."""
        super().__init__()
        self._opened, self._where = opened, where

    def to_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows in the order given, as record batches of equal schema; at least one.

        Raises what a :class:`~fstore.Client` raises, and ServerUnavailable when the stream is cut, whatever came before.
        """
        self._manifest = None
        with self._opened() as pieces:
            yielded = False
            schema: pa.Schema | None = None
            for batch, metadata in self._received(pieces):
                if metadata is None or not (MANIFEST_KEY in metadata or PROBLEM_KEY in metadata):
                    yielded = True
                    yield batch
                    continue
                if PROBLEM_KEY in metadata:
                    raise decode_problem(500, PROBLEM_TYPE, metadata[PROBLEM_KEY], self._where)
                schema, self._manifest = batch.schema, Manifest.from_json(metadata[MANIFEST_KEY])
            if self._manifest is None:
                raise ServerUnavailable(f"{self._where} broke off in the middle of a frame: its end did not come")
            if not yielded:
                yield pa.RecordBatch.from_pylist([], schema)

    def _received(self, pieces: Iterator[bytes]) -> Iterator[tuple[pa.RecordBatch, dict[bytes, bytes] | None]]:
        try:
            with pa.ipc.open_stream(pa.PythonFile(_Incoming(pieces), mode="r")) as reader:
                while True:
                    yield reader.read_next_batch_with_custom_metadata()
        except StopIteration:
            return
        except httpx.TimeoutException as error:
            raise DeadlineExceeded(f"{self._where} sent nothing of a frame in time") from error
        except (httpx.TransportError, pa.ArrowException, OSError) as error:
            raise ServerUnavailable(f"{self._where} broke off in the middle of a frame: {error}") from error


class AsyncReceivedStream:
    """:class:`ReceivedStream` for event loops: a thread waits for what comes."""

    def __init__(self, stream: ReceivedStream) -> None:
        """Read a stream without blocking the loop."""
        self._stream = stream

    @property
    def manifest(self) -> Manifest:
        """The manifest, once all batches were read. Raises RetrievalError before."""
        return self._stream.manifest

    async def to_batches(self) -> AsyncIterator[pa.RecordBatch]:
        """Yield the rows as :meth:`ReceivedStream.to_batches` does."""
        batches, loop = self._stream.to_batches(), asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1)  # so that closing comes after what is being read, whoever still waits for it
        try:
            while (batch := await (reading := loop.run_in_executor(thread, next, batches, None))) is not None:
                yield batch
        finally:
            closing = thread.submit(batches.close)  # type: ignore[attr-defined]
            thread.shutdown(wait=False)
            if not reading.cancelled():
                await asyncio.wrap_future(closing)

    async def to_parquet(self, path: str | Path) -> None:
        """Write the rows and the manifest as one Parquet file, which appears whole or not at all."""
        await asyncio.to_thread(self._stream.to_parquet, path)


class _Incoming(io.RawIOBase):
    """What arrives, as a file to read from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces, self._rest = pieces, b""

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return so many bytes, fewer at the end."""
        parts, wanted = [self._rest], size - len(self._rest)
        while size < 0 or wanted > 0:
            piece = next(self._pieces, None)
            if piece is None:
                break
            parts.append(piece)
            wanted -= len(piece)
        data = b"".join(parts)
        if size < 0:
            size = len(data)
        self._rest = data[size:]
        return data[:size]
