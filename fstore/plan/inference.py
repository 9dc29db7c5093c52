"""The type of a scalar expression.

Takes a parsed expression and the types of its columns, and gives the type that DuckDB computes it in. Only what is known
for certain is inferred, from a closed set of operators and functions, because a wrong guess would round or truncate
values; for anything else :class:`Untyped` says which part needs a ``CAST``. Evaluates nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlglot import exp

from fstore.types import DataType, parse_type

BOOL, STRING, DATE = DataType(name="bool"), DataType(name="string"), DataType(name="date")
INT64, FLOAT32, FLOAT64 = DataType(name="int64"), DataType(name="float32"), DataType(name="float64")
NULL = DataType(name="null")
"""The type of a bare NULL, which takes any other type."""

_SQL_NAMES = {"bool": "BOOLEAN", "int8": "TINYINT", "int16": "SMALLINT", "int32": "INTEGER", "int64": "BIGINT",
              "uint8": "UTINYINT", "uint16": "USMALLINT", "uint32": "UINTEGER", "uint64": "UBIGINT", "float32": "FLOAT",
              "float64": "DOUBLE", "string": "VARCHAR", "binary": "BLOB", "date": "DATE",
              "timestamp": "TIMESTAMP WITH TIME ZONE"}  # fmt: skip
_FROM_SQL = {"BOOLEAN": "bool", "TINYINT": "int8", "SMALLINT": "int16", "INT": "int32", "BIGINT": "int64",
             "UTINYINT": "uint8", "USMALLINT": "uint16", "UINT": "uint32", "UBIGINT": "uint64", "FLOAT": "float32",
             "DOUBLE": "float64", "TEXT": "string", "VARCHAR": "string", "VARBINARY": "binary", "DATE": "date",
             "TIMESTAMPTZ": "timestamp", "TIMESTAMP": "timestamp"}  # fmt: skip
_DIGITS = {"int8": 3, "uint8": 3, "int16": 5, "uint16": 5, "int32": 10, "uint32": 10, "int64": 19, "uint64": 20}
_BITS = {"int8": 8, "uint8": 8, "int16": 16, "uint16": 16, "int32": 32, "uint32": 32, "int64": 64, "uint64": 64}

_PREDICATES = (exp.Predicate, exp.Connector, exp.Not, exp.StartsWith, exp.EndsWith, exp.Contains)
_TO_FLOAT64 = (exp.Sqrt, exp.Ln, exp.Exp, exp.Pow, exp.Log, exp.Cbrt, exp.Sin, exp.Cos, exp.Tan, exp.Atan, exp.Atan2)
_TO_INT64 = (exp.Length, exp.DateDiff, exp.Extract, exp.Year, exp.Month, exp.Day, exp.DayOfWeek, exp.DayOfYear, exp.Hour,
             exp.Minute, exp.Second, exp.Quarter, exp.Week)  # fmt: skip
_TO_STRING = (exp.Lower, exp.Upper, exp.Trim, exp.Substring, exp.Replace, exp.Left, exp.Right)
_TO_COMMON = (exp.Coalesce, exp.Greatest, exp.Least)
_FRACTIONAL_PARTS = ("epoch", "julian")
"""The parts of an instant that ``extract`` gives as a float64."""


class Untyped(ValueError):
    """The type of a part of an expression is not known for certain; ``part`` is its SQL."""

    def __init__(self, part: str) -> None:
        self.part = part
        super().__init__(f"the type of {part} cannot be told")


def sql_type(type: DataType) -> str:
    """Return the name of a type in DuckDB's SQL."""
    if type.name == "decimal":
        return f"DECIMAL({type.precision},{type.scale})"
    if type.name == "map" and type.item is not None:
        return f"MAP(VARCHAR, {sql_type(type.item)})"
    if type.item is not None:
        return f"{sql_type(type.item)}[{type.size}]" if type.name == "vector" else f"{sql_type(type.item)}[]"
    return _SQL_NAMES[type.name]


def typed(sql: str, type: str | None) -> str:
    """Return a SQL scalar as a value of a type, or as it is where the type is unknown."""
    return sql if type is None else f"CAST({sql} AS {sql_type(parse_type(type))})"


def infer_type(tree: exp.Expr, types: Mapping[str, str | None]) -> DataType | None:
    """Return the type of an expression over columns with the given types (by lower-case name).

    None when a column that matters has no known type. Raises Untyped when every column is known and the expression is not
    among those whose type is certain.
    """
    if any(types.get(column.parts[0].name.lower()) is None for column in tree.find_all(exp.Column)):
        return infer_type_of_cast(tree)
    known = {name: text for name, text in types.items() if text is not None}
    found = _infer(tree, known)
    if found == NULL:
        raise Untyped(tree.sql(dialect="duckdb"))
    return found


