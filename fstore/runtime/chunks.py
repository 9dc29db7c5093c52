"""How many intervals of a batch make a chunk: so many that a file has the rows that are good to read.

Pure: takes the intervals left and what was measured so far. Many small files make every read slow, and one huge file makes a
failure dear; 10 to 20 million rows are read as fast as one file and written in minutes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from fstore.interval import Interval

CHUNK_ROWS = 15_000_000
"""Rows that a chunk aims at."""

FIRST_SHARE = 30
"""The first chunk of a view of which nothing is known is one of so many equal parts of the batch."""

UNMEASURED = 10
"""So few intervals are one chunk, whatever they hold."""


class ChunkSizes:
    """Cuts a batch into chunks, the later ones by the rows of those before.

    ``rows_per_interval`` is what earlier runs of the view have measured, None when there was none.
    """

    def __init__(self, rows_per_interval: float | None = None) -> None:
        self._rows_per_interval = rows_per_interval

    def measured(self, intervals: int, rows: int) -> None:
        """Take note of how many rows some intervals had."""
        self._rows_per_interval = rows / max(1, intervals)

    def take(self, left: Sequence[Interval]) -> Sequence[Interval]:
        """Return the next chunk of what is left: of equal chunks the first one."""
        if len(left) <= 1:
            return left
        if self._rows_per_interval is None:
            return left if len(left) <= UNMEASURED else left[: max(1, len(left) // FIRST_SHARE)]
        chunks = max(1, math.ceil(len(left) * self._rows_per_interval / CHUNK_ROWS))
        return left[: math.ceil(len(left) / chunks)]

    def count(self, left: Sequence[Interval]) -> int:
        """Return into how many chunks the intervals will be cut, as far as that is known now."""
        if self._rows_per_interval is None:
            return 1 if len(left) <= UNMEASURED else 2
        return max(1, min(len(left), math.ceil(len(left) * self._rows_per_interval / CHUNK_ROWS)))
