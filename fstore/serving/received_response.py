"""An online response as it came over HTTP: what the caller of a client gets, whichever process read the stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TypeVar

import msgspec
import pyarrow as pa

from fstore.arrow import type_text
from fstore.retrieval.online_entities import OnlineEntities
from fstore.retrieval.online_response import OnlineResponse, Outputs, Place
from fstore.retrieval.online_values import STATUSES, Status
from fstore.serving.online_answers import DETAILS_KEY, STATUS_COLUMN, TIME_COLUMN
from fstore.serving.responses import read_table

Item = TypeVar("Item")


class ReceivedResponse(OnlineResponse):
    """Feature values per entity, with the statuses and times that came along. Nothing in it is of a cache of this client."""

    def __init__(self, table: pa.Table, pair_of: Mapping[str, int], details: pa.Table) -> None:
        """``pair_of`` says for each feature of the table which pair of columns in ``details`` is its own."""
        given = table.select([name for name in table.column_names if name not in pair_of])
        outputs = Outputs([Place(name, name, None, 0, type_text(table[name].type)) for name in pair_of])
        super().__init__(OnlineEntities(given, None, given.num_rows), outputs, (), {name: table[name] for name in pair_of})
        self._pair_of, self._details = pair_of, details

    @property
    def statuses(self) -> dict[str, list[Status]]:
        """What each value stands on, by feature column."""
        return self._by_pair(lambda pair: [STATUSES[code] for code in self._details[f"{STATUS_COLUMN}{pair}"].to_pylist()])

    @property
    def event_timestamps(self) -> dict[str, list[datetime | None]]:
        """The instant that each stored value describes, by feature column; None where there is none."""
        return self._by_pair(lambda pair: self._details[f"{TIME_COLUMN}{pair}"].to_pylist())

    def _by_pair(self, read: Callable[[int], list[Item]]) -> dict[str, list[Item]]:
        lists = {pair: read(pair) for pair in set(self._pair_of.values())}
        return {feature: list(lists[pair]) for feature, pair in self._pair_of.items()}


def read_online(body: bytes) -> OnlineResponse:
    """Return the response that an Arrow answer with statuses and times holds."""
    table = read_table(body)
    metadata = dict(table.schema.metadata)
    pair_of: dict[str, int] = msgspec.json.decode(metadata.pop(DETAILS_KEY))
    names = [name for name in table.column_names if not name.startswith((STATUS_COLUMN, TIME_COLUMN))]
    return ReceivedResponse(table.select(names).replace_schema_metadata(metadata or None), pair_of, table)
