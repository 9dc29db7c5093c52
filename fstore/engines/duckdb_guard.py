"""What a SELECT may do: read its relations and compute, nothing else.

Takes SQL and gives the parameters it uses, or raises ComputeError when it is not exactly one SELECT, reads a table that is
not one of its relations, or calls a function that reaches outside (files, settings, the environment). Looks at DuckDB's own
syntax tree, so what is checked is what runs. The locked configuration of the session is the second fence behind this one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import msgspec

from fstore.errors import ComputeError, did_you_mean, listing

TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "repeat", "repeat_row", "json_each", "json_tree"})
"""Functions in FROM that compute rows from their arguments; every other one reads something."""

OUTSIDE = frozenset({
    "getenv", "current_setting", "set_config", "getvariable", "write_log", "nextval", "currval", "setval", "query",
    "query_table", "json_execute_serialized_sql", "parse_duckdb_log_message", "current_query", "which_secret",
})  # fmt: skip
"""Scalar functions that see or change something other than their arguments."""

Serialize = Callable[[str], str]
"""DuckDB's ``json_serialize_sql``: the syntax tree of a SELECT as JSON."""


class Statement(msgspec.Struct, frozen=True):
    """What a SELECT names: parameters, tables that are no CTE of its own, and functions."""

    parameters: frozenset[str]
    tables: frozenset[str]
    qualified: frozenset[str]
    table_functions: frozenset[str]
    functions: frozenset[str]


def check_select(sql: str, relations: Collection[str], parameters: Collection[str], serialize: Serialize) -> frozenset[str]:
    """Return the names of the parameters that a SELECT uses. Raises ComputeError when it may not run."""
    statement = _parse(sql, serialize)
    known = {name.lower() for name in relations}
    for table in sorted(statement.tables):
        if table.lower() not in known:
            raise _refusal(
                f"reads {table!r}, which is not one of its relations: {listing(relations)}.{did_you_mean(table, relations)}",
                sql,
            )
    for table in sorted(statement.qualified):
        raise _refusal(f"reads {table!r}; name its relations without a schema: {listing(relations)}.", sql)
    for function in sorted(statement.table_functions - TABLE_FUNCTIONS):
        raise _refusal(f"reads from {function}(), which is not allowed: declare what it reads as a source.", sql)
    for function in sorted(statement.functions & OUTSIDE):
        raise _refusal(f"calls {function}(), which is not allowed: a query sees its relations and parameters only.", sql)
    for parameter in sorted(statement.parameters - set(parameters)):
        given = ", ".join(f"${name}" for name in parameters) or "none"
        raise _refusal(f"uses the parameter ${parameter}, which has no value here; there are: {given}.", sql)
    return statement.parameters


def _refusal(problem: str, sql: str) -> ComputeError:
    return ComputeError(f"the SQL {problem}", sql=sql)


_PARSED: dict[str, Statement] = {}


def _parse(sql: str, serialize: Serialize) -> Statement:
    known = _PARSED.get(sql)
    if known is not None:
        return known
    tree = msgspec.json.decode(serialize(sql))
    if tree["error"]:
        if tree.get("error_type") == "parser":
            raise _refusal(f"cannot be parsed: {tree['error_message']}", sql)
        raise _refusal("is not a SELECT: a query may not change, export or load anything.", sql)
    if len(tree["statements"]) != 1:
        raise _refusal(f"must be one SELECT; it has {len(tree['statements'])} statements.", sql)
    collected: dict[str, set[str]] = {name: set() for name in Statement.__struct_fields__}
    for kind, name in _names(tree["statements"][0]["node"], frozenset()):
        collected[kind].add(name)
    statement = Statement(**{kind: frozenset(names) for kind, names in collected.items()})
    if len(_PARSED) > 512:
        _PARSED.clear()
    _PARSED[sql] = statement
    return statement


def _names(node: object, ctes: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Yield what a syntax tree names, as pairs of a field of :class:`Statement` and a name."""
    if isinstance(node, list):
        for item in node:
            yield from _names(item, ctes)
        return
    if not isinstance(node, dict):
        return
    entries = node.get("cte_map")
    if isinstance(entries, dict):
        ctes |= {str(entry["key"]).lower() for entry in entries.get("map", ())}
    if node.get("class") == "FUNCTION" and "function_name" in node:
        path = node.get("qualified_name", {}).get("path") or [node["function_name"]]
        yield "functions", str(path[-1]).lower()
    match node.get("type"):
        case "BASE_TABLE":
            path = [str(part) for part in node["qualified_name"]["path"]]
            if len(path) > 1:
                yield "qualified", ".".join(path)
            elif path[0].lower() not in ctes:
                yield "tables", path[0]
        case "TABLE_FUNCTION":
            yield "table_functions", str(node["function"]["function_name"]).lower()
        case "SHOW_REF":
            yield "table_functions", "show"
        case "VALUE_PARAMETER":
            yield "parameters", str(node["identifier"])
    for value in node.values():
        yield from _names(value, ctes)
