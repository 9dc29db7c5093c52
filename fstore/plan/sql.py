"""Reading the SQL that users write: scalar expressions and SELECTs, in DuckDB's dialect.

Takes text and gives a parsed form, or raises :class:`SqlProblem` with what is wrong and how to fix it. What users write is
checked but never translated: a SELECT runs as its original text, because a round trip through a parser can change the
meaning of temporal SQL; only scalar expressions are rendered again, with names quoted and division by zero made null.
Runs nothing and knows no data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

import msgspec
from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import ParseError, TokenError
from sqlglot.tokenizer_core import Token, TokenType

from fstore.plan.canonical import canonical_sql as canonical_sql  # noqa: PLC0414  (explicitly re-exported)

CHANGING = frozenset({
    "random", "setseed", "uuid", "uuidv4", "uuidv7", "gen_random_uuid", "now", "today", "get_current_time",
    "get_current_timestamp", "transaction_timestamp", "current_date", "current_time", "current_timestamp", "localtime",
    "localtimestamp", "txid_current", "current_transaction_id", "current_connection_id", "current_query_id", "nextval",
    "currval", "setval",
})  # fmt: skip
"""Functions whose value differs from run to run."""

OUTSIDE = frozenset({
    "getvariable", "current_setting", "current_user", "current_role", "session_user", "current_database",
    "current_catalog", "current_schema", "current_schemas", "in_search_path", "current_query", "getenv", "write_log",
    "sleep_ms", "version", "stats", "vector_type",
})  # fmt: skip
"""Functions whose value depends on the session rather than on the inputs."""

_KEYWORD_CALLS = frozenset({
    "current_date", "current_time", "current_timestamp", "localtime", "localtimestamp", "current_user", "current_role",
    "session_user", "current_catalog", "current_schema",
})  # fmt: skip
_AGGREGATES = frozenset({
    "any_value", "approx_count_distinct", "approx_quantile", "approx_top_k", "arbitrary", "arg_max", "arg_max_null",
    "arg_min", "arg_min_null", "argmax", "argmin", "array_agg", "avg", "bit_and", "bit_or", "bit_xor", "bitstring_agg",
    "bool_and", "bool_or", "corr", "count", "count_if", "count_star", "countif", "covar_pop", "covar_samp", "entropy",
    "favg", "first", "fsum", "group_concat", "histogram", "kahan_sum", "kurtosis", "kurtosis_pop", "last", "list",
    "listagg", "mad", "max", "max_by", "mean", "median", "min", "min_by", "mode", "product", "quantile",
    "quantile_cont", "quantile_disc", "regr_avgx", "regr_avgy", "regr_count", "regr_intercept", "regr_r2",
    "regr_slope", "regr_sxx", "regr_sxy", "regr_syy", "reservoir_quantile", "sem", "skewness", "stddev", "stddev_pop",
    "stddev_samp", "string_agg", "sum", "sumkahan", "var_pop", "var_samp", "variance",
})  # fmt: skip
_TABLE_FUNCTIONS = (exp.GenerateSeries, exp.GenerateDateArray, exp.GenerateTimestampArray)
_TEXT_TOKENS = frozenset(kind for kind in TokenType if kind.name.endswith("STRING"))
_DIALECT = DuckDB()


class SqlProblem(ValueError):
    """SQL that cannot be used: ``problem`` is a verb phrase, ``fix`` says what to do."""

    def __init__(self, problem: str, fix: str = "") -> None:
        self.problem, self.fix = problem, fix
        super().__init__(problem)


class ScalarSql(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed scalar expression and the names of its columns, as written and each once.

    ``tree`` must not be modified: it is shared.
    """

    text: str
    tree: exp.Expr
    columns: tuple[str, ...]


