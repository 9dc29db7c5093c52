"""Lists of the oldest and newest values of a window: ``first_k`` and ``last_k``.

Each tile keeps its outermost values, the wanted ones first. Tiles follow each other in time, so that only making them has to
look at times and ties. A window ends (or begins) with some tile that has values, and its list is a run of the values from
there on. So the k values next to each tile are gathered once for all windows; what slides is only which tile is outermost
and how many values there are, and lists are joined to the rows at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fstore.plan.inference import sql_type
from fstore.plan.outermost import rank_of
from fstore.plan.slides import Slide
from fstore.plan.tile_states import TileDraft
from fstore.plan.window_features import WindowFeature
from fstore.types import parse_type


def _kept(draft: TileDraft, feature: WindowFeature, counted: str, *, newest: bool, k: int) -> str:
    """Return the aggregate of a list of the ``k`` outermost values, the outermost first.

    Ties of time go to ``order_by`` (a null one loses), then to the greatest value. Where a value has a rank among whole
    numbers, time and rank are compared as one 128-bit integer, which takes half the time that structs take.
    """
    at = draft.instant if newest else f"-{draft.instant}"
    argument, rank, condition = f"({feature.argument})", rank_of(feature), f" FILTER ({counted})"
    if feature.order_by is not None:
        order = f"{feature.order_by}, '{'ASC' if newest else 'DESC'} NULLS FIRST'"
        key = f"create_sort_key({at}, 'ASC NULLS FIRST', {order}, {argument}, 'ASC NULLS FIRST')"
    elif rank is not None:
        key = f"CAST({at} AS HUGEINT) * {2**64} + {rank}"
    else:
        return f'list_transform(max(struct_pack("at" := {at}, v := {argument}), {k}){condition}, lambda item: item.v)'
    return f"arg_max({argument}, {key}, {k}){condition}"


def _quick(draft: TileDraft, feature: WindowFeature, counted: str, *, newest: bool, k: int) -> str:
    """Return the aggregate of a list of ``k`` that compares times only, and is longer than ``k`` where that may be wrong.

    DuckDB compares whole numbers of 64 bits in a third of the time that longer keys take, and keeps them in a third of the
    memory. One more value is kept than wanted, and so are times: they say whether values meet whose order is open, or the
    last wanted one and the one after it. Events that do not count have no time here, which is cheaper than a FILTER of each
    aggregate; and values are looked at only where times meet at all.
    """
    farthest, best = ("arg_max", "max") if newest else ("arg_min", "min")
    instant = f"CASE WHEN {counted} THEN {draft.instant} END"
    times = f"{best}({instant}, {k + 1})"
    values = f"{farthest}(({feature.argument}), {instant}, {k + 1})"
    meet = f"list_reduce({times}, lambda a, b: CASE WHEN a <> b THEN b END) IS NULL"
    neighbours = f"list_zip({times}, {times}[2:], {values}, {values}[2:])"
    met = f"p[1] = p[2] AND (i = {k} OR p[3] IS DISTINCT FROM p[4])"
    doubtful = f"CASE WHEN {meet} THEN len(list_filter({neighbours}, lambda p, i: {met})) > 0 END"
    return f"CASE WHEN {doubtful} THEN list_resize({values}, {k + 1}) ELSE {values}[:{k}] END"


def list_slides(draft: TileDraft, feature: WindowFeature, counted: str) -> tuple[Slide, Slide]:
    """Return the slides of the first or last values, and of how many there are (of more than k in a tile, k).

    ``counted`` is the condition of the events that count.
    """
    newest, k = feature.function == "last_k", feature.limit or 1
    direction = "DESC" if newest else "ASC"
    item = _type(feature)
    state = draft.state(
        feature.function, feature.argument, feature.where, feature.order_by, k,
        aggregate=_quick(draft, feature, counted, newest=newest, k=k),
        merge=f"flatten(list({{0}} ORDER BY tile_start {direction}))[:{k}]", type=item and f"{item}[]",
        columns=feature.columns, inexact=f"len({{0}}) > {k}", again=_kept(draft, feature, counted, newest=newest, k=k),
    )  # fmt: skip
    name = state.name
    farthest = "max" if newest else "min"
    tile, count = f"{name}_tile", f"{name}_len"
    outermost = Slide(
        name=tile,
        tile=state,
        merge=f"{farthest}(CASE WHEN len({name}) > 0 THEN epoch_us(tile_start) END){{filter}}",
        over=f"{farthest}({tile}) {{over}}",
        ends_alike=newest,
        listed=k if newest else -k,
    )
    number = Slide(name=count, tile=state, merge=f"sum(len({name})){{filter}}", over=f"sum({count}) {{over}}", counter=True)
    return outermost, number


def listed_rows(rows: str, tiles: str, keys: Mapping[str, str], columns: Mapping[str, Slide], others: Sequence[str]) -> str:
    """Return the query that puts lists in the place of the tiles that they begin with.

    ``tiles`` is the relation of tiles, ``keys`` maps columns of ``rows`` to its own, ``columns`` names those of ``rows``
    that hold tiles, with their slides, and ``others`` the further columns.
    """
    lists = {slide.name: f"list_{number}" for number, slide in enumerate(dict.fromkeys(columns.values()))}
    gathered = [_gathered(lists[slide.name], tiles, keys, slide) for slide in dict.fromkeys(columns.values())]
    joins = [
        f"LEFT JOIN {lists[slide.name]} AS of_{column} ON "
        + " AND ".join([f"of_{column}.{key} = rows.{key}" for key in keys])
        + f" AND of_{column}.beginning = rows.{column}"
        for column, slide in columns.items()
    ]
    shown = [f"rows.{name}" for name in [*keys, "interval_end", *others]]
    shown += [f"of_{column}.items AS {column}" for column in columns]
    ctes = ",\n".join(gathered)
    return f"WITH {ctes}\nSELECT\n  {', '.join(shown)}\nFROM (\n{rows}\n) AS rows\n" + "\n".join(joins)


def _gathered(name: str, tiles: str, keys: Mapping[str, str], slide: Slide) -> str:
    """Return the CTE of the values next to each tile: its own and those of the tiles that follow, k altogether."""
    k, direction = abs(slide.listed), "DESC" if slide.listed > 0 else "ASC"
    column = slide.tile.name
    listed = ", ".join(keys)
    named = ", ".join(f"{key} AS {own}" for own, key in keys.items())
    here = f"PARTITION BY {listed} ORDER BY"
    return f"""{name} AS (
  SELECT
    {listed}, beginning,
    flatten(list(own) OVER ({here} number RANGE BETWEEN CURRENT ROW AND {k - 1} FOLLOWING))[:{k}] AS items
  FROM (
    -- number: how many values lie between a tile and the outermost one of its key.
    SELECT *, sum(len(own)) OVER ({here} beginning {direction}) - len(own) AS number
    FROM (SELECT {named}, epoch_us(tile_start) AS beginning, {column} AS own FROM {tiles} WHERE len({column}) > 0)
  )
)"""


def list_value(feature: WindowFeature) -> Callable[[str, str], str]:
    """Return the value of a feature, given the list of its outermost tile and the number of values; null without any."""
    return lambda items, number: f"CASE WHEN {number} > 0 THEN {items}[:least({number}, {feature.limit or 1})] END"


def _type(feature: WindowFeature) -> str:
    """Return the type of an argument in SQL, nothing where it is unknown."""
    return "" if feature.argument_type is None else sql_type(parse_type(feature.argument_type))
