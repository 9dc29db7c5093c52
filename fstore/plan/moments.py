"""Variance, standard deviation and skewness: centred moments that merge without cancellation.

Each tile keeps the number of values, their mean and the sums of the second and third powers of their distances from it
(Welford, Technometrics 4, 1962; merged after Chan, Golub and LeVeque, COMPSTAT 1982, and Pébay, SAND2008-6212, all by
DuckDB's own ``skewness``). Such sums lose digits where the mean is far larger than the deviation, because the mean itself
is rounded. So what is far from zero is measured from a centre nearby, which is kept beside the moments: tiles that came out
doubtful are made a second time around their mean, windows merge around a value of their key, and rows that are doubtful
even then around one of their own window.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fstore.plan.slides import Slide
from fstore.plan.tile_states import TileDraft, centre_column
from fstore.plan.window_features import WindowFeature
from fstore.types import parse_type

_MOMENTS = "STRUCT(n UBIGINT, mean DOUBLE, m2 DOUBLE, m3 DOUBLE)"
_CENTRED = "STRUCT(n UBIGINT, mean DOUBLE, m2 DOUBLE, m3 DOUBLE, c DOUBLE)"

_WORST = "1e6"
"""How many times larger than the variance the square of the mean may be: three digits are lost then, of nearly sixteen."""

_EXACT = 2.0**50
"""Whole numbers whose neighbours a float64 surely tells apart."""

_DECIMAL_DIGITS = 38
"""What a decimal of DuckDB can hold."""


def moments_slide(draft: TileDraft, feature: WindowFeature, condition: str) -> Slide:
    """Return the slide of the moments of an argument. ``condition`` is the FILTER of the events that count."""
    state = draft.state(
        "moments", feature.argument, feature.where,
        aggregate=f"CAST(skewness(CAST({_number(feature)} AS DOUBLE)){condition} EXPORT_STATE AS {_CENTRED})",
        merge=f"struct_update({_combined('{0}', '{1}')}, c := any_value({{1}}))",
        type=_CENTRED, columns=feature.columns, inexact=_inexact(),
        again=f"struct_update(CAST(skewness({_around(feature)}){condition} EXPORT_STATE AS {_CENTRED}), "
        f"c := any_value({_rounded(feature)}))",
        centre="CASE WHEN {0}.n > 0 AND isfinite({0}.mean) THEN coalesce({0}.c, 0) + {0}.mean END",
    )  # fmt: skip
    name = state.name
    over = f"CAST(combine_aggr(to_aggregate_state({name}, 'skewness', ['DOUBLE'])) {{over}} AS {_MOMENTS})"
    return Slide(
        name=name, tile=state, merge=_combined(name, centre_column(state.name), "{filter}"), over=over, centred=True
    )


def moments_value(feature: WindowFeature) -> Callable[[str], str]:
    """Return the value of a feature, given its moments."""
    unit = f"{10.0 ** _scale(feature)!r}"

    def value(moments: str) -> str:
        n, m2 = f"CAST({moments}.n AS DOUBLE)", f"{moments}.m2"
        variance = f"CASE WHEN {n} > 1 THEN {m2} / ({n} - 1) END"
        match feature.function:
            case "variance":
                return f"{variance} / {unit} / {unit}" if _scale(feature) else variance
            case "stddev":
                return f"sqrt({variance}) / {unit}" if _scale(feature) else f"sqrt({variance})"
            case _:
                skew = f"{n} * sqrt({n} - 1) / ({n} - 2) * ({moments}.m3 / {m2} / sqrt({m2}))"
                return f"CASE WHEN {n} > 2 AND {m2} <> 0 THEN {skew} END"

    return value


def is_doubtful(moments: str) -> str:
    """Return the condition, never null, that moments around a centre have lost too many digits."""
    square = f"{moments}.n * ({moments}.mean * {moments}.mean)"
    return f"coalesce({moments}.n > 1 AND isfinite({square}) AND {square} > {_WORST} * {moments}.m2, false)"


def centred_relation(relation: str, keys: Sequence[str], slides: Sequence[Slide]) -> str:
    """Return a relation of tiles with the centre of each slide, which is a value of the key."""
    centred = [slide for slide in slides if slide.centred]
    if not centred:
        return relation
    centres = ", ".join(f"any_value({slide.tile.centre}) AS {centre_column(slide.name)}" for slide in centred)
    listed = ", ".join(keys)
    return f"(SELECT * FROM {relation} JOIN (SELECT {listed}, {centres} FROM {relation} GROUP BY {listed}) USING ({listed}))"


def exact_rows(
    rows: str, tiles: str, keys: Mapping[str, str], columns: Mapping[str, tuple[Slide, str]], others: Sequence[str]
) -> str:
    """Return the query that merges doubtful moments of ``rows`` again, around a value of their own window.

    ``tiles`` is the relation of tiles, ``keys`` maps columns of ``rows`` to its own, and ``columns`` names those of ``rows``
    that hold moments, with their slide and the condition (on ``instant`` and ``end_instant``) that a tile lies in their
    window. ``others`` are the further columns.
    """
    doubtful = " OR ".join(is_doubtful(column) for column in columns)
    named = [*keys, "interval_end"]
    same = " AND ".join(f"tiles.{key} = doubtful.{column}" for column, key in keys.items())
    pieces = ", ".join(
        f"any_value({slide.tile.centre}) FILTER ({within}) OVER (PARTITION BY {', '.join(named)}) AS centre_{column}"
        for column, (slide, within) in columns.items()
    )
    merged = ",\n    ".join(
        f"{_combined(slide.name, f'centre_{column}', f' FILTER ({within})')} AS {column}"
        for column, (slide, within) in columns.items()
    )
    shown = ",\n  ".join(
        f"CASE WHEN {is_doubtful(f'rows.{column}')} THEN exact.{column} ELSE rows.{column} END AS {column}"
        for column in columns
    )
    return f"""WITH rows AS MATERIALIZED (
{rows}
),
-- Rows whose values are so far from those that the key was centred on that digits were lost.
doubtful AS (
  SELECT {", ".join(named)}, epoch_us(interval_end) AS end_instant FROM rows WHERE {doubtful}
),
piece AS (
  SELECT *, {pieces}
  FROM (SELECT doubtful.*, tiles.* EXCLUDE ({", ".join(dict.fromkeys(keys.values()))}), epoch_us(tile_start) AS instant
    FROM doubtful JOIN {tiles} AS tiles ON {same})
),
exact AS (
  SELECT
    {", ".join(named)},
    {merged}
  FROM piece
  GROUP BY {", ".join(named)}
)
SELECT
  {", ".join(f"rows.{column}" for column in [*named, *others])},
  {shown}
