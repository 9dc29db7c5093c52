"""Lists and maps over sub-keys: the most frequent values, the distinct values, a value per category.

Counts per key, sub-key and interval come first (by what changes them, or by frames where a value per category is needed that
cannot be subtracted), then those of a key and interval are gathered. Sub-keys are numbered in ascending order, so that
gathering compares whole numbers; the numbers are looked up at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fstore.definitions.aggregation import MAX_CATEGORIES, MAX_VALUES
from fstore.plan import lanes
from fstore.plan.changes import Change, Timeline
from fstore.plan.frames import Frames
from fstore.plan.parts import raw_column
from fstore.plan.scalar_states import presence, recipe
from fstore.plan.slides import Slide, SlideRef
from fstore.plan.sub_keys import BEGINS, OWN, SubQueries, events_slide, key_columns, numbered_keys
from fstore.plan.tile_states import TILE_START, TILE_SUB, TileDraft
from fstore.plan.window_features import Span, WindowFeature

_BITS = 31
_LAST = 2**_BITS - 1
"""Numbers of sub-keys lie below this; a rank is the number of events, then the number of the sub-key counted down."""

_LOW = 2**32 - 1
"""The bits of a number of events."""

_FEW = 16
"""How many sub-keys per key and interval are looked for, rather than all kept and sorted."""


class _Cells(NamedTuple):
    """CTEs that end in ``cell``, a row per group and sub-key; what groups it, and the joins that give keys and interval.

    The joins drop no row, and are outer joins so that DuckDB knows. They hold what is small: if the lists were held instead,
    one thread would make all features. With ``packed``, the counts of some keys are in :data:`lanes.WINDOWS` instead.
    """

    cte: str
    groups: list[str]
    joins: str
    packed: bool = False


class Gathered:
    """Compiles top_k, distinct and maps by category over one split."""

    def __init__(self, features: Sequence[WindowFeature], draft: TileDraft) -> None:
        self.features, self.draft = features, draft
        self.keys = key_columns(draft)
        self.refs: dict[tuple[str, Span], SlideRef] = {}
        self.events = [self._ref(events_slide(draft, feature), feature.span) for feature in features]
        self.values = [self._value(feature) for feature in features]

    def compile(self) -> SubQueries:
        """Return the queries."""
        states = {ref.slide.tile.name: ref.slide.tile for ref in self.refs.values()}
        spans = [feature.span for feature in self.features]
        frames = Frames("numbered", ["k", "number"], spans, list(self.refs.values()), presence(self.draft))
        by_changes = all(value is None for value in self.values)
        many = self._by_changes() if by_changes else self._by_frames(frames.range())
        return SubQueries(tuple(states.values()), self._gathered(many), self._gathered(self._by_frames(frames.single())))

    def _ref(self, slide: Slide, span: Span) -> str:
        """Return the column of a slide over a span."""
        return self.refs.setdefault((slide.name, span), SlideRef(slide=slide, span=span, column=f"s{len(self.refs)}")).column

    def _value(self, feature: WindowFeature) -> str | None:
        """Return the SQL of a category's value; None where it is the number of events, or there is none."""
        if feature.by is None or (feature.function == "count" and feature.argument is None):
            return None
        made = recipe(self.draft, feature)
        return made.value(*(self._ref(slide, feature.span) for slide in made.slides))

    # -- per key, sub-key and interval --------------------------------------------------------------------------------

    def _by_frames(self, sql: str) -> _Cells:
        columns = ", ".join(ref.column for ref in self.refs.values())
        cte = f"cell AS (\n  SELECT k0 AS k, k1 AS number, interval_end, {columns}\n  FROM (\n{sql}\n)\n)"
        return _Cells(cte, ["k", "interval_end"], self._key_join())

    def _by_changes(self) -> _Cells:
        timeline = Timeline(BEGINS, [feature.span for feature in self.features])
        states = list(dict.fromkeys(ref.slide.name for ref in self.refs.values()))
        sides = [
            f"{timeline.enter(span)} AS come{n}, {timeline.leave(span)} AS gone{n}" for n, span in enumerate(timeline.spans)
        ]
        held_at_all = " OR ".join(f"come{n} < gone{n}" for n in range(len(timeline.spans)))
        changes: list[Change] = []
        for (state, span), ref in self.refs.items():
            number = timeline.spans.index(span)
            changes.append(Change(ref.column, state, f"come{self._same_entry(timeline, number)}", "moving"))
            changes.append(Change(ref.column, f"-{state}", f"gone{number}", "moving"))
        # As narrow as can be: there are many cells, and they are sorted. A count of more than 32 bits is an error.
        counts = ", ".join(f"CAST({ref.column} AS UINTEGER) AS {ref.column}" for ref in self.refs.values())
        windows = {ref.column: (state, span) for (state, span), ref in self.refs.items()}
        cte = f"""{timeline.ctes()},
{lanes.packed_keys(states)},
{lanes.packed_windows(states, windows)},
moving AS MATERIALIZED (
  SELECT * FROM (
    SELECT k, number, {", ".join(states)}, {", ".join(sides)}
    FROM (SELECT *, epoch_us({TILE_START}) AS begins FROM {lanes.RELATION} ANTI JOIN {lanes.PACKED} USING (k))
    LEFT JOIN place USING (begins)
  )
  WHERE {held_at_all}
),
{timeline.held(["k", "number"], changes)},
cell AS (
  SELECT k, number, CAST(unnest(range(position, until)) AS INTEGER) AS position, {counts} FROM held
)"""
        joins = "\nLEFT JOIN stop USING (position)" + self._key_join()
        return _Cells(cte, ["k", "position"], joins, packed=True)

    def _key_join(self) -> str:
        """Return the join that gives keys, through one list of them: DuckDB takes ``key`` to be as large as the tiles."""
        entry = ", ".join(f"'{column}': {column}" for column in ["k", *self.keys])
        listed = f"SELECT list({{{entry}}}) AS entries FROM key"
        return f"\nLEFT JOIN (\n  SELECT unnest(entries, max_depth := 2) FROM ({listed})\n) USING (k)"

    @staticmethod
    def _same_entry(timeline: Timeline, number: int) -> int:
        """Return the first span that tiles enter when they enter a span: what enters several at once is one change."""
        offset = timeline.spans[number].offset
        return next(n for n, span in enumerate(timeline.spans) if span.offset == offset)

    # -- per key and interval -----------------------------------------------------------------------------------------

    def _gathered(self, cells: _Cells) -> str:
        kept = [f"{aggregate} AS {column}" for column, aggregate in self._kept().items()]
        unpacked = [f"{unpacked} AS {column}" for column, unpacked in self._unpacked().items()] if cells.packed else []
        values = [f"{self._made(place)} AS {raw_column(feature)}" for place, feature in enumerate(self.features)]
        groups = ", ".join(cells.groups)
        union = ""
        if unpacked:
            union = f"""
  UNION ALL
  SELECT {groups}, {", ".join(unpacked)}
  FROM {lanes.WINDOWS}
  CROSS JOIN {lanes.LAYOUT}"""
        # Cells that come in the order of their groups are gathered twice as fast, sorting included.
        return f"""WITH
sub_key AS MATERIALIZED (
  SELECT sub, CAST(row_number() OVER (ORDER BY sub) AS INTEGER) AS number
  FROM (SELECT DISTINCT {TILE_SUB} AS sub FROM {OWN})
),
{numbered_keys(self.draft)},
numbered AS (
  SELECT * EXCLUDE ({", ".join([*self.keys, TILE_SUB, "sub"])})
  FROM {OWN}
  JOIN sub_key ON sub = {TILE_SUB}
  JOIN key USING ({", ".join(self.keys)})
),
{cells.cte}
SELECT {", ".join([*self.keys, "interval_end", *values])}
FROM (
  SELECT {groups}, {", ".join(kept)}
  FROM (SELECT * FROM cell ORDER BY {groups})
  GROUP BY {groups}{union}
){cells.joins}
CROSS JOIN (SELECT list(sub ORDER BY number) AS names FROM sub_key)"""

    def _kept(self) -> dict[str, str]:
        """Return the aggregates, by column, of the sub-keys of a key and interval that features are made of."""
        kept: dict[str, str] = {}
        for place, feature in enumerate(self.features):
            events = self.events[place]
            if self._few(feature):
                kept[f"most{place}"] = f"max({_rank(events, 'number')}, {feature.limit}) FILTER ({events} > 0)"
            elif self.values[place] is not None:
                entry = f"{{'at': {_at('number', f'CAST({events} AS UINTEGER)')}, 'value': {self.values[place]}}}"
                kept[f"held{place}"] = f"list({entry}) FILTER ({events} > 0)"
        for number, pack in enumerate(self._packs()):
            counts = [
                f"(CAST(CAST(coalesce({column}, 0) AS UINTEGER) AS HUGEINT) << {shift})" for column, shift in pack.items()
            ]
            kept[f"pack{number}"] = f"list_sort(list({' + '.join(['(CAST(number AS HUGEINT) << 96)', *counts])}))"
        return kept

    def _unpacked(self) -> dict[str, str]:
        """Return the same columns for keys whose counts are packed, of all sub-keys that there are."""
        kept: dict[str, str] = {}
        for place, feature in enumerate(self.features):
            if self._few(feature):
                ranks = lanes.of_each(_rank(lanes.count(self.events[place]), "x.number"))
                most = f"list_aggregate({ranks}, 'max', {feature.limit})"
                kept[f"most{place}"] = f"list_filter({most}, lambda x: x > {_LAST})"  # what has events at all
        for number, pack in enumerate(self._packs()):
            counts = [f"(CAST({lanes.count(column)} AS HUGEINT) << {shift})" for column, shift in pack.items()]
            kept[f"pack{number}"] = lanes.of_each(" + ".join(["(CAST(x.number AS HUGEINT) << 96)", *counts]))
        return kept

    @staticmethod
    def _few(feature: WindowFeature) -> bool:
        """Whether so few sub-keys are wanted that it is cheaper to look for them than to keep all."""
        return feature.function == "top_k" and (feature.limit or 0) <= _FEW

    def _packs(self) -> list[dict[str, int]]:
        """Return the counts that share a number of 128 bits with the sub-key, each with its first bit."""
        counts = [
            events
            for feature, events, value in zip(self.features, self.events, self.values, strict=True)
            if value is None and not self._few(feature)
        ]
        known = list(dict.fromkeys(counts))
        return [dict(zip(known[start : start + 3], (0, 32, 64), strict=False)) for start in range(0, len(known), 3)]

    def _made(self, place: int) -> str:
        """Return a feature from what was kept; null over no sub-key."""
        feature = self.features[place]
        limit = feature.limit or (MAX_VALUES if feature.function == "distinct" else MAX_CATEGORIES)
        if self._few(feature):
            return f"nullif(list_transform(most{place}, lambda x: names[{_number('x')}]), [])"
        return self._of_counts(place, limit) if self.values[place] is None else self._of_values(place, limit)

    def _of_counts(self, place: int, limit: int) -> str:
        """Return a feature that is made of numbers of events, which are in the order of sub-keys."""
        feature, events = self.features[place], self.events[place]
        number, pack = next((number, pack) for number, pack in enumerate(self._packs()) if events in pack)
        sub_key, count = "CAST(x >> 96 AS INTEGER)", _count("x", pack[events])
        here = f"list_filter(pack{number}, lambda x: {count} > 0)"
        if feature.function == "distinct":
            return f"nullif(list_transform({here}[1:{limit}], lambda x: names[{sub_key}]), [])"
        most = f"list_reverse_sort(list_transform({here}, lambda x: {_rank(count, sub_key)}))[1:{limit}]"
        if feature.by is None:
            return f"nullif(list_transform({most}, lambda x: names[{_number('x')}]), [])"
        cut = f"list_sort(list_transform({most}, lambda x: {_at(_number('x'), f'(x >> {_BITS})')}))"
        return (
            f"CASE WHEN len({here}) > {limit} THEN {_map(cut, 'x >> 32', f'x & {_LOW}')} "
            f"WHEN len({here}) > 0 THEN {_map(here, sub_key, count)} END"
        )

    def _of_values(self, place: int, limit: int) -> str:
        """Return a map of values by category."""
        entries = f"held{place}"
        rank = _rank(f"(x.at & {_LOW})", "(x.at >> 32)")
        most = f"list_reverse_sort(list_transform({entries}, lambda x: {{'rank': {rank}, 'value': x.value}}))[1:{limit}]"
        cut = f"list_transform({most}, lambda x: {{'at': {_at(_number('x.rank'), '0')}, 'value': x.value}})"
        kept = f"CASE WHEN len({entries}) <= {limit} THEN {entries} ELSE {cut} END"
        return f"CASE WHEN len({entries}) > 0 THEN {_map(f'list_sort({kept})', 'x.at >> 32', 'x.value')} END"


def _map(entries: str, number: str, value: str) -> str:
    """Return the map of a list, from the numbers of sub-keys and the values of its elements ``x``."""
    return f"map_from_entries(list_transform({entries}, lambda x: {{'key': names[{number}], 'value': {value}}}))"


def _at(number: str, events: str) -> str:
    """Return a sub-key and its number of events as one whole number, in the order of sub-keys."""
    return f"(CAST({number} AS BIGINT) << 32) + {events}"


def _rank(events: str, number: str) -> str:
    """Return a number that is greater for more events, and of as many for the smaller sub-key."""
    return f"(CAST({events} AS BIGINT) << {_BITS}) + ({_LAST} - {number})"


def _number(rank: str) -> str:
    return f"CAST({_LAST} - ({rank} & {_LAST}) AS INTEGER)"


def _count(pack: str, shift: int) -> str:
    return f"CAST(({pack} >> {shift}) & {_LOW} AS BIGINT)"
