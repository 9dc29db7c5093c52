"""What users write as SQL: what is taken, what is refused and why, and what stays the same."""

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fstore.plan.sql import SqlProblem, canonical_sql, parse_scalar, parse_select, render_scalar

REFUSED_SCALARS = {
    "amount +": "has SQL that cannot be parsed near '+' in line 1: 'amount +'.",
    "amount, quantity": "has 'amount, quantity', which is not one SQL expression. Write a single expression over columns.",
    "amount FROM purchases": "has 'amount FROM purchases', which is not one SQL expression. "
    "Write a single expression over columns.",
    "amount; amount": "has 2 SQL statements in 'amount; amount'. Write exactly one.",
    "": "has '', which is not one SQL expression. Write a single expression over columns.",
    "amount AS a": "has 'amount AS a', which names its result. Remove AS a.",
    "(SELECT 1)": "has '(SELECT 1)', which contains a subquery. Use a SQL view for anything that needs a SELECT.",
    "sum(amount)": "has 'sum(amount)', which contains the aggregate sum(). Aggregates are declared with agg.",
    "favg(amount)": "has 'favg(amount)', which contains the aggregate favg(). Aggregates are declared with agg.",
    "lag(amount) OVER ()": "has 'lag(amount) OVER ()', which contains a window function. "
    "Windows of time are declared with .over().",
    "*": "has '*', which contains *. Name a column.",
    "COLUMNS('a.*')": "has \"COLUMNS('a.*')\", which contains *. Name a column.",
    "amount > $end": "has 'amount > $end', which contains the parameter $end. Only SQL views have $start and $end.",
    "unnest([1, 2])": "has 'unnest([1, 2])', which gives several rows. Use a SQL view to unnest.",
    "amount * random()": "uses random(), whose value changes from run to run. "
    "Use the interval's $start or $end in a SQL view, or a column.",
    "age(now(), born_on)": "uses now(), whose value changes from run to run. "
    "Use the interval's $start or $end in a SQL view, or a column.",
    "born_on < current_date": "uses current_date, whose value changes from run to run. "
    "Use the interval's $start or $end in a SQL view, or a column.",
    'amount * "RANDOM"()': "uses random(), whose value changes from run to run. "
    "Use the interval's $start or $end in a SQL view, or a column.",
    "getvariable('x')": "uses getvariable(), which does not depend on the inputs. Use a column or a constant.",
    "'open": 'has SQL with a quote or comment that does not end: "SELECT \'open".',
}


def message(error):
    return f"{error.problem} {error.fix}".strip()


@pytest.mark.parametrize("text", REFUSED_SCALARS)
def test_refuses_what_is_no_reproducible_scalar(text):
    with pytest.raises(SqlProblem) as raised:
        parse_scalar(text)
    assert message(raised.value) == REFUSED_SCALARS[text]


REFUSED_SELECTS = {
    "SELECT 1; SELECT 2": "has 2 SQL statements in 'SELECT 1; SELECT 2'. Write exactly one.",
    "DROP TABLE u": "has SQL that is not one SELECT but DROP. Write a single SELECT.",
    "CREATE TABLE x AS SELECT 1": "has SQL that is not one SELECT but CREATE. Write a single SELECT.",
    "INSERT INTO u VALUES (1)": "has SQL that is not one SELECT but INSERT. Write a single SELECT.",
    "COPY u TO 'x.csv'": "has SQL that is not one SELECT but COPY. Write a single SELECT.",
    "ATTACH 'other.db'": "has SQL that is not one SELECT but ATTACH. Write a single SELECT.",
    "PRAGMA database_list": "has SQL that is not one SELECT but PRAGMA. Write a single SELECT.",
    "SET threads = 1": "has SQL that is not one SELECT but SET. Write a single SELECT.",
    "SELECT * INTO t FROM u": "has SQL that is not one SELECT but SELECT INTO. Write a single SELECT.",
    "EXPLAIN SELECT 1": "has SQL that is not one SELECT but EXPLAIN. Write a single SELECT.",
    "call x()": "has SQL that is not one SELECT but CALL. Write a single SELECT.",
    "VACUUM": "has SQL that is not one SELECT but VACUUM. Write a single SELECT.",
    "CHECKPOINT": "has SQL that is not one SELECT but CHECKPOINT. Write a single SELECT.",
    "INSTALL httpfs": "has SQL that is not one SELECT but INSTALL. Write a single SELECT.",
    "VALUES (1)": "has SQL that is not one SELECT but VALUES. Write a single SELECT.",
    "PIVOT u ON a USING sum(b)": "has SQL that is not one SELECT but PIVOT. Write a single SELECT.",
    "WITH x AS (INSERT INTO u VALUES (1) RETURNING *) SELECT * FROM x": "has SQL that contains INSERT. "
    "Write a single SELECT.",
    "SELECT * FROM (DESCRIBE u)": "has SQL that contains DESCRIBE. Write a single SELECT.",
    "SELECT * FROM read_parquet('x.parquet')": "has SQL that reads read_parquet(…) rather than an input. "
    "Declare what it reads as a source and give it to the view in inputs.",
    "SELECT * FROM glob('*')": "has SQL that reads glob(…) rather than an input. "
    "Declare what it reads as a source and give it to the view in inputs.",
    "SELECT * FROM query('SELECT 1')": "has SQL that reads query(…) rather than an input. "
    "Declare what it reads as a source and give it to the view in inputs.",
    "SELECT * FROM u USING SAMPLE 3": "has SQL that takes a random sample. "
    "Filter by a hash of the key instead: WHERE hash(key) % 10 = 0.",
    "SELECT ? FROM u": "has SQL that has the parameter ?. A view's SQL has the parameters $start and $end only.",
    "SELECT $1 FROM u": "has SQL that has the parameter $1. A view's SQL has the parameters $start and $end only.",
    "SELECT $now FROM u": "has SQL that has the parameter $now. A view's SQL has the parameters $start and $end only.",
    "SELECT age(born_on) FROM u": "has SQL that uses age() of one instant, which is measured from today. "
    "Write age($end, …).",
    "SELECT uuid() FROM u": "uses uuid(), whose value changes from run to run. "
    "Use the interval's $start or $end in a SQL view, or a column.",
    "SELECT getvariable('x') FROM u": "uses getvariable(), which does not depend on the inputs. Use a column or a constant.",
    "  -- nothing": "has empty SQL. Write an expression or a SELECT.",
}


