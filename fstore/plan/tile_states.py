"""Making the states and sets of tiles: their names, and the datasets that views share.

Takes the SQL of a mergeable aggregate with everything that it depends on, and gives the :class:`TileState` that the plan
keeps. Equal meaning gives an equal name whatever view asks: SQL counts by its tokens, columns by their real names. Decides
nothing about windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

import msgspec

from fstore.definitions.source import Source
from fstore.plan.fingerprint import source_identity
from fstore.plan.sql import canonical_sql, quoted
from fstore.plan.steps import EventInput, TileSet, TileState, fingerprint_of, tile_dataset
from fstore.plan.window_features import Span, longest_reach

VERSION = 1
"""Part of every state's identity: raised when the SQL that makes states from events comes to mean something else."""

TILE_SUB, TILE_START = "tile_sub", "tile_start"
"""The columns of a relation of tiles that are named alike in all: the sub-key, and the instant at which a tile begins."""

TILE_TO = "__tile_to"
"""The name by which the SQL of a state may mean where its tile ends, in microseconds since 1970.

In ``TileState.aggregate`` it is the tile that the events are gathered into; in ``TileState.merge`` the coarse tile, and
``event_timestamp`` is the end of the finer one."""


def centre_column(state: str) -> str:
    """Return the column, quoted, of the value around which rows of tiles are merged to a state, given by name."""
    return quoted(f"centre {state}")


class TileDraft(msgspec.Struct, frozen=True, kw_only=True):
    """What the tiles of a set have in common, while their states are being collected.

    ``split`` is the SQL scalar by which the events of a key are split, which reads ``split_columns``; ``split_known`` is the
    condition that it is not null. ``read`` are the keys and the time as the source spells them, where that differs.
    """

    source: Source
    keys: tuple[str, ...]
    event_time: str
    length: timedelta
    coarse: timedelta | None = None
    split: str | None = None
    split_columns: tuple[str, ...] = ()
    split_known: str = ""
    read: tuple[str, ...] = ()

    @property
    def instant(self) -> str:
        """The SQL of an event's time in microseconds."""
        return f"epoch_us({quoted(self.event_time)})"

    @property
    def identity(self) -> str:
        """What names the tiles, of any length, without their states."""
        split = None if self.split is None else canonical_sql(self.split)
        return fingerprint_of("tiles", VERSION, source_identity(self.source), self.event_time, self.keys, split)

    def state(
        self, kind: str, *parts: object, aggregate: str, merge: str, type: str, columns: Sequence[str] = (),
        inexact: str = "", again: str = "", centre: str = "",
    ) -> TileState:  # fmt: skip
        """Return a state.

        ``kind`` and ``parts`` (SQL texts, numbers or None) say what it is; the SQL of ``aggregate`` is derived from them.
        In ``merge``, ``inexact``, ``again`` and ``centre`` ``{0}`` stands for the column, which is quoted where it is put
        in; in ``merge`` ``{1}`` is the column of the centre.
        """
        said = [canonical_sql(part) if isinstance(part, str) else part for part in parts]
        identity = fingerprint_of(self.identity, kind, said, type)
        name = f"t_{kind}_{identity}"
        column = quoted(name)
        return TileState(
            name=name, identity=identity, dataset=tile_dataset(identity, self.length), type=type, aggregate=aggregate,
            merge=merge.format(column, centre_column(name)), columns=tuple(columns), inexact=inexact.format(column),
            again=again.format(column), centre=centre.format(column),
        )  # fmt: skip

    def all_events(self) -> TileState:
        """Return the state that every set has: how many events there are."""
        return self.state("count", None, None, aggregate="count(*)", merge="sum({0})", type="BIGINT")

    def tile_set(
        self, relation: str, states: Iterable[TileState], spans: Iterable[Span], *, edges: Iterable[timedelta] = ()
    ) -> TileSet:
        """Return the set of some states (each kept once, after the number of events) for windows over some spans.

        ``edges`` are further distances before an interval's end at which tiles must not be merged.
        """
        kept = {state.name: state for state in [self.all_events(), *states]}
        known = list(dict.fromkeys(spans))
        reach = longest_reach(known)
        distances = {*edges, *(span.offset for span in known), *(span.reach for span in known if span.reach is not None)}
        columns = [*(self.read or (*self.keys, self.event_time)), *self.split_columns]
        columns += [column for state in kept.values() for column in state.columns]
        return TileSet(
            relation=relation,
            events=EventInput(alias="events", source=self.source, window=reach, columns=tuple(dict.fromkeys(columns))),
            keys=self.keys,
            length=self.length,
            coarse=self.coarse,
            back=reach,
            edges=tuple(sorted(distances)),
            states=tuple(kept.values()),
            identity=self.identity,
            sub=self.split,
            sub_columns=self.split_columns,
            sub_known=self.split_known,
        )
