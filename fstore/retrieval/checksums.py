"""Checksums of a training frame: one of its entity rows, one of everything.

Each is the hash of a multiset of rows by value (:func:`fstore.arrow.rows_hash`), so a frame's checksums are the same whether
it was read at once or in parts. Every column is hashed once for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from fstore.arrow import column_hashes, finished_hashes, hash_text, hashes_sum

_THREADS = 2
_LEAST_ROWS, _PART_ROWS, _BATCH_ROWS = 16_384, 262_144, 131_072
"""Rows that a thread takes at least and at most, and those hashed at once: fewer, and threads wait for each other."""


class FrameChecksums:
    """Adds up the checksums of parts. ``spine`` names keys, request values and time, ``features`` the other columns."""

    def __init__(self, spine: Sequence[str], features: Sequence[str]) -> None:
        self._spine = list(dict.fromkeys(spine))
        self._features = [name for name in dict.fromkeys(features) if name not in self._spine]
        self._sums = (0, 0)

    def add(self, table: pa.Table) -> None:
        """Take in rows; all columns must be there."""
        chosen = table.select([*self._spine, *self._features])
        rows = min(_PART_ROWS, max(_LEAST_ROWS, -(-chosen.num_rows // _THREADS)))
        parts = [chosen.slice(start, rows) for start in range(0, chosen.num_rows, rows)]
        if len(parts) < 2:
            found = [self._sums_of(part) for part in parts]
        else:
            with ThreadPoolExecutor(_THREADS) as threads:
                found = list(threads.map(self._sums_of, parts))
        for spine, content in found:
            self._sums = (self._sums[0] + spine, self._sums[1] + content)

    @property
    def spine(self) -> str:
        """The checksum of the entity rows."""
        return hash_text(self._sums[0])

    @property
    def content(self) -> str:
        """The checksum of entity rows and features."""
        return hash_text(self._sums[1])

    def _sums_of(self, part: pa.Table) -> tuple[int, int]:
        spine = content = 0
        for batch in part.to_batches(_BATCH_ROWS):
            hashes = column_hashes(batch.select(self._spine))
            spine += hashes_sum(finished_hashes(hashes))
            content += hashes_sum(finished_hashes(hashes + column_hashes(batch.select(self._features))))
        return spine, content
