"""What an attempt at tiles made, as the registry keeps it: which states, of which source, at which length, by which SQL.

Frozen values, serialized as canonical JSON. Compiles nothing.
"""

from __future__ import annotations

from datetime import timedelta

import msgspec

from fstore.decoding import decode_json
from fstore.plan.steps import TileSet

TILES_GENERATION = 1
"""Tiles are shared by what they contain, so another content is another data set, never another generation."""

TILES_PREFIX = "tiles:"
"""How the names of data sets of tiles begin; no view can be called that."""


class TileStep(msgspec.Struct, frozen=True, kw_only=True, tag="tiles"):
    """The states of ``tiles``, made by ``sql`` from relation ``events`` or, where ``finer`` is given, from finer tiles.

    ``finer`` is the length of the tiles that were merged.
    """

    project: str
    tiles: TileSet
    sql: str
    finer: timedelta | None = None

    @property
    def datasets(self) -> tuple[str, ...]:
        """The data sets that publications of this step go to: one per state."""
        return tuple(state.dataset for state in self.tiles.states)


def is_tiles(name: str) -> bool:
    """Whether the name of a data set is one of tiles rather than a view's."""
    return name.startswith(TILES_PREFIX)


def encode_tile_step(step: TileStep) -> str:
    """Return a step as canonical JSON (sorted keys)."""
    return msgspec.json.encode(step, order="sorted").decode()


def decode_tile_step(text: str | bytes) -> TileStep:
    """Return the step that :func:`encode_tile_step` wrote."""
    return decode_json(text, TileStep)
