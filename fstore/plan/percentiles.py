"""Approximate percentiles over tiles that are split by buckets of values.

A percentile is the bucket of the value that has the wanted rank. For many intervals every counted value is a row again and
the rank is looked up within frames; for one interval the buckets' counts are added up in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from fstore.interval import MICROSECOND
from fstore.plan.changes import Timeline
from fstore.plan.frames import Frames
from fstore.plan.parts import raw_column
from fstore.plan.scalar_states import presence
from fstore.plan.sketches import bucket_value_sql
from fstore.plan.slides import SlideRef
from fstore.plan.sub_keys import BEGINS, OWN, SubQueries, events_slide, key_columns, numbered_keys, side_by_side
from fstore.plan.tile_states import TILE_START, TILE_SUB, TileDraft
from fstore.plan.window_features import Span, WindowFeature

_EVER = 2**61
"""Microseconds that are longer than all time."""


class Percentiles:
    """Compiles approx_percentile over one split."""

    def __init__(self, features: Sequence[WindowFeature], draft: TileDraft) -> None:
        self.features, self.draft = features, draft
        self.keys = key_columns(draft)
        self.slides = [events_slide(draft, feature) for feature in features]

    def compile(self) -> SubQueries:
        """Return the queries."""
        states = {slide.tile.name: slide.tile for slide in self.slides}
        ranges = [self._range(state) for state in states]
        return SubQueries(tuple(states.values()), side_by_side(self.draft, ranges), self._single())

    def _range(self, state: str) -> str:
        """Return the query of the features that count by one state."""
        features = [feature for feature, slide in zip(self.features, self.slides, strict=True) if slide.name == state]
        spans = list(dict.fromkeys(feature.span for feature in features))
        timeline = Timeline(BEGINS, spans)
        percents = list(dict.fromkeys(_literal(feature) for feature in features))
        listed = ", ".join(percents)
        found = [f"quantile_disc(bucket, [{listed}]) OVER {_frame(span)} AS found{n}" for n, span in enumerate(spans)]
        values = []
        for feature in features:
            bucket = f"found{spans.index(feature.span)}[{percents.index(_literal(feature)) + 1}]"
            values.append(f"{bucket_value_sql(bucket)} AS {raw_column(feature)}")
        come = f"least({', '.join(timeline.enter(span) for span in spans)})"
        gone = f"greatest({', '.join(timeline.leave(span) for span in spans)})"
        return f"""WITH
{timeline.ctes()},
{numbered_keys(self.draft)},
counted AS MATERIALIZED (
  SELECT k, epoch_us({TILE_START}) AS begins, {TILE_SUB} AS bucket, {state} AS events
  FROM {OWN} JOIN key USING ({", ".join(self.keys)})
  WHERE {state} > 0
),
-- The intervals that some tile of a key lies in: those of a tile up to those of the next one.
asked AS (
  SELECT k, unnest(range(come, least(gone, coalesce(next_come, gone)))) AS position
  FROM (
    SELECT k, {come} AS come, {gone} AS gone, lead({come}) OVER (PARTITION BY k ORDER BY begins) AS next_come
    FROM (SELECT DISTINCT k, begins FROM counted)
    JOIN place USING (begins)
  )
),
item AS (
  SELECT k, begins AS instant, bucket, false AS asks FROM counted CROSS JOIN unnest(range(events))
  UNION ALL
  SELECT k, instant, NULL, true FROM asked JOIN stop USING (position)
),
ranked AS (
  SELECT k, instant, asks, {", ".join(found)}
  FROM item
)
SELECT {", ".join([*self.keys, "interval_end", *values])}
FROM ranked
JOIN stop USING (instant)
JOIN key USING (k)
WHERE asks"""

    def _single(self) -> str:
        spans = [feature.span for feature in self.features]
        refs: dict[tuple[str, Span], SlideRef] = {}
        columns = [
            refs.setdefault((slide.name, span), SlideRef(slide=slide, span=span, column=f"n{len(refs)}")).column
            for slide, span in zip(self.slides, spans, strict=True)
        ]
        counts = Frames(OWN, [*self.keys, TILE_SUB], spans, list(refs.values()), presence(self.draft)).single()
        every = list(dict.fromkeys(columns))
        running = [f"sum({column}) OVER up_to AS to_{column}, sum({column}) OVER whole AS all_{column}" for column in every]
        groups = ", ".join([*self.keys, "interval_end"])
        found = [
            f"min(bucket) FILTER ({column} > 0 AND to_{column} >= {_rank(feature, f'all_{column}')}) AS f{place}"
            for place, (feature, column) in enumerate(zip(self.features, columns, strict=True))
        ]
        values = [f"{bucket_value_sql(f'f{place}')} AS {raw_column(feature)}" for place, feature in enumerate(self.features)]
        return f"""SELECT {groups}, {", ".join(values)}
FROM (
  SELECT {groups}, {", ".join(found)}
  FROM (
    SELECT {groups}, k{len(self.keys)} AS bucket, {", ".join([*every, *running])}
    FROM (
{counts}
    )
    WINDOW
      whole AS (PARTITION BY {groups}),
      up_to AS (PARTITION BY {groups} ORDER BY k{len(self.keys)} ROWS UNBOUNDED PRECEDING)
  )
  GROUP BY {groups}
)"""


def _literal(feature: WindowFeature) -> str:
    """Return a percentile as a decimal number, which ranks are multiples of without rounding."""
    text = format(Decimal(repr(float(feature.percentile or 0.0))), "f")
    return text if "." in text else f"{text}.0"


def _rank(feature: WindowFeature, total: str) -> str:
    """Return the rank, from 1, of the smallest value that at least a share of all values does not exceed."""
    share = Decimal(_literal(feature))
    numerator, denominator = share.as_integer_ratio()
    return f"greatest(1, ({numerator} * {total} + {denominator - 1}) // {denominator})"


def _frame(span: Span) -> str:
    """Return the frame of a span before an interval's end; rows of values have none."""
    reach = _EVER if span.reach is None else span.reach // MICROSECOND
    offset = span.offset // MICROSECOND + 1
    return (
        f"(PARTITION BY k ORDER BY instant RANGE BETWEEN CASE WHEN asks THEN {reach} ELSE 0 END PRECEDING "
        f"AND CASE WHEN asks THEN {offset} ELSE 1 END PRECEDING)"
    )
