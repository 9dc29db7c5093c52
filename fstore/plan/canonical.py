"""One spelling for SQL and Python that mean the same: what fingerprints are taken over.

Takes text and gives canonical text. SQL keeps every token; whitespace, comments, letter case, quotes around plain names, and
parentheses that change nothing (by a short table of precedences; whatever is not in it keeps its parentheses) do not count.
It depends on the tokens of sqlglot and not on its trees, which change between versions. Python counts by its syntax tree,
written down so that it is the same in every version of Python that runs fstore.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import TokenError
from sqlglot.tokenizer_core import Token, TokenType

_DIALECT = DuckDB()
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_TEXT_TOKENS = frozenset(kind for kind in TokenType if kind.name.endswith("STRING"))

_PRECEDENCE = {
    "or": 1, "and": 2, "=": 4, "<>": 4, "!=": 4, "<": 4, ">": 4, "<=": 4, ">=": 4, "+": 6, "-": 6, "*": 7, "/": 7, "%": 7,
}  # fmt: skip
"""How tightly operators bind. Those of one level are read from the left; comparisons are not chained."""

_COMPARISON, _PRIMARY, _NEVER = 4, 99, 0
_OPENERS = frozenset({"(", "[", ",", "select", "where", "having", "qualify", "when", "then", "else", "case", "on"})
"""What may stand before a parenthesis that only groups, beside operators."""

_CLOSERS = frozenset({
    ")", "]", ",", "from", "where", "group", "having", "qualify", "order", "limit", "when", "then", "else", "end", "as",
    "union", "except", "intersect", "join", "left", "right", "inner", "full", "cross", "asof", "asc", "desc", "nulls",
})  # fmt: skip
"""What may stand behind one."""


@lru_cache(maxsize=16_384)
def canonical_sql(text: str) -> str:
    """Return SQL in one spelling; texts with different meanings never become the same.

    Text that is not even made of tokens is returned as it is.
    """
    try:
        tokens = _DIALECT.tokenize(text)
    except TokenError:
        return text
    while tokens and tokens[-1].token_type == TokenType.SEMICOLON:
        tokens.pop()
    words = [_word(token, text) for token in tokens]
    return " ".join(_without_needless_parentheses(words))


def _word(token: Token, text: str) -> str:
    raw = text[token.start : token.end + 1]
    if token.token_type == TokenType.IDENTIFIER:
        return _name(token.text.lower())
    return raw if token.token_type in _TEXT_TOKENS else raw.lower()


@lru_cache(maxsize=4096)
def _name(name: str) -> str:
    """Return a quoted name without its quotes where they make no difference: it is plain and no word of the language."""
    if _PLAIN_NAME.fullmatch(name) and [token.token_type for token in _DIALECT.tokenize(name)] == [TokenType.VAR]:
        return name
    return '"' + name.replace('"', '""') + '"'


def _without_needless_parentheses(words: Sequence[str]) -> list[str]:
    """Return the words without pairs of parentheses that group what would be grouped without them, inner ones first."""
    kept = list(words)
    # AND also belongs to BETWEEN, and a question of words cannot tell which: its neighbours keep their parentheses then.
    ambiguous = "between" in kept
    while (pair := _needless_pair(kept, ambiguous=ambiguous)) is not None:
        opening, closing = pair
        del kept[closing], kept[opening]
    return kept


def _needless_pair(words: Sequence[str], *, ambiguous: bool) -> tuple[int, int] | None:
    open_at: list[int] = []
    for index, word in enumerate(words):
        if word == "(":
            open_at.append(index)
        elif word == ")" and open_at:
            opening = open_at.pop()
            if _is_needless(words, opening, index, ambiguous=ambiguous):
                return opening, index
    return None


def _is_needless(words: Sequence[str], opening: int, closing: int, *, ambiguous: bool) -> bool:
    before = words[opening - 1] if opening else None
    after = words[closing + 1] if closing + 1 < len(words) else None
    left, right = _left(before, ambiguous=ambiguous), _right(after, ambiguous=ambiguous)
    inner = _loosest(words[opening + 1 : closing])
    if _NEVER in (left, right, inner) or (before in ("-", "+") and _is_sign(words, opening - 1) and inner != _PRIMARY):
        return False
    if left != _BOUNDARY and inner <= left:
        return False
    return right == _BOUNDARY or inner > right or (inner == right and inner != _COMPARISON)


_BOUNDARY = -1


def _left(word: str | None, *, ambiguous: bool) -> int:
    if word is None or word in _OPENERS:
        return _BOUNDARY
    return _NEVER if ambiguous and word == "and" else _PRECEDENCE.get(word, _NEVER)


def _right(word: str | None, *, ambiguous: bool) -> int:
    if word is None or word in _CLOSERS:
        return _BOUNDARY
    return _NEVER if ambiguous and word == "and" else _PRECEDENCE.get(word, _NEVER)


def _is_sign(words: Sequence[str], at: int) -> bool:
    """Whether a plus or minus has nothing on its left that it could add to."""
    return at == 0 or words[at - 1] in _OPENERS or words[at - 1] in _PRECEDENCE


def _loosest(words: Sequence[str]) -> int:
    """Return how tightly what stands between parentheses holds together: its loosest operator, or that it is one thing.

    That is a name (with dots), a number, a text or a call. Whatever else it may be is not judged.
    """
    found = _PRIMARY
    operand = False
    index = 0
    while index < len(words):
        word = words[index]
        if operand:
            if word == ".":
                operand = False
            elif word == "(" and words[index - 1] not in _RESERVED and _is_name(words[index - 1]):
                index = _closing(words, index)
            elif word in _PRECEDENCE:
                found, operand = min(found, _PRECEDENCE[word]), False
            else:
                return _NEVER
        elif word == "(":
            index, operand = _closing(words, index), True
        elif _is_operand(word):
            operand = True
        else:
            return _NEVER
        index += 1
    return found if operand else _NEVER


_RESERVED = frozenset({
    "select", "case", "when", "then", "else", "end", "not", "in", "is", "like", "ilike", "between", "interval", "exists",
    "any", "all", "distinct", "from", "where", "with", "values", "and", "or", "cast", "try_cast", "array", "lambda", "row",
    "date", "timestamp", "timestamptz", "time",
})  # fmt: skip


def _is_name(word: str) -> bool:
    return bool(_PLAIN_NAME.fullmatch(word)) or word.startswith('"')


def _is_operand(word: str) -> bool:
    return word not in _RESERVED and (_is_name(word) or word[0].isdigit() or word.startswith("'"))


def _closing(words: Sequence[str], opening: int) -> int:
    depth = 0
    for index in range(opening, len(words)):
        depth += (words[index] == "(") - (words[index] == ")")
        if not depth:
            return index
    return len(words)


# -- Python -----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def canonical_python(source: str) -> str:
    """Return Python statements as their syntax tree in one spelling, the same in every version of Python."""
    return ";".join(_dump(statement) for statement in ast.parse(source).body)


def _dump(value: object) -> str:
    match value:
        case ast.JoinedStr():
            return f"JoinedStr(values=[{','.join(_dump(part) for part in _joined(value))}])"
        case ast.Constant():
            return f"{type(value.value).__name__}:{value.value!r}"
        case ast.AST():
            fields = (f"{name}={_dump(field)}" for name, field in ast.iter_fields(value) if _counts(name, field))
            return f"{type(value).__name__}({','.join(fields)})"
        case list():
            return f"[{','.join(_dump(item) for item in value)}]"
        case _:
            return repr(value)


def _counts(name: str, field: object) -> bool:
    """Whether a field of a node says anything: fields that some versions lack are empty in the others."""
    return name not in ("ctx", "kind", "type_comment", "type_ignores") and field is not None and field != []


def _joined(node: ast.JoinedStr) -> Iterator[ast.expr]:
    """Yield the parts of an f-string: versions differ in how they cut its literal text."""
    text = ""
    for part in node.values:
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            text += part.value
            continue
        if text:
            yield ast.Constant(text)
        text = ""
        yield part
    if text:
        yield ast.Constant(text)