def infer_type_of_cast(tree: exp.Expr) -> DataType | None:
    """Return the type of an expression that is a cast or a comparison, whatever its columns are; else None."""
    value = tree.unnest()
    if isinstance(value, _PREDICATES):
        return BOOL
    return _cast_type(value) if isinstance(value, exp.Cast) else None


def _infer(node: exp.Expr, types: Mapping[str, str]) -> DataType:
    """Return the type of a node. The order of the cases matters: casts are functions, predicates are binaries."""
    match node:
        case exp.Paren():
            return _infer(node.this, types)
        case exp.Column() if len(node.parts) == 1:
            return _parsed(types[node.name.lower()], node)
        case exp.Cast():
            return _cast_type(node)
        case exp.Literal() | exp.Boolean() | exp.Null():
            return _literal_type(node)
        case exp.Neg() | exp.Abs():
            return _numeric(node.this, types, node)
        case exp.Nullif():
            return _infer(node.this, types)
        case exp.Case():
            branches = [branch.args["true"] for branch in node.args["ifs"]]
            return _common([*branches, *([node.args["default"]] if node.args.get("default") else [])], types, node)
        case exp.If():
            return _common([node.args["true"], *([node.args["false"]] if node.args.get("false") else [])], types, node)
        case exp.Extract() if node.name.lower() in _FRACTIONAL_PARTS:
            return FLOAT64
        case exp.Concat() if any(_is_scalar(part, types) for part in node.expressions):
            return STRING  # of lists it would be a list
        case exp.Round() | exp.Floor() | exp.Ceil():
            return _rounded(node, _numeric(node.this, types, node))
        case exp.Div() | exp.IntDiv() | exp.Add() | exp.Sub() | exp.Mul() | exp.Mod():
            return _arithmetic(node, types)
    if isinstance(node, _TO_COMMON):
        return _common([node.this, *node.expressions], types, node)
    for kinds, result in ((_PREDICATES, BOOL), (_TO_FLOAT64, FLOAT64), (_TO_INT64, INT64), (_TO_STRING, STRING)):
        if isinstance(node, kinds):
            return result
    if isinstance(node, exp.DPipe) and STRING in (_infer(node.this, types), _infer(node.expression, types)):
        return STRING
    raise Untyped(node.sql(dialect="duckdb"))


def _is_scalar(node: exp.Expr, types: Mapping[str, str]) -> bool:
    """Whether a part is known to be neither a list nor a map."""
    try:
        return _infer(node, types).item is None
    except Untyped:
        return False


def _parsed(text: str, node: exp.Expr) -> DataType:
    try:
        return parse_type(text)
    except ValueError:
        raise Untyped(node.sql(dialect="duckdb")) from None


def _cast_type(node: exp.Cast) -> DataType:
    target = node.to
    name = target.this.name if isinstance(target.this, exp.DType) else ""
    if name == "DECIMAL" and len(target.expressions) == 2:
        return DataType(name="decimal", precision=int(target.expressions[0].name), scale=int(target.expressions[1].name))
    if name not in _FROM_SQL or target.expressions:
        raise Untyped(node.sql(dialect="duckdb"))
    return DataType(name=_FROM_SQL[name])


def _literal_type(node: exp.Expr) -> DataType:
    if isinstance(node, exp.Null):
        return NULL
    if isinstance(node, exp.Boolean):
        return BOOL
    text = str(node.this).replace("_", "")
    if node.args.get("is_string"):
        return STRING
    if "e" in text.lower():
        return FLOAT64
    if "." in text:
        whole, _, fraction = text.partition(".")
        precision = max(len(whole), 1) + len(fraction)
        return DataType(name="decimal", precision=precision, scale=len(fraction)) if precision <= 38 else FLOAT64
    value = int(text)
    if value >= 2**63:
        raise Untyped(text)
    return DataType(name="int32" if value < 2**31 else "int64")


def _numeric(node: exp.Expr, types: Mapping[str, str], outer: exp.Expr) -> DataType:
    found = _infer(node, types)
    if not found.is_numeric:
        raise Untyped(outer.sql(dialect="duckdb"))
    return found


def _rounded(node: exp.Expr, type: DataType) -> DataType:
    """Return the type of round, floor and ceil."""
    digits = node.args.get("decimals") if isinstance(node, exp.Round) else None
    if type.name == "decimal" and not (digits is None or isinstance(digits, exp.Literal)):
        raise Untyped(node.sql(dialect="duckdb"))
    if type.name == "decimal":
        scale = int(digits.this) if digits is not None else 0
        return DataType(name="decimal", precision=type.precision, scale=min(scale, type.scale))
    if type.is_float:
        return type
    if isinstance(node, exp.Round) and type.name[0] == "u":
        raise Untyped(node.sql(dialect="duckdb"))
    return type if isinstance(node, exp.Round) else FLOAT64


