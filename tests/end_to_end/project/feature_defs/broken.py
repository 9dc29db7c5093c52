"""A module with a mistake."""

from fstore import FeatureView, agg

from .sources import purchases, user


class Broken(FeatureView):
    """Averages a column that the source has not."""

    entity = user
    source = purchases
    schedule = "@dayly"
    start = "2026-01-01"

    purchase_count = agg.count().over("1d")
