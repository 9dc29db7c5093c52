"""What the columns of a SELECT are, and where they come from.

Takes a parsed SELECT and the columns of its inputs, and gives the names of its output, references to columns that surely
do not exist, and an edge for every input column that an output column is derived from. It reports only what is certain:
a valid SELECT that is beyond it has unknown output or no edges, never a wrong complaint. Changes no SQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.lineage import Node, lineage
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import build_scope

from fstore.plan.sql import SelectSql

Transformation = Literal["IDENTITY", "TRANSFORMATION", "AGGREGATION"]
_BEYOND_THE_TRACER = (SqlglotError, RecursionError, ValueError, KeyError, AttributeError, TypeError)
"""What sqlglot raises on valid SQL that it does not understand: such a SELECT runs, only its columns are not traced."""

Relations = Mapping[str, tuple[str, ...] | None]
"""Alias to column names of a SELECT's inputs; None where they are not known."""


def unknown_tables(select: SelectSql, aliases: Iterable[str]) -> list[str]:
    """Return the tables that a SELECT reads and that are not among the aliases (compared without case)."""
    known = {alias.lower() for alias in aliases}
    return [table for table in select.tables if table.lower() not in known]


def unknown_columns(select: SelectSql, relations: Relations) -> list[tuple[str, list[str]]]:
    """Return columns that surely do not exist, with those that could have been meant.

    Surely means: the name occurs in no input and is defined nowhere in the SELECT, or it is asked of an input that does not
    have it.
    """
    tree = select.tree
    if tree.find(exp.Pivot, exp.Columns, exp.Lateral) or not _reads_only_names(tree):
        return []
    columns = {
        alias.lower(): None if names is None else {name.lower() for name in names} for alias, names in relations.items()
    }
    direct = _direct_relations(tree, columns)
    defined = _defined_names(tree)
    used = [columns[table.lower()] for table in select.tables if table.lower() in columns]
    everything = None if None in used else {name for names in used for name in names or ()}
    found: dict[str, list[str]] = {}
    for column in tree.find_all(exp.Column):
        if isinstance(column.this, exp.Star):
            continue
        first, *rest = (part.name.lower() for part in column.parts)
        candidates = direct.get(first) if rest else everything
        if candidates is None or (not rest and first in defined):
            continue
        if (rest[0] if rest else first) not in candidates:
            known = sorted(f"{first}.{name}" if rest else name for name in candidates)
            found[".".join(part.name for part in column.parts)] = known
    return list(found.items())


def _lower(names: Iterable[str]) -> set[str]:
    return {name.lower() for name in names}


def _reads_only_names(tree: exp.Expr) -> bool:
    return all(isinstance(table.this, exp.Identifier) for table in tree.find_all(exp.Table))


def _direct_relations(tree: exp.Expr, columns: Mapping[str, set[str] | None]) -> dict[str, set[str] | None]:
    """Map the names under which inputs are read to their columns; None for a name that something else has as well."""
    ctes = {item.alias.lower() for item in tree.find_all(exp.CTE)}
    direct: dict[str, set[str] | None] = {}
    for table in tree.find_all(exp.Table):
        alias, name = table.alias_or_name.lower(), table.name.lower()
        renamed = isinstance(table.args.get("alias"), exp.TableAlias) and bool(table.args["alias"].columns)
        names = None if name in ctes or renamed else columns.get(name)
        known = direct.get(alias, set())
        direct[alias] = None if names is None or known is None else known | names
    for item in tree.find_all(exp.Subquery, exp.Unnest, exp.Values, exp.CTE):
        if item.alias:
            direct[item.alias.lower()] = None
    return direct


def _defined_names(tree: exp.Expr) -> set[str]:
    """Return every name that the SELECT itself defines: aliases of columns and tables, and parameters of lambdas."""
    named = tree.find_all(exp.Alias, exp.Subquery, exp.Table, exp.Unnest, exp.CTE, exp.Values)
    names = {item.alias_or_name.lower() for item in named}
    for alias in tree.find_all(exp.TableAlias):
        names |= {column.name.lower() for column in alias.columns}
    for function in tree.find_all(exp.Lambda):
        names |= {parameter.name.lower() for parameter in function.expressions}
    for comprehension in tree.find_all(exp.Comprehension):
        names |= {identifier.name.lower() for identifier in comprehension.find_all(exp.Identifier)}
    return names


