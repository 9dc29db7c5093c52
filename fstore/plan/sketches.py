"""Sketches: the SQL that turns a value into its place in a sketch, and a sketch over a window into an estimate.

Both kinds are counted by place, so that windows merge them exactly: the estimate depends on the values of a window and on
nothing else, neither on the order of events nor on how tiles were merged.

* *Distinct values.* A value's hash picks one of 4,096 rows evenly and a level, each level half as likely as the one before;
  the pair is its coupon. Of ``n`` values, one draws a certain coupon of level ``r`` with probability
  ``1 - exp(-n / (4096 * 2^r))``, and the estimate is the ``n`` for which as many different coupons are expected as there
  are. (Flajolet and Martin, "Probabilistic counting algorithms for data base applications", JCSS 31, 1985; by counting
  coupons as in Lang, "Back to the future: an even more nearly optimal cardinality estimation algorithm", 2017: a standard
  error of 0.693 / sqrt(4096), 1.1 %.)
* *Percentiles.* Buckets of values whose bounds grow by a constant factor, so that a bucket's middle is within 1 % of any of
  its values. (Masson, Rim and Lee, "DDSketch", VLDB 12, 2019, without collapsing buckets.)
"""

from __future__ import annotations

import math

COUPON_ROWS = 4096
"""How many coupons each level has."""

COUPON_LEVELS = 41
"""How many levels there are; the last one takes all that would lie beyond."""

COUPON_BITS = 18
"""How many bits a coupon has: 12 for the row, 6 for the level."""

BUCKET_GROWTH = 0.0199
"""The logarithm of the factor by which bounds of buckets grow: the middle is within tanh(0.0199 / 2) < 1 % of a value."""

HASH_PROBE = ("fstore", 12720049878186315196)
"""A text and DuckDB's hash of it. Coupons of different hash functions must not meet in one sketch."""

_ONE, _INFINITE, _NAN = 100_000, 1_000_000, 2_000_000
"""Codes of buckets: the one that ends at 1, those of the infinities less their sign, and that of NaN. Zero is 0."""

_LARGEST = 709.78
"""About the logarithm of the largest float64."""

_NEWTON_STEPS = 7


def coupon_sql(value: str) -> str:
    """Return the coupon of a value as an integer; null for null. DuckDB's hash of the value as text decides."""
    text, expected = HASH_PROBE
    checked = (
        f"CASE WHEN hash('{text}') = {expected} THEN hash(CAST({value} AS VARCHAR)) ELSE "
        "CAST('fstore: this version of DuckDB hashes differently' AS UBIGINT) END"
    )
    bits = f"CAST((({checked}) >> 12) & 1099511627775 AS DOUBLE)"
    level = f"40 - CAST(floor(log2({bits} + 0.5)) AS INTEGER)"
    return f"CASE WHEN {value} IS NOT NULL THEN CAST(({checked}) & 4095 AS INTEGER) * 64 + {level} END"


def distinct_estimate_sql(coupons: str) -> str:
    """Return the estimate, as a whole number, from the number of different coupons (more than 0).

    Solves for ``n`` by Newton's method on its logarithm ``x``, in which the expectation is convex: from the right, so that
    steps go one way and none overshoots.
    """
    chances = f"[{', '.join(repr(2.0 ** -min(level, COUPON_LEVELS - 1)) for level in range(1, COUPON_LEVELS + 1))}]"
    rate = f"(exp(x) * p / {COUPON_ROWS})"
    expected = f"{COUPON_ROWS} * list_sum(list_transform({chances}, lambda p: 1 - exp(-{rate})))"
    slope = f"{COUPON_ROWS} * list_sum(list_transform({chances}, lambda p: {rate} * exp(-{rate})))"
    start = (  # for few values, as many as would hit that many rows; for many, the asymptote
        f"least(ln({COUPON_ROWS}) + {coupons} * ln(2.0) / {COUPON_ROWS} + 0.5, "
        f"CASE WHEN {coupons} < {COUPON_ROWS} THEN ln(-{COUPON_ROWS} * ln(1 - {coupons} / {COUPON_ROWS})) END)"
    )
    steps = f"list_prepend({start}, CAST(range({_NEWTON_STEPS}) AS DOUBLE[]))"
    solved = f"list_reduce({steps}, lambda x, step: x - ({expected} - {coupons}) / ({slope}))"
    return f"CAST(round(exp({solved})) AS BIGINT)"


def bucket_sql(value: str) -> str:
    """Return the bucket of a number as an integer, ordered as the numbers are; null for null."""
    number = f"CAST({value} AS DOUBLE)"
    size = f"{_ONE} + CAST(ceil(ln(abs({number})) / {BUCKET_GROWTH}) AS INTEGER)"
    return (
        f"CASE WHEN isnan({number}) THEN {_NAN} WHEN {number} = 0 THEN 0 "
        f"WHEN isinf({number}) THEN CAST(sign({number}) AS INTEGER) * {_INFINITE} "
        f"ELSE CAST(sign({number}) AS INTEGER) * ({size}) END"
    )


def bucket_value_sql(bucket: str) -> str:
    """Return the number that stands for a bucket: zero, infinities and NaN exactly, else the middle by relative error."""
    middle = f"exp(least((abs({bucket}) - {_ONE} - 0.5) * {BUCKET_GROWTH}, {_LARGEST})) / {math.cosh(BUCKET_GROWTH / 2)!r}"
    return (
        f"CASE WHEN {bucket} = {_NAN} THEN CAST('NaN' AS DOUBLE) "
        f"WHEN abs({bucket}) = {_INFINITE} THEN sign({bucket}) * CAST('Infinity' AS DOUBLE) "
        f"WHEN {bucket} = 0 THEN 0.0 ELSE sign({bucket}) * {middle} END"
    )
