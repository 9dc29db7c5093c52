"""Under which keys a project's rows, floors and marks lie in Redis, and what a read asks for and gets.

Rows lie under ``fstore:<project>:row:<view>:<generation>:<key>``. Pure: blocking and asyncio readers share it.
"""

from __future__ import annotations

from collections.abc import Sequence

from fstore.stores.online import OnlineView, ViewKeys, ViewRows, decode_floor


class RedisKeys:
    """The keys of one project; ``tag`` follows ``fstore:`` in all of them."""

    def __init__(self, project: str, tag: str = "") -> None:
        self._tag = tag
        self.id = f"fstore:{tag}{project}:id".encode()
        self.life = f"fstore:{tag}{project}:life".encode()
        self._places: dict[OnlineView, tuple[bytes, bytes]] = {}

    def floor(self, view: OnlineView) -> bytes:
        """Return the key of a view's floor."""
        return self._place(view)[0]

    def rows(self, view: OnlineView) -> bytes:
        """Return what the keys of a view's rows begin with."""
        return self._place(view)[1]

    @staticmethod
    def tagged_rows(view: OnlineView) -> bytes:
        """Return the pattern of the keys of a view's rows under any tag in braces."""
        return f"fstore:{{*}}:{view.project}:row:{view.view}:{view.generation}:*".encode()

    def mark(self, view: OnlineView) -> bytes:
        """Return the key of a view's mark."""
        return f"fstore:{self._tag}{view.project}:mark:{view.view}:{view.generation}".encode()

    def forgotten(self, view: OnlineView) -> bytes:
        """Return the key of what was forgotten last of a view."""
        return f"fstore:{self._tag}{view.project}:forgotten:{view.view}:{view.generation}".encode()

    def wanted(self, requests: Sequence[ViewKeys]) -> list[bytes]:
        """Return the keys of one MGET, which is atomic: the store's id, then each request's floor and rows."""
        keys = [self.id]
        for view, own in requests:
            floor, prefix = self._place(view)
            keys.append(floor)
            keys += [prefix + key for key in own]
        return keys

    def found(self, requests: Sequence[ViewKeys], values: list[bytes | None]) -> list[ViewRows] | None:
        """Return the values of these keys by request, or None where the store has no id."""
        if values[0] is None:
            return None
        found, at = [], 1
        for _, own in requests:
            rows = at + 1
            end = rows + len(own)
            found.append(ViewRows(floor=decode_floor(values[at]), rows=values[rows:end]))
            at = end
        return found

    def _place(self, view: OnlineView) -> tuple[bytes, bytes]:
        place = self._places.get(view)
        if place is None:
            name = f"{view.view}:{view.generation}"
            place = (
                f"fstore:{self._tag}{view.project}:floor:{name}".encode(),
                f"fstore:{self._tag}{view.project}:row:{name}:".encode(),
            )
            self._places[view] = place
        return place
