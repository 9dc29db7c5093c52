"""What slides over time: the columns that a state becomes when tiles are merged and windows move over them.

A :class:`Slide` says, for one column, how rows of tiles are merged into a segment of time, and how segments are merged
within a window. :mod:`fstore.plan.frames` lays them out; :mod:`fstore.plan.scalar_states` says which slides an aggregate
needs.
"""

from __future__ import annotations

import msgspec

from fstore.plan.steps import TileState
from fstore.plan.window_features import Span


class Slide(msgspec.Struct, frozen=True, kw_only=True):
    """One column.

    ``merge`` is SQL that merges rows of tiles; ``{filter}`` in it, after an aggregate, is the place of a FILTER. ``over``
    merges segments within a window: in it ``{over}`` is the place of an OVER, and the column is called ``name``. ``joined``
    merges segments, numbered by ``segment``, in a group: in it ``{over}`` is the place of a FILTER (empty: as ``over``).
    ``where`` is the condition, on its end ``{until}`` in microseconds, that a window can hold any value (empty: always);
    slides that can nowhere cost nothing. ``weight`` is what the merged value is multiplied by at an interval's end
    ``{end}``, in microseconds. All three may depend on the end of the first interval: the column ``first_end`` in ``merge``,
    ``{first}`` in the others; only those with a weight have it. ``counter`` says that values are counts, several of which
    may be added up at once; ``centred`` that merging reads the column of a centre; ``ends_alike`` that a longer window that
    ends alike gives the same where this one has anything; ``listed`` is the length of a list of which the column only says
    with which tile it begins, negative if oldest first.
    """

    name: str
    tile: TileState
    merge: str
    over: str
    joined: str = ""
    counter: bool = False
    centred: bool = False
    where: str = ""
    weight: str = ""
    ends_alike: bool = False
    listed: int = 0


class SlideRef(msgspec.Struct, frozen=True, kw_only=True):
    """A slide over a span of time; ``column`` is the name of the column that holds it."""

    slide: Slide
    span: Span
    column: str