class SelectSql(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed SELECT: its text without a closing semicolon, its tree, the tables it reads, and its ``$`` parameters.

    ``tree`` must not be modified: it is shared.
    """

    text: str
    tree: exp.Query
    tables: tuple[str, ...]
    parameters: tuple[str, ...]


def quoted(name: str) -> str:
    """Return an identifier in double quotes."""
    return '"' + name.replace('"', '""') + '"'


@lru_cache(maxsize=8192)
def parse_scalar(text: str) -> ScalarSql:
    """Parse one SQL scalar expression. Raises SqlProblem for anything else, and for what could not be reproduced."""
    tree = _parse_one(_tokens(f"SELECT {text}\n"), f"SELECT {text}\n", text)
    if not isinstance(tree, exp.Select) or len(tree.expressions) != 1 or set(_set_arguments(tree)) != {"expressions"}:
        raise SqlProblem(f"has {text!r}, which is not one SQL expression.", "Write a single expression over columns.")
    value = tree.expressions[0]
    for node in value.walk():
        if complaint := _not_scalar(node):
            raise SqlProblem(f"has {text!r}, which {complaint[0]}.", complaint[1])
    columns = dict.fromkeys(column.parts[0].name for column in value.find_all(exp.Column))
    return ScalarSql(text=text, tree=value, columns=tuple(columns))


def _set_arguments(tree: exp.Expr) -> Iterator[str]:
    return (name for name, value in tree.args.items() if value)


def _not_scalar(node: exp.Expr) -> tuple[str, str] | None:
    """Return what a node does that a scalar expression may not do, and the fix."""
    if isinstance(node, exp.Alias):
        return "names its result", f"Remove AS {node.alias}."
    if isinstance(node, (exp.Query, exp.Subquery, exp.Exists)):
        return "contains a subquery", "Use a SQL view for anything that needs a SELECT."
    if isinstance(node, exp.Window):
        return "contains a window function", "Windows of time are declared with .over()."
    if isinstance(node, exp.AggFunc) or (isinstance(node, exp.Anonymous) and node.name.lower() in _AGGREGATES):
        return (
            f"contains the aggregate {_function_name(node)}()",
            "Aggregates are declared with agg.",
        )
    if isinstance(node, (exp.Star, exp.Columns)):
        return "contains *", "Name a column."
    if isinstance(node, (exp.Placeholder, exp.Parameter)):
        return f"contains the parameter {node.sql(dialect=_DIALECT)}", "Only SQL views have $start and $end."
    if isinstance(node, (exp.Explode, exp.Unnest)):
        return "gives several rows", "Use a SQL view to unnest."
    return None


def render_scalar(scalar: ScalarSql, names: Mapping[str, str]) -> str:
    """Return an expression as DuckDB SQL, its columns replaced by ``names`` (lower case to real) and quoted.

    A divisor that is zero makes the division null.
    """

    def rewrite(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column):
            for index, part in enumerate(node.parts):
                name = names.get(part.name.lower(), part.name) if index == 0 else part.name
                part.set("this", name)
                part.set("quoted", True)
        elif isinstance(node, (exp.Div, exp.IntDiv, exp.Mod)) and not _is_nonzero(node.expression):
            node.set("expression", exp.Nullif(this=node.expression, expression=exp.Literal.number(0)))
        elif isinstance(node, exp.Anonymous) and node.name.lower() in ("divide", "fmod") and len(node.expressions) == 2:
            divisor = exp.Nullif(this=node.expressions[1], expression=exp.Literal.number(0))
            node.set("expressions", [node.expressions[0], divisor])
        return node

    tree = scalar.tree.copy()
    for node in list(tree.walk()):
        rewrite(node)
    return tree.sql(dialect=_DIALECT, comments=False)


def _is_nonzero(node: exp.Expr) -> bool:
    return isinstance(node, exp.Literal) and not node.is_string and float(node.this) != 0


@lru_cache(maxsize=4096)
def parse_select(text: str) -> SelectSql:
    """Parse a SELECT over named relations. Raises SqlProblem unless it is one statement that only reads its inputs."""
    tokens = _tokens(text)
    tree = _parse_one(tokens, text, text)
    if not isinstance(tree, (exp.Select, exp.SetOperation, exp.Subquery)):
        raise _not_select(tokens[0].text)
    if tree.args.get("into"):
        raise _not_select("SELECT INTO")
    for node in tree.walk():
        if complaint := _not_query(node):
            raise SqlProblem(f"has SQL that {complaint[0]}.", complaint[1])
    defined = {item.alias.lower() for item in tree.find_all(exp.CTE)}
    tables = [table for table in tree.find_all(exp.Table) if isinstance(table.this, exp.Identifier)]
    names = [".".join(part.name for part in table.parts) for table in tables]
    read = dict.fromkeys(name for name in names if name.lower() not in defined)
    parameters = sorted({node.name for node in tree.find_all(exp.Placeholder)})
    return SelectSql(text=text[: tokens[-1].end + 1].strip(), tree=tree, tables=tuple(read), parameters=tuple(parameters))


def _not_select(statement: str) -> SqlProblem:
    return SqlProblem(f"has SQL that is not one SELECT but {statement.upper()}.", "Write a single SELECT.")


def _not_query(node: exp.Expr) -> tuple[str, str] | None:
    """Return what a node does that a view's SELECT may not do, and the fix."""
    if isinstance(node, exp.Table) and not isinstance(node.this, (exp.Identifier, *_TABLE_FUNCTIONS)):
        fix = "Declare what it reads as a source and give it to the view in inputs."
        return f"reads {_function_name(node.this)}(…) rather than an input", fix
    if isinstance(node, (exp.DDL, exp.DML, exp.Command, exp.Describe, exp.Summarize, exp.Show, exp.Pragma)) and not (
        isinstance(node, exp.Query)
    ):
        return f"contains {node.key.upper()}", "Write a single SELECT."
    if isinstance(node, exp.TableSample):
        return "takes a random sample", "Filter by a hash of the key instead: WHERE hash(key) % 10 = 0."
    if isinstance(node, exp.Parameter) or (isinstance(node, exp.Placeholder) and node.name not in ("start", "end")):
        return f"has the parameter {node.sql(dialect=_DIALECT)}", "A view's SQL has the parameters $start and $end only."
    if isinstance(node, exp.Anonymous) and node.name.lower() == "age" and len(node.expressions) == 1:
        return "uses age() of one instant, which is measured from today", "Write age($end, …)."
    return None


def _parse_one(tokens: list[Token], text: str, shown: str) -> exp.Expr:
    """Parse the tokens of one statement, refusing several and functions whose value cannot be reproduced."""
    if complaint := _forbidden_call(tokens):
        raise complaint
    if tokens[0].token_type in (TokenType.COMMAND, TokenType.EXECUTE, TokenType.LOAD):
        raise _not_select(tokens[0].text)  # the parser would log a warning and keep it as text
    try:
        statements = [tree for tree in _DIALECT.parser().parse(tokens, text) if tree is not None]
    except ParseError as error:
        raise SqlProblem(f"has SQL that cannot be parsed{_near(error)}: {_short(shown)!r}.") from None
    except RecursionError:
        raise SqlProblem("has SQL that is nested too deeply to be parsed.", "Split it.") from None
    if len(statements) != 1:
        raise SqlProblem(f"has {len(statements)} SQL statements in {_short(shown)!r}.", "Write exactly one.")
    return statements[0]


def _tokens(text: str) -> list[Token]:
    try:
        tokens: list[Token] = _DIALECT.tokenize(text)
    except TokenError:
        raise SqlProblem(f"has SQL with a quote or comment that does not end: {_short(text)!r}.") from None
    while tokens and tokens[-1].token_type == TokenType.SEMICOLON:
        tokens.pop()
    if not tokens:
        raise SqlProblem("has empty SQL.", "Write an expression or a SELECT.")
    return tokens


def _forbidden_call(tokens: list[Token]) -> SqlProblem | None:
    """Look for calls among the tokens, where no rewriting by the parser can hide them."""
    for index, token in enumerate(tokens):
        name = token.text.lower()
        if name not in CHANGING and name not in OUTSIDE:
            continue
        following = tokens[index + 1].token_type if index + 1 < len(tokens) else None
        called = following == TokenType.L_PAREN and token.token_type not in _TEXT_TOKENS
        before = tokens[index - 1].token_type if index else None
        keyword = name in _KEYWORD_CALLS and token.token_type not in (TokenType.IDENTIFIER, *_TEXT_TOKENS)
        if called or (keyword and before not in (TokenType.DOT, TokenType.ALIAS)):
            shown = f"{name}()" if called else name
            if name in CHANGING:
                return SqlProblem(f"uses {shown}, whose value changes from run to run.",
                                  "Use the interval's $start or $end in a SQL view, or a column.")  # fmt: skip
            return SqlProblem(f"uses {shown}, which does not depend on the inputs.", "Use a column or a constant.")
    return None


def _near(error: ParseError) -> str:
    """Return where parsing failed; sqlglot's own words change between versions and name its classes."""
    first = error.errors[0] if error.errors else {}
    near = str(first.get("highlight") or "").strip()
    return f" near {near!r} in line {first.get('line')}" if near else ""


def _short(text: str, length: int = 120) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= length else flat[: length - 1] + "…"


def _function_name(node: exp.Expr) -> str:
    if isinstance(node, exp.Anonymous):
        return node.name.lower()
    return node.sql_name().lower() if isinstance(node, exp.Func) else node.key
