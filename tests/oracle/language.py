"""Views as the oracle and the compiler both read them: SQL text beside the Python function that means the same.

A :class:`ViewCase` writes itself as the class body of a definition module. Nothing here is computed from the SQL.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

Row = Mapping[str, object]

NUMBER, FLOAT, VALUE = "number", "float", "value"
"""What an argument is: a whole number or decimal, a binary float, or something that is not summed."""

UNITS = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1),
         "w": timedelta(weeks=1), "y": timedelta(days=365)}  # fmt: skip


@dataclass(frozen=True)
class Scalar:
    """A SQL scalar over an event's columns, and the function that gives its value."""

    sql: str
    value: Callable[[Row], object]
    kind: str = VALUE

    def __repr__(self) -> str:
        return self.sql


def column(name: str, kind: str = VALUE) -> Scalar:
    """A plain column."""
    return Scalar(name, lambda row: row[name], kind)


def strict(function: Callable[..., object], *names: str) -> Callable[[Row], object]:
    """A function of columns that is null where one of them is."""

    def value(row: Row) -> object:
        values = [row[name] for name in names]
        return None if any(value is None for value in values) else function(*values)

    return value


def duration(text: str) -> timedelta:
    """Read "7d" and the like."""
    return int(text[:-1]) * UNITS[text[-1]]


@dataclass(frozen=True)
class Aggregate:
    """An aggregate of a view."""

    name: str
    function: str
    argument: Scalar | None
    windows: tuple[str, ...]
    offset_text: str | None = None
    where: Scalar | None = None
    by: Scalar | None = None
    order_by: Scalar | None = None
    limit: int | None = None
    edges: tuple[float, ...] = ()
    percentile: float | None = None
    half_life_text: str | None = None
    fill: object = None

    @property
    def offset(self) -> timedelta | None:
        return None if self.offset_text is None else duration(self.offset_text)

    @property
    def half_life(self) -> timedelta | None:
        return None if self.half_life_text is None else duration(self.half_life_text)

    def features(self) -> dict[timedelta | None, str]:
        """Window to feature name; None is a lifetime."""
        suffix = "" if self.offset_text is None else f"_offset_{self.offset_text}"
        return {
            None if text == "lifetime" else duration(text): f"{self.name}_{text}{suffix}" for text in self.windows
        }  # fmt: skip

    def reach(self) -> timedelta | None:
        """How far before an interval's end the aggregate looks; None without end."""
        if "lifetime" in self.windows:
            return None
        return max(duration(text) for text in self.windows) + (self.offset or timedelta())

    def text(self) -> str:
        """The aggregate as it stands in a class body."""
        cap = {"distinct": "max_values"}.get(self.function, "max_categories")
        positional = [] if self.argument is None else [self.argument.sql]
        named: dict[str, object] = {}
        match self.function:
            case "first_k" | "last_k" | "top_k":
                positional.append(self.limit)
            case "histogram":
                positional.append(list(self.edges))
            case "approx_percentile":
                positional.append(self.percentile)
            case "decayed_sum":
                positional.append(self.half_life_text)
            case _ if self.limit is not None:
                named[cap] = self.limit
        named |= {"where": self.where and self.where.sql, "by": self.by and self.by.sql,
                  "order_by": self.order_by and self.order_by.sql}  # fmt: skip
        given = [repr(value) for value in positional] + [f"{k}={v!r}" for k, v in named.items() if v is not None]
        over = [repr(window) for window in self.windows]
        over += [] if self.offset_text is None else [f"offset={self.offset_text!r}"]
        fill = "" if self.fill is None else f".fill({self.fill!r})"
        return f"{self.name} = agg.{self.function}({', '.join(given)}).over({', '.join(over)}){fill}"


@dataclass(frozen=True)
class Composite:
    """An expression over other features of the view."""

    name: str
    sql: str
    value: Callable[[Mapping[str, object]], object]


@dataclass(frozen=True)
class ViewCase:
    """A view of aggregates over the source ``events``."""

    name: str
    keys: tuple[str, ...]
    schedule: str
    timezone: str
    start: str
    aggregates: tuple[Aggregate, ...]
    composites: tuple[Composite, ...] = ()

    def module(self, path: str) -> str:
        """The definition module that declares the view over a Parquet file."""
        keys = {name: KEY_TYPES[name] for name in self.keys}
        features = [item.text() for item in self.aggregates]
        features += [f"{item.name} = expr({item.sql!r})" for item in self.composites]
        lines = [
            "from fstore import Entity, FeatureView, ParquetSource, agg, expr",
            "",
            f"thing = Entity({'_'.join(('thing', *self.keys))!r}, join_keys={keys!r})",
            f"events = ParquetSource({'events_of_' + self.name!r}, path={path!r}, event_time='at')",
            "",
            "",
            f"class {''.join(part.title() for part in self.name.split('_'))}(FeatureView):",
            f"    name = {self.name!r}",
            "    entity, source = thing, events",
            f"    schedule, timezone, start = {self.schedule!r}, {self.timezone!r}, {self.start!r}",
            *(f"    {feature}" for feature in features),
        ]
        return "\n".join(lines) + "\n"


KEY_TYPES = {
    "user": "string",
    "shop": "int64",
    "day": "date",
    "flag": "bool",
    "small": "int8",
    "k0": "int64",
    "position": "string",
}

ARGUMENTS = (
    column("i", NUMBER), column("j", NUMBER), column("d", NUMBER), column("f", FLOAT), column("g", FLOAT),
    column("h", FLOAT), column("w", FLOAT), column("s"), column("b"), column("t"), column("z"), column("big"), column("u"),
    Scalar("i * 2 + 1", strict(lambda i: i * 2 + 1, "i"), NUMBER),
    Scalar("j - shop", strict(lambda j, shop: j - shop, "j", "shop"), NUMBER),
    Scalar("d - 1.5", strict(lambda d: d - Decimal("1.5"), "d"), NUMBER),
    Scalar("g * 2", strict(lambda g: g * 2, "g"), FLOAT),
    Scalar("CASE WHEN b THEN 1.0::DOUBLE ELSE 0.0::DOUBLE END", lambda row: 1.0 if row["b"] else 0.0, FLOAT),
    Scalar("coalesce(s, 'none')", lambda row: "none" if row["s"] is None else row["s"]),
    Scalar("nullif(s, 'a')", lambda row: None if row["s"] == "a" else row["s"]),
)  # fmt: skip

CONDITIONS = (
    Scalar("i > 0", strict(lambda i: i > 0, "i")),
    Scalar("b", lambda row: row["b"]),
    Scalar("s <> 'a' OR b", lambda row: True if row["b"] or (row["s"] not in (None, "a")) else
           None if row["s"] is None or row["b"] is None else False),
    Scalar("f > 0", strict(lambda f: f > 0 or math.isnan(f), "f")),
    Scalar("c IS NULL", lambda row: row["c"] is None),
    Scalar("shop = 7", lambda row: row["shop"] == 7),
    Scalar("1 = 0", lambda row: False),
)  # fmt: skip

CATEGORIES = (
    column("c"), column("b"), column("j"), column("shop"),
    Scalar("coalesce(c, '?')", lambda row: "?" if row["c"] is None else row["c"]),
    Scalar("j % 3", strict(lambda j: int(math.fmod(j, 3)), "j")),
)  # fmt: skip

ORDERS = (
    column("j"), column("f"), column("s"), column("d"),
    Scalar("-j", strict(lambda j: -j, "j")),
)  # fmt: skip
