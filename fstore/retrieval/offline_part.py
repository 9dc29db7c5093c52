"""The part of an online read whose views are not kept online: read from the offline store, where the caller allows it.

Gives what a point-in-time join at the moment of the read gives, of what has been published, by the very code of training
frames. Costs what such a join does, tens of milliseconds and more, and blocks meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import pyarrow as pa

from fstore.arrow import TIMESTAMP
from fstore.interval import to_micros
from fstore.retrieval.entity_rows import key_columns
from fstore.retrieval.features import SelectedView
from fstore.retrieval.frame_reader import FrameRequest
from fstore.retrieval.historical import HistoricalReads

_MOMENT = "fstore:moment"
"""Names the column with the moment of the read: no column of a reader's can be called so by accident."""


class OfflinePart:
    """The joins of views that are read from the offline store."""

    def __init__(self, views: Sequence[SelectedView], reads: HistoricalReads) -> None:
        self._views, self._reads = tuple(views), reads
        self.references = [reference for view in views for reference in view.columns]

    def read(self, entities: pa.Table, now: datetime) -> dict[str, pa.ChunkedArray]:
        """Return the values of each reference for entities as of ``now``.

        Raises EntityColumnError, and what reading published files raises.
        """
        for view in self._views:
            key_columns(entities, view.keys, view.label)
        keys = list(dict.fromkeys(key.name for view in self._views for key in view.keys))
        instants = np.full(entities.num_rows, to_micros(now), np.int64)
        moments = pa.Array.from_buffers(TIMESTAMP, entities.num_rows, [None, pa.py_buffer(instants)])
        spine = entities.select(keys).append_column(_MOMENT, moments)
        request = FrameRequest(features=self.references, timestamp_column=_MOMENT, missing="allow", full_names=True)
        frame = self._reads.read(spine, request).to_arrow()
        values = frame.columns[spine.num_columns :]
        return dict(zip(self.references, values, strict=True))
