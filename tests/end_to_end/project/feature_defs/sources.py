"""Who buys, and what was bought."""

from fstore import Entity, ParquetSource

user = Entity("user", join_keys={"user_id": "string"}, description="A shopper.")
purchases = ParquetSource("purchases", path="data/purchases.parquet", event_time="purchased_at")
