"""Buying behaviour that is redefined while Airflow runs."""

from fstore import FeatureView, agg

from .sources import purchases, user


class UserGifts(FeatureView):
    """Purchases of the last two days."""

    entity = user
    source = purchases
    schedule = "@daily"
    start = "2026-01-01"
    end = "2026-01-16"

    amount = agg.sum("amount").over("2d")