@pytest.mark.parametrize("text", REFUSED_SELECTS)
def test_refuses_what_is_not_one_select_over_inputs(text, caplog):
    with pytest.raises(SqlProblem) as raised:
        parse_select(text)
    assert caplog.messages == []
    assert message(raised.value) == REFUSED_SELECTS[text]


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        ("SELECT u.user_id FROM u", ("u",)),
        ("FROM u", ("u",)),
        ("WITH c AS (SELECT * FROM p) SELECT * FROM c JOIN u USING (user_id)", ("u", "p")),
        ("SELECT 1 FROM u UNION ALL SELECT 2 FROM p", ("u", "p")),
        ("(SELECT 1 FROM u)", ("u",)),
        ("SELECT * FROM u ASOF JOIN p ON u.k = p.k AND u.t >= p.t", ("u", "p")),
        ("SELECT * FROM u, range(3) r(i), unnest([1, 2]) n(v)", ("u",)),
        ("SELECT * FROM u WHERE t < $end AND t >= $start", ("u",)),
        ("SELECT * FROM 'x.parquet'", ("x.parquet",)),
        ("SELECT * FROM other.u", ("other.u",)),
        ("SELECT random, now FROM u", ("u",)),
    ],
)
def test_finds_the_tables_that_a_select_reads(text, tables):
    assert sorted(parse_select(text).tables) == sorted(tables)


def test_keeps_the_text_of_a_select_without_its_semicolon():
    assert parse_select(" SELECT 1 -- one\n FROM u ; -- end\n").text == "SELECT 1 -- one\n FROM u"


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("amount", '"Amount"'),
        ("AMOUNT / quantity", '"Amount" / NULLIF("quantity", 0)'),
        ("a % (b - 1) // 2", '"a" % NULLIF(("b" - 1), 0) // 2'),
        ("divide(a, b)", 'DIVIDE("a", NULLIF("b", 0))'),
        ("a / 0", '"a" / NULLIF(0, 0)'),
        ("payload.city", '"payload"."city"'),
        ("CASE WHEN a > 1 THEN 'it''s' END -- why", "CASE WHEN \"a\" > 1 THEN 'it''s' END"),
    ],
)
def test_renders_a_scalar_with_quoted_names_and_safe_division(text, rendered):
    assert render_scalar(parse_scalar(text), {"amount": "Amount"}) == rendered


