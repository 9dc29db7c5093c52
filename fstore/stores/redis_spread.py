"""How the keys of a read are spread over the buckets of a cluster, and what was found put together again.

Pure: blocking and asyncio readers share it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Final, TypeVar

from fstore.stores.online import Floor, ViewKeys, ViewRows
from fstore.stores.redis_keys import RedisKeys

BUCKETS: Final = 128
"""Enough for a few dozen servers to have about as many each; each costs a read of many keys two more keys to look up."""

Server = TypeVar("Server", bound=Hashable)


class Spread:
    """The requests of one read by bucket. ``wanted`` are the keys of an MGET per bucket of ``numbers``."""

    def __init__(self, requests: Sequence[ViewKeys], keys: Sequence[RedisKeys], *, buckets: Iterable[int] = (0,)) -> None:
        """Spread requests; one without keys asks ``buckets`` for their floor."""
        self._requests, self._keys = requests, keys
        places: dict[int, dict[int, list[int]]] = {}  # by bucket, by request: places among the request's keys
        for number, (_, own) in enumerate(requests):
            if not own:
                for bucket in buckets:
                    places.setdefault(bucket, {}).setdefault(number, [])
            for place, key in enumerate(own):
                places.setdefault(zlib.crc32(key) % BUCKETS, {}).setdefault(number, []).append(place)
        self.numbers = list(places)
        self._places = list(places.values())
        self._asked = [
            [ViewKeys(requests[number].view, [requests[number].keys[place] for place in chosen])
             for number, chosen in by_request.items()]
            for by_request in self._places
        ]  # fmt: skip
        self.wanted = [keys[bucket].wanted(asked) for bucket, asked in zip(self.numbers, self._asked, strict=True)]

    def by_server(self, server: Callable[[int], Server]) -> dict[Server, list[int]]:
        """Return the places among ``wanted`` by the server that has the bucket."""
        found: dict[Server, list[int]] = {}
        for place, number in enumerate(self.numbers):
            found.setdefault(server(number), []).append(place)
        return found

    def merge(self, values: Sequence[list[bytes | None]]) -> list[ViewRows] | None:
        """Return rows in the order asked for, each view with its lowest floor; None where a bucket has no id."""
        rows: list[list[bytes | None]] = [[None] * len(own.keys) for own in self._requests]
        floors: list[list[Floor | None]] = [[] for _ in self._requests]
        for bucket, asked, by_request, own in zip(self.numbers, self._asked, self._places, values, strict=True):
            found = self._keys[bucket].found(asked, own)
            if found is None:
                return None
            for (number, chosen), part in zip(by_request.items(), found, strict=True):
                floors[number].append(part.floor)
                for place, row in zip(chosen, part.rows, strict=True):
                    rows[number][place] = row
        return [ViewRows(floor=_lowest(own), rows=some) for own, some in zip(floors, rows, strict=True)]


def _lowest(floors: Sequence[Floor | None]) -> Floor | None:
    known = [floor for floor in floors if floor is not None]
    return min(known, key=lambda floor: floor.sequence) if len(known) == len(floors) else None
