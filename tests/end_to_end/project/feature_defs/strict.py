"""A view whose data never passes its check."""

from fstore import FeatureView, agg, check

from .sources import purchases, user


class StrictPurchases(FeatureView):
    """Nobody buys a thousand times a day."""

    entity = user
    source = purchases
    schedule = "@daily"
    start = "2026-01-01"
    end = "2026-02-01"

    purchase_count = agg.count().over("1d")

    checks = [check.in_range("purchase_count_1d", 1000, None)]