FROM rows
LEFT JOIN exact USING ({", ".join(named)})"""


def _combined(column: str, centre: str, filtered: str = "") -> str:
    """Return the aggregate that merges moments around a centre."""
    mean = f"(coalesce({column}.c, 0) - coalesce({centre}, 0)) + {column}.mean"
    moved = f"struct_pack(n := {column}.n, mean := {mean}, m2 := {column}.m2, m3 := {column}.m3)"
    state = f"CASE WHEN {column}.n > 0 THEN to_aggregate_state({moved}, 'skewness', ['DOUBLE']) END"
    target = _MOMENTS if filtered else _CENTRED
    return f"CAST(combine_aggr({state}){filtered} AS {target})"


def _is_float(feature: WindowFeature) -> bool:
    return feature.argument_type is None or parse_type(feature.argument_type).is_float


def _scale(feature: WindowFeature) -> int:
    return 0 if feature.argument_type is None else parse_type(feature.argument_type).scale


def _inexact() -> str:
    """Return the condition that a tile's moments have lost digits; equal values have no deviation to lose."""
    return f"{is_doubtful('{0}')} AND ({{0}}.m2 <> 0 OR abs({{0}}.mean) >= {_EXACT!r})"


def _rounded(feature: WindowFeature) -> str:
    """Return the centre of a tile that is made again, as float64: whole where values are exact numbers."""
    return "{0}.mean" if _is_float(feature) else "round({0}.mean)"


def _number(feature: WindowFeature) -> str:
    """Return an argument as a number whose digits float64 does not cut at the decimal point: decimals count their units."""
    scale = _scale(feature)
    if _is_float(feature) or not scale:
        return f"({feature.argument})" if _is_float(feature) else f"CAST(({feature.argument}) AS HUGEINT)"
    exact, unit = f"CAST(({feature.argument}) AS DECIMAL(38,{scale}))", 10**scale
    if parse_type(feature.argument_type or "").precision + scale <= _DECIMAL_DIGITS:
        return f"CAST({exact} * {unit} AS HUGEINT)"
    return f"(CAST(trunc({exact}) AS HUGEINT) * {unit} + CAST(({exact} - trunc({exact})) * {unit} AS HUGEINT))"


def _around(feature: WindowFeature) -> str:
    """Return an argument's distance from the centre as float64, exact numbers being subtracted exactly."""
    if _is_float(feature):
        return f"CAST({_number(feature)} AS DOUBLE) - {{0}}.mean"
    return f"CAST({_number(feature)} - CAST({_rounded(feature)} AS HUGEINT) AS DOUBLE)"