def referenced_names(select: SelectSql) -> set[str] | None:
    """Return, in lower case, every name that a SELECT could mean a column by; None when it can mean all columns at once.

    That is the case for ``*`` (other than ``count(*)``), ``COLUMNS(…)``, pivots, natural joins and rows taken as values.
    """
    tree = select.tree
    stars = [star for star in tree.find_all(exp.Star) if not isinstance(star.parent, exp.Count)]
    natural = any(join.args.get("method") == "NATURAL" for join in tree.find_all(exp.Join))
    if stars or natural or tree.find(exp.Columns, exp.Pivot):
        return None
    relations = {table.alias_or_name.lower() for table in tree.find_all(exp.Table)}
    if any(len(column.parts) == 1 and column.name.lower() in relations for column in tree.find_all(exp.Column)):
        return None
    return {identifier.name.lower() for identifier in tree.find_all(exp.Identifier)}


class Traced:
    """A SELECT with every column tied to its relation, as far as that is possible.

    ``outputs`` are the output columns, a ``*`` expanded; None when it cannot be. A column without a name is ``""``.
    """

    def __init__(self, select: SelectSql, relations: Relations) -> None:
        self._relations = {alias.lower(): names for alias, names in relations.items()}
        self._nodes: dict[str, Node] = {}
        tree = _qualified(select, self._relations)
        self.outputs = _outputs(tree or select.tree)
        if tree is not None and self.outputs is not None:
            self._nodes = _lineage(tree)

    def sources(self, column: str) -> list[tuple[str, str, Transformation]]:
        """Return (alias, column, transformation) of the input columns that an output column is derived from, sorted.

        Empty when the tracer cannot tell, or when the column depends on no input column.
        """
        root = self._nodes.get(column.lower())
        found: dict[tuple[str, str], Transformation] = {}
        for alias, name, transformation in self._leaves(root, "IDENTITY") if root else ():
            known = found.get((alias, name))
            found[alias, name] = transformation if known is None else _stronger(known, transformation)
        return sorted((alias, name, transformation) for (alias, name), transformation in found.items())

    def _leaves(self, node: Node, so_far: Transformation) -> Iterator[tuple[str, str, Transformation]]:
        if isinstance(node.expression, exp.Table) or isinstance(node.source, exp.Table):
            table = node.source if isinstance(node.source, exp.Table) else node.expression
            alias, name = table.name.lower(), node.name.rpartition(".")[2].strip('"')
            if alias in self._relations and name != "*":
                spelled = {item.lower(): item for item in self._relations[alias] or ()}
                yield alias, spelled.get(name.lower(), name), so_far
            return
        so_far = _stronger(so_far, _transformation(node.expression))
        for child in node.downstream:
            yield from self._leaves(child, so_far)


def _qualified(select: SelectSql, relations: Relations) -> exp.Query | None:
    """Return the SELECT with its columns qualified and stars expanded; None when that is beyond the tracer."""
    schema: dict[str, object] = {alias: dict.fromkeys(names, "unknown") for alias, names in relations.items() if names}
    try:
        tree = qualify(select.tree.copy(), schema=schema, dialect="duckdb", validate_qualify_columns=False,
                       identify=False, quote_identifiers=False)  # fmt: skip
    except _BEYOND_THE_TRACER:
        return None
    return tree if isinstance(tree, exp.Query) else None


def _outputs(tree: exp.Query) -> tuple[str, ...] | None:
    if any(item.is_star or item.find(exp.Columns) is not None for item in tree.selects):
        return None
    return tuple("" if item.alias_or_name.startswith("_col_") else item.alias_or_name for item in tree.selects)


def _lineage(tree: exp.Query) -> dict[str, Node]:
    """Return the lineage of every output column, by lower-case name."""
    try:
        nodes: dict[str, Node] = lineage(
            None, tree, {}, scope=build_scope(tree), dialect="duckdb", trim_selects=False, copy=False
        )
    except _BEYOND_THE_TRACER:
        return {}
    return {name.lower(): node for name, node in nodes.items()}


def _transformation(expression: exp.Expr) -> Transformation:
    value = expression.unalias()
    if isinstance(value, exp.Query):
        return "IDENTITY"
    if isinstance(value, exp.Column):
        return "IDENTITY"
    return "AGGREGATION" if value.find(exp.AggFunc, exp.Window) else "TRANSFORMATION"


def _stronger(one: Transformation, other: Transformation) -> Transformation:
    ranks: tuple[Transformation, ...] = ("IDENTITY", "TRANSFORMATION", "AGGREGATION")
    return max(one, other, key=ranks.index)
