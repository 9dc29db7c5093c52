"""Buying behaviour, daily."""

from fstore import FeatureView, agg, check, expr, feature

from .sources import purchases, user


class UserPurchases(FeatureView):
    """Recent purchases of a user."""

    entity = user
    source = purchases
    schedule = "@daily"
    start = "2026-01-01"
    end = "2026-02-01"
    ttl = "3d"
    owner = "growth@example.com"
    tags = {"domain": "shop"}

    purchase_count = agg.count().over("1d", "7d")
    amount_sum = agg.sum("amount").over("7d").fill(0.0)
    mean = expr("amount_sum_7d / nullif(purchase_count_7d, 0)")

    checks = [check.not_null("purchase_count_7d")]


class BigSpenders(FeatureView):
    """Users who spend much, from the view above: same pipeline, later in it."""

    entity = user
    inputs = {"p": UserPurchases}
    schedule = "@daily"
    start = "2026-01-03"
    end = "2026-02-01"
    sql = "SELECT user_id, amount_sum_7d > 50 AS big FROM p"

    big = feature("bool")
