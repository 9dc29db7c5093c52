from fstore import CsvSource, Entity, FeatureService, FeatureView, ParquetSource, agg, check, expr, feature, transform

user = Entity("user", join_keys={"user_id": "string"})
purchases = ParquetSource("purchases", path="data/purchases/", event_time="purchased_at")
users = ParquetSource("users", path="data/users/", keys=["user_id"], updated_at="updated_at")


class Events(FeatureView):
    abstract = True
    entity = user
    source = purchases
    schedule = "@daily"
    start = "2026-01-01"


class Table(FeatureView):
    abstract = True
    entity = user
    inputs = {"u": users}  # noqa: RUF012
    schedule = "@daily"
    start = "2026-01-01"
    sql = "SELECT user_id, age FROM u"


__all__ = ["CsvSource", "Entity", "Events", "FeatureService", "FeatureView", "ParquetSource", "Table", "agg", "check",
           "expr", "feature", "purchases", "transform", "user", "users"]  # fmt: skip
