"""Buying behaviour, hourly, and a view over another pipeline."""

from fstore import FeatureView, agg, feature

from .purchases import UserPurchases
from .sources import purchases, user


class UserActivity(FeatureView):
    """Purchases of the last day, every hour."""

    entity = user
    source = purchases
    schedule = "@hourly"
    start = "2026-01-01"
    end = "2026-01-03"

    purchase_count = agg.count().over("24h")


class UserProfile(FeatureView):
    """What is known of a user, from another pipeline."""

    entity = user
    inputs = {"p": UserPurchases}
    schedule = "@daily"
    start = "2026-01-01"
    end = "2026-02-01"
    sql = "SELECT user_id, purchase_count_7d > 1 AS regular FROM p"

    regular = feature("bool")
