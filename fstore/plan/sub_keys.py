"""What the aggregates over sub-keyed tiles have in common: the events that count, and queries put side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fstore.plan.scalar_states import condition
from fstore.plan.slides import Slide
from fstore.plan.sql import quoted
from fstore.plan.steps import TileState
from fstore.plan.tile_states import TILE_START, TILE_SUB, TileDraft
from fstore.plan.window_features import WindowFeature

OWN = "own"
"""The relation that the families of aggregates read: tiles whose columns have our names, whatever the keys are called."""


WHOLE = "whole"
"""The relation of the tiles of whole keys, which has every key that is looked at: those without it get no row."""

BEGINS = f"SELECT epoch_us({TILE_START}) AS begins FROM {OWN}"
"""The query for when the tiles of :data:`OWN` begin."""


class SubQueries(NamedTuple):
    """Features over sub-keyed tiles: the states read, and queries over :data:`OWN` for many intervals and for one."""

    states: tuple[TileState, ...]
    range: str
    single: str


def events_slide(draft: TileDraft, feature: WindowFeature) -> Slide:
    """Return the slide that counts the events of a sub-key which a feature looks at, whatever its argument is."""
    state = draft.state(
        "count", None, feature.where, aggregate=f"count(*){condition(feature)}", merge="sum({0})", type="BIGINT",
        columns=feature.columns if feature.where else (),
    )  # fmt: skip
    return Slide(
        name=state.name, tile=state, merge=f"sum({state.name}){{filter}}", over=f"sum({state.name}) {{over}}", counter=True
    )


def key_columns(draft: TileDraft) -> list[str]:
    """Return the names that keys have within queries."""
    return [f"k{index}" for index in range(len(draft.keys))]


def own_names(draft: TileDraft, relation: str, whole: str, states: Iterable[TileState], query: str) -> str:
    """Return a query over :data:`OWN` and :data:`WHOLE` as one over ``relation`` and ``whole``."""
    keys = [f"{quoted(key)} AS {column}" for column, key in zip(key_columns(draft), draft.keys, strict=True)]
    columns = [*keys, TILE_SUB, TILE_START, *dict.fromkeys(state.name for state in states)]
    return (
        f"WITH {WHOLE} AS (\n  SELECT {', '.join(keys)}\n  FROM {whole}\n),\n"
        f"{OWN} AS (\n  SELECT {', '.join(columns)}\n  FROM {relation}\n)\nSELECT * FROM (\n{query}\n)"
    )


def numbered_keys(draft: TileDraft, relation: str = WHOLE) -> str:
    """Return the CTE ``key``, which numbers the keys of a relation as ``k``."""
    columns = ", ".join(key_columns(draft))
    return f"""key AS MATERIALIZED (
  SELECT {columns}, CAST(row_number() OVER () AS UINTEGER) AS k
  FROM (SELECT DISTINCT {columns} FROM {relation})
)"""


def side_by_side(draft: TileDraft, queries: Sequence[str]) -> str:
    """Return the query with the columns of all, which are each unique by key and interval."""
    if len(queries) == 1:
        return queries[0]
    using = ", ".join([*key_columns(draft), "interval_end"])
    first, *others = (f"(\n{query}\n)" for query in queries)
    return f"SELECT * FROM {first}" + "".join(f"\nFULL JOIN {query} USING ({using})" for query in others)