def _arithmetic(node: exp.Expr, types: Mapping[str, str]) -> DataType:
    """Return the type of a binary operation on two numbers."""
    left, right = _numeric(node.this, types, node), _numeric(node.expression, types, node)
    sides = (left, right)
    if left.is_float or right.is_float:
        return FLOAT64 if FLOAT64 in sides else FLOAT32
    if isinstance(node, exp.Div):
        return FLOAT64
    if left.is_integer and right.is_integer:
        return _integer_result(node, left, right)
    if isinstance(node, exp.IntDiv):
        return FLOAT64
    return _decimal_result(node, left, right)


def _integer_result(node: exp.Binary | exp.Expr, left: DataType, right: DataType) -> DataType:
    """Return the type of an operation on integers; a literal takes the type of the other side if it fits."""
    left, right = _fit_literal(node.this, left, right), _fit_literal(node.expression, right, left)
    if left.name[0] == right.name[0]:
        return max(left, right, key=lambda side: _BITS[side.name])
    signed, unsigned = (left, right) if left.name[0] == "i" else (right, left)
    if unsigned.name == "uint64":
        raise Untyped(node.sql(dialect="duckdb"))
    return signed if _BITS[signed.name] > _BITS[unsigned.name] else INT64


def _fit_literal(node: exp.Expr, type: DataType, other: DataType) -> DataType:
    value = _literal_value(node)
    if value is None or not other.is_integer or not type.is_integer:
        return type
    bits = _BITS[other.name] - (other.name[0] == "i")
    return other if (-(2**bits) if other.name[0] == "i" else 0) <= value < 2**bits else type


def _literal_value(node: exp.Expr) -> int | None:
    """Return the value of a whole number written as a literal, with or without a sign."""
    value = node.unnest()
    if isinstance(value, exp.Neg):
        inner = _literal_value(value.this)
        return None if inner is None else -inner
    is_whole = isinstance(value, exp.Literal) and not value.is_string and str(value.this).isdigit()
    return int(value.this) if is_whole else None


def _decimal_result(node: exp.Expr, left: DataType, right: DataType) -> DataType:
    left, right = _as_decimal(left), _as_decimal(right)
    if isinstance(node, exp.Mul):
        scale, precision = left.scale + right.scale, left.precision + right.precision
        if max(left.precision, right.precision) <= 18 < precision:
            precision = 18
        if scale > 38:
            raise Untyped(node.sql(dialect="duckdb"))
        return DataType(name="decimal", precision=min(precision, 38), scale=scale)
    scale = max(left.scale, right.scale)
    digits = max(left.precision - left.scale, right.precision - right.scale) + scale
    if digits > 38:
        raise Untyped(node.sql(dialect="duckdb"))
    if not isinstance(node, exp.Mod):
        digits += 1
    return DataType(name="decimal", precision=min(digits, 38), scale=scale)


def _as_decimal(type: DataType) -> DataType:
    return type if type.name == "decimal" else DataType(name="decimal", precision=_DIGITS[type.name], scale=0)


def _common(nodes: Sequence[exp.Expr], types: Mapping[str, str], outer: exp.Expr) -> DataType:
    """Return the type that holds the values of all nodes, as CASE, coalesce and greatest give it."""
    known = [(node, found) for node in nodes if (found := _infer(node, types)) != NULL]
    if not known:
        return NULL
    wide = [found for node, found in known if _literal_value(node) is None]
    result = wide[0] if wide else known[0][1]
    for node, found in known:
        result = _wider(result, _fit_literal(node, found, result), outer)
    return result


def _wider(one: DataType, other: DataType, outer: exp.Expr) -> DataType:
    if one == other:
        return one
    if not (one.is_numeric and other.is_numeric):
        raise Untyped(outer.sql(dialect="duckdb"))
    if one.is_float or other.is_float:
        return FLOAT64 if FLOAT64 in (one, other) else FLOAT32
    if one.is_integer and other.is_integer:
        return _wider_integer(one, other, outer)
    one, other = _as_decimal(one), _as_decimal(other)
    scale = max(one.scale, other.scale)
    digits = max(one.precision - one.scale, other.precision - other.scale) + scale
    if digits > 38:
        raise Untyped(outer.sql(dialect="duckdb"))
    return DataType(name="decimal", precision=digits, scale=scale)


def _wider_integer(one: DataType, other: DataType, outer: exp.Expr) -> DataType:
    if one.name[0] == other.name[0]:
        return max(one, other, key=lambda side: _BITS[side.name])
    signed, unsigned = (one, other) if one.name[0] == "i" else (other, one)
    if unsigned.name == "uint64":
        raise Untyped(outer.sql(dialect="duckdb"))
    needed = max(_BITS[signed.name], _BITS[unsigned.name] * 2)
    return DataType(name=f"int{needed}")
