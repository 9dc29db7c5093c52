"""How many different sub-keys a window holds: exact distinct counts, and the coupons of approximate ones.

A sub-key counts from the interval at which its first tile enters the window until the one at which its last tile leaves;
while a newer tile enters before the older one leaves nothing changes. How many come with the tiles of an instant, and how
many go with them, is counted per key before it is spread over intervals. So a range costs its tiles once, however many and
however long the windows are, and adds up whole numbers only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fstore.interval import MICROSECOND
from fstore.plan.changes import Change, Timeline
from fstore.plan.frames import Frames
from fstore.plan.parts import raw_column
from fstore.plan.scalar_states import presence
from fstore.plan.sketches import COUPON_BITS, distinct_estimate_sql
from fstore.plan.slides import SlideRef
from fstore.plan.sub_keys import OWN, SubQueries, events_slide, key_columns, numbered_keys
from fstore.plan.tile_states import TILE_START, TILE_SUB, TileDraft
from fstore.plan.window_features import WindowFeature

_BITS = 63
"""The bits of a BIGINT without its sign."""

_INSTANTS = 2**64
"""How many microseconds there are."""

_INTEGERS = {"int8": 7, "int16": 15, "int32": 31, "uint8": 8, "uint16": 16, "uint32": 32}
"""The bits of whole numbers without their signs."""


class _Order(NamedTuple):
    """How the tiles of a key are sorted: by sub-key, then by time.

    ``columns`` has ``number``, which counts in units of ``unit`` microseconds. Two numbers of one sub-key are at most
    ``longest`` apart, those of two sub-keys farther, or in different partitions of ``window``.
    """

    columns: str
    window: str
    unit: int
    longest: int


class DistinctCounts:
    """Compiles count_distinct and approx_count_distinct over one split."""

    def __init__(self, features: Sequence[WindowFeature], draft: TileDraft) -> None:
        self.features, self.draft = features, draft
        self.slides = [events_slide(draft, feature) for feature in features]
        self.columns = [f"c{index}" for index in range(len(features))]
        self.keys = key_columns(draft)

    def compile(self) -> SubQueries:
        """Return the queries."""
        states = {slide.tile.name: slide.tile for slide in self.slides}
        return SubQueries(tuple(states.values()), self._finished(self._range()), self._finished(self._single()))

    def _finished(self, counts: str) -> str:
        """Return counts of sub-keys as features."""
        selected = [*self.keys, "interval_end"]
        estimated: list[str] = []
        for feature, column in zip(self.features, self.columns, strict=True):
            value = column
            if feature.function == "approx_count_distinct":
                value = f"of_{column}.estimate"
                estimated.append(column)
            selected.append(f"{value} AS {raw_column(feature)}")
        if not estimated:
            return f"SELECT {', '.join(selected)}\nFROM (\n{counts}\n)"
        some = "\n  UNION\n".join(
            f"  SELECT DISTINCT {column} AS coupons FROM counted WHERE {column} > 0" for column in estimated
        )
        joins = "\n".join(f"LEFT JOIN estimate AS of_{column} ON of_{column}.coupons = {column}" for column in estimated)
        return f"""WITH counted AS MATERIALIZED (
{counts}
),
estimate AS MATERIALIZED (
  SELECT coupons, {distinct_estimate_sql("coupons")} AS estimate FROM (
{some}
  )
)
SELECT {", ".join(selected)}
FROM counted
{joins}"""

    def _single(self) -> str:
        spans = [feature.span for feature in self.features]
        refs = [
            SlideRef(slide=slide, span=span, column=f"events_{column}")
            for slide, span, column in zip(self.slides, spans, self.columns, strict=True)
        ]
        per_sub_key = Frames(OWN, [*self.keys, TILE_SUB], spans, refs, presence(self.draft)).single()
        counts = [f"count(*) FILTER (events_{column} > 0) AS {column}" for column in self.columns]
        groups = ", ".join([*self.keys, "interval_end"])
        return f"SELECT {groups}, {', '.join(counts)}\nFROM (\n{per_sub_key}\n)\nGROUP BY {groups}"

    def _range(self) -> str:
        states = list(dict.fromkeys(slide.name for slide in self.slides))
        begins = " UNION ALL ".join(f"SELECT begins FROM moved{number}" for number in range(len(states)))
        timeline = Timeline(begins, [feature.span for feature in self.features])
        counts = ",\n".join(self._counts(number, state, timeline) for number, state in enumerate(states))
        turns = ",\n".join(
            f"turn{number} AS MATERIALIZED (\n  SELECT * FROM moved{number} LEFT JOIN place USING (begins)\n)"
            for number in range(len(states))
        )
        changes: list[Change] = []
        for feature, slide, column in zip(self.features, self.slides, self.columns, strict=True):
            turn, span = f"turn{states.index(slide.name)}", timeline.spans.index(feature.span)
            changes.append(Change(column, f"came{span}", timeline.enter(feature.span, turn), turn))
            if feature.span.reach is not None:
                changes.append(Change(column, f"-gone{span}", timeline.leave(feature.span, turn), turn))
        listed = ", ".join(self.columns)
        return f"""WITH
{numbered_keys(self.draft)},
{counts},
{timeline.ctes()},
{turns},
{timeline.held(["k"], changes)}
SELECT {", ".join(self.keys)}, interval_end, {listed}
FROM (SELECT k, unnest(range(position, until)) AS position, {listed} FROM held)
JOIN stop USING (position)
JOIN key USING (k)"""

    def _counts(self, number: int, state: str, timeline: Timeline) -> str:
        """Return the CTEs of how many sub-keys come with the tiles of an instant, and go with them, per key and span.

        A sub-key comes with a tile whose older one has left the window by then, or that has none; it goes with a tile that
        leaves before the newer one comes.
        """
        order = self._order()
        counts: list[str] = []
        for index, span in enumerate(timeline.spans):
            for column, gap in ((f"came{index}", "since"), (f"gone{index}", "until")):
                most = order.longest if span.window is None else min(span.window // MICROSECOND // order.unit, order.longest)
                counts.append(f"count(*) - count(CASE WHEN {gap} <= {most} THEN 1 END) AS {column}")
        some = "" if state == self.draft.all_events().name else f"    WHERE {state} > 0\n"  # no tile is without events
        return f"""seen{number} AS (
  SELECT k, begins, number - lag(number) OVER tiles AS since, lead(number) OVER tiles - number AS until
  FROM (
    SELECT k, epoch_us({TILE_START}) AS begins, {order.columns} FROM {OWN} JOIN key USING ({", ".join(self.keys)})
{some}  )
  WINDOW tiles AS ({order.window})
),
moved{number} AS MATERIALIZED (
  SELECT k, begins, {", ".join(counts)}
  FROM seen{number}
  GROUP BY k, begins
)"""

    def _order(self) -> _Order:
        micros = self.draft.length // MICROSECOND
        bits = (_INSTANTS // micros).bit_length()
        if max(_sub_bits(feature) for feature in self.features) + bits + 1 < _BITS:
            packed = f"CAST({TILE_SUB} AS BIGINT) * {2 ** (bits + 1)} + epoch_us({TILE_START}) // {micros} AS number"
            return _Order(packed, "PARTITION BY k ORDER BY number", micros, 2**bits)
        columns = f"{TILE_SUB} AS sub, epoch_us({TILE_START}) AS number"
        return _Order(columns, "PARTITION BY k, sub ORDER BY number", 1, 2**_BITS - 1)


def _sub_bits(feature: WindowFeature) -> int:
    """Return how many bits a sub-key has, without its sign: more than enough for anything but a short whole number."""
    if feature.function == "approx_count_distinct":
        return COUPON_BITS
    return _INTEGERS.get(feature.argument_type or "", _BITS)