SAME_VALUE = (
    "a + b * 2 - -a", "(a + b) * 2", "a / b", "a // b", "a % b", "-a ** 2", "a > b AND NOT b > 1 OR a IS NULL",
    "coalesce(nullif(a, b), 3)", "greatest(a, b, 1)", "CASE a WHEN 1 THEN b ELSE 0 END", "CAST(a AS DOUBLE) / 3",
    "a::VARCHAR || '-' || b", "if(a > b, 'x', s)", "upper(s) LIKE 'A%'", "s ILIKE 'a%' ESCAPE '!'", "a BETWEEN 1 AND b",
    "a IN (1, 2, 3)", "a IS DISTINCT FROM b", "round(a / 3.0, 2)", "abs(a - b) // 2", "a & 3", "a | b", "xor(a, b)", "a << 2",
    "regexp_matches(s, 'a.c')", "s[1:2]", "length(s) + strlen(s)", "date_part('hour', t)", "date_diff('day', t, t)",
    "date_trunc('month', t)", "extract(year FROM t)", "t - INTERVAL 1 DAY", "t + INTERVAL '2 hours'", "epoch(t)",
    "t AT TIME ZONE 'Europe/Berlin'", "strftime(t, '%Y-%m')", "list_sum([a, b])", "try_cast(s AS INTEGER)", "hash(s) % 10",
    "substring(s, 1, 2)", "s SIMILAR TO 'a.*'", "position('b' IN s)", "trim(BOTH 'a' FROM s)", "ln(a + 1)", "a ^ 2",
    "round(1.005, 2)", "1e3 + .5", "log(100)", "log2(8)", "mod(a, b)", "divide(a, b)", "s COLLATE NOCASE = 'ABC'",
    "len(list_filter([1, 2, 3], lambda x: x > a))", "strptime('2020-01-02', '%Y-%m-%d')", "least(a, b)", "a = ANY([1, 2])",
    "isnan(a::DOUBLE)", "left(s, 1) || right(s, 1)", "md5(s)", "bit_count(a)", "split_part(s, 'b', 1)", "sign(a)",
    "concat(s, NULL, 'x')", "concat_ws('-', s, NULL, 'x')", "to_timestamp(0)", "epoch_ms(t)", "make_date(2020, a, b)",
    "dayofweek(t)", "isodow(t)", "week(t)", "quarter(t)", "last_day(t)", "date_sub('day', t, t)", "instr(s, 'b')",
    "replace(s, 'a', 'b')", "a <> b", "a == b", "s ~ 'a.*'", "contains(s, 'b')", "starts_with(s, 'a')", "s ^@ 'a'",
)  # fmt: skip


@pytest.mark.parametrize("text", SAME_VALUE)
def test_rendering_keeps_the_value(text):
    row = "(SELECT 7 AS a, 2 AS b, 'abc' AS s, TIMESTAMPTZ '2026-03-05 06:07:08+00' AS t)"
    rendered = render_scalar(parse_scalar(text), {})
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        written = connection.execute(f"SELECT {text}, typeof({text}) FROM {row}").fetchall()
        assert connection.execute(f"SELECT {rendered}, typeof({rendered}) FROM {row}").fetchall() == written


# -- canonical text ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("select a from u", 'SELECT\n  "A" /* all */\nFROM U -- here\n;'),
        ("a/b", "a / b"),
        ("date_diff('year',a,$end)", "DATE_DIFF('year', a, $END)"),
        ("1E3", "1e3"),
    ],
)
def test_canonical_sql_ignores_layout_comments_and_case(one, other):
    assert canonical_sql(one) == canonical_sql(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a - b", "b - a"),
        ("'a'", "'A'"),
        ("'a'", "a"),
        ("a -b", "a - - b"),
        ("e'a\\n'", "e'an'"),
        ("'it''s'", "'its'"),
        ('"a b"', "a b"),
        ("a AND b", "a OR b"),
        ("a <= b", "a < b"),
        ("1.0", "1"),
        ("SELECT * FROM u JOIN p USING (k)", "SELECT * FROM u ASOF JOIN p USING (k)"),
        ("'a  b'", "'a b'"),
        ("$$a$$", "$$b$$"),
    ],
)
def test_canonical_sql_tells_different_sql_apart(one, other):
    assert canonical_sql(one) != canonical_sql(other)


TOKENS = st.sampled_from(
    ["a", "b", "amount", "7", "1.5", "'x'", "'X  y'", "+", "-", "*", "/", "(", ")", ",", "SELECT", "FROM"]
)
GAPS = st.sampled_from([" ", "\n", "\t ", " /* note */ ", " -- note\n"])


@given(st.lists(st.tuples(TOKENS, GAPS), min_size=1, max_size=12))
def test_canonical_sql_depends_on_tokens_only(pieces):
    plain = " ".join(token for token, _ in pieces)
    assert canonical_sql("".join(token + gap for token, gap in pieces)) == canonical_sql(plain)


@given(st.lists(TOKENS, min_size=1, max_size=8), st.lists(TOKENS, min_size=1, max_size=8))
def test_different_tokens_are_different_sql(one, other):
    assert (canonical_sql(" ".join(one)) == canonical_sql(" ".join(other))) == (one == other)
