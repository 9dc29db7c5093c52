"""Counts over sliding windows by what changes them: a tile enters a window at one interval and leaves it at a later one.

Takes the relation of tiles of a set and gives CTEs in which windows cost what enters and leaves them, whatever their length.
Everything that is added up is a whole number, so that what entered leaves without a trace; floats need frames instead (see
:mod:`fstore.plan.frames`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fstore.interval import MICROSECOND
from fstore.plan.window_features import Span


class Change(NamedTuple):
    """Rows of a relation that add ``amount`` to ``column`` from interval ``position`` on, where ``condition`` holds."""

    column: str
    amount: str
    position: str
    relation: str
    condition: str = "true"


class Timeline:
    """The intervals in order, and the place of every tile among them; ``tiles`` is a query for when they begin (``begins``).

    CTE ``stop`` numbers the intervals from 0 and ``place`` has, for the beginning of each tile (``begins``, in microseconds)
    and each span, the first interval whose window holds the tile and the first later one whose window does not.
    """

    def __init__(self, tiles: str, spans: Sequence[Span]) -> None:
        self.tiles, self.spans = tiles, list(dict.fromkeys(spans))
        distances = [distance for span in self.spans for distance in (span.offset, span.reach) if distance is not None]
        self._distances = list(dict.fromkeys(distances))

    def enter(self, span: Span, place: str = "place") -> str:
        """Return the number of the first interval whose window holds a tile."""
        return f"{place}.after{self._distances.index(span.offset)}"

    def leave(self, span: Span, place: str = "place") -> str:
        """Return the number of the first interval after those whose window holds a tile."""
        return f"{place}.intervals" if span.reach is None else f"{place}.after{self._distances.index(span.reach)}"

    def ctes(self) -> str:
        """Return the CTEs."""
        joins = "".join(
            f"\n  ASOF LEFT JOIN stop stop{number} ON begins + {distance // MICROSECOND} >= stop{number}.instant"
            for number, distance in enumerate(self._distances)
        )
        numbers = range(len(self._distances))
        after = "".join(f",\n    coalesce(stop{number}.position + 1, 0) AS after{number}" for number in numbers)
        return f"""-- The intervals in order, and where tiles lie among them.
stop AS MATERIALIZED (
  SELECT interval_end, epoch_us(interval_end) AS instant, row_number() OVER (ORDER BY interval_end) - 1 AS position
  FROM intervals
),
place AS MATERIALIZED (
  SELECT
    begins,
    (SELECT count(*) FROM stop) AS intervals{after}
  FROM (SELECT DISTINCT begins FROM ({self.tiles})){joins}
)"""

    def held(self, groups: Sequence[str], changes: Sequence[Change], type: str = "BIGINT") -> str:
        """Return the CTE ``held``: the columns of changes added up, per group and run of intervals ``[position, until)``.

        Runs in which all columns are 0 are left out. ``type`` is that of the columns.
        """
        columns = list(dict.fromkeys(change.column for change in changes))
        gathered: dict[tuple[str, str, str], dict[str, str]] = {}
        for change in changes:
            gathered.setdefault((change.relation, change.position, change.condition), {})[change.column] = change.amount
        listed = ", ".join(groups)
        parts = [
            f"    SELECT {listed}, {position} AS position, {_amounts(columns, amounts)}\n    FROM {relation}\n"
            f"    WHERE {condition} AND {position} < (SELECT count(*) FROM stop)"
            for (relation, position, condition), amounts in gathered.items()
        ]
        union = "\n    UNION ALL\n".join(parts)
        sums = ", ".join(f"CAST(sum({column}) AS {type}) AS {column}" for column in columns)
        running = ", ".join(f"CAST(sum({column}) OVER so_far AS {type}) AS {column}" for column in columns)
        some = " OR ".join(f"{column} > 0" for column in columns)
        return f"""change AS (
  SELECT {listed}, position, {sums}
  FROM (
{union}
  )
  GROUP BY {listed}, position
),
held AS (
  SELECT * FROM (
    SELECT
      {listed}, position,
      lead(position, 1, (SELECT count(*) FROM stop)) OVER (PARTITION BY {listed} ORDER BY position) AS until,
      {running}
    FROM change
    WINDOW so_far AS (PARTITION BY {listed} ORDER BY position ROWS UNBOUNDED PRECEDING)
  )
  WHERE {some}
)"""


def _amounts(columns: Sequence[str], amounts: Mapping[str, str]) -> str:
    return ", ".join(f"{amounts.get(column, '0')} AS {column}" for column in columns)
