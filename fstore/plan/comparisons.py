"""Comparisons of texts with something else, which an engine would make by parsing every text that it meets.

Takes a parsed scalar and the types of its columns, and reports a comparison that the first text that is no number, or no
instant, would fail. A text that is written down is parsed here, once. Evaluates nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from sqlglot import exp

from fstore.definitions.problems import Reporter
from fstore.plan.inference import NULL, Untyped, infer_type
from fstore.types import DataType

_PAIRS = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.NullSafeEQ, exp.NullSafeNEQ)
_TRUTH = frozenset(("true", "false", "t", "f", "yes", "no", "y", "n", "on", "off", "1", "0"))
_BITS = re.compile(r"0x[0-9a-f]+(_[0-9a-f]+)*|0b[01]+(_[01]+)*", re.IGNORECASE)
"""Whole numbers in base 16 and 2 as DuckDB reads them: no sign, no space around."""
_INSTANTS = frozenset(("epoch", "infinity", "-infinity"))


def check_comparisons(tree: exp.Expr, types: Mapping[str, str | None], report: Reporter) -> None:
    """Report comparisons of text with numbers, truth values, dates or instants; ``types`` are by lower-case name.

    What has no known type is not looked at.
    """
    for one, other in _compared(tree):
        left, right = _type(one, types), _type(other, types)
        if left is None or right is None or (left.name == "string") == (right.name == "string"):
            continue
        text, value, type_ = (one, other, right) if left.name == "string" else (other, one, left)
        if type_.item is not None:
            continue
        written = text.unnest()
        if not isinstance(written, exp.Literal):
            report.add(
                f"compares {_sql(text)}, a text, with {_sql(value)}, which has type {type_}.",
                f"Write CAST({_sql(text)} AS …), or compare it with a text.",
            )
        elif not _reads_as(written.name, type_):
            report.add(f"compares {_sql(value)}, which has type {type_}, with the text {_sql(text)}, which is none.")


def _compared(tree: exp.Expr) -> Iterator[tuple[exp.Expr, exp.Expr]]:
    """Yield the operands of every comparison, pair by pair."""
    for node in tree.find_all(*_PAIRS, exp.In, exp.Between, exp.Case):
        match node:
            case exp.In():
                yield from ((node.this, item) for item in node.expressions)
            case exp.Between():
                yield from ((node.this, node.args[bound]) for bound in ("low", "high"))
            case exp.Case():
                yield from ((node.this, branch.this) for branch in node.args["ifs"] if node.this is not None)
            case _:
                yield node.this, node.expression


def _type(node: exp.Expr, types: Mapping[str, str | None]) -> DataType | None:
    if isinstance(node.unnest(), exp.Null):
        return None
    try:
        found = infer_type(node, types)
    except Untyped:
        return None
    return None if found == NULL else found


def _reads_as(text: str, type_: DataType) -> bool:
    """Whether a text may be one of the values of a type: refused is only what certainly is none."""
    plain = text.strip().lower()
    if type_.is_integer and _BITS.fullmatch(text):
        return True
    if type_.is_numeric:
        try:
            float(plain)
        except ValueError:
            return False
        return True
    if type_.name == "bool":
        return plain in _TRUTH
    return type_.name not in ("date", "timestamp") or plain in _INSTANTS or any(char.isdigit() for char in plain)


def _sql(node: exp.Expr) -> str:
    return str(node.sql(dialect="duckdb"))
