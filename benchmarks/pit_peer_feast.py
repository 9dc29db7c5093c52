"""A point-in-time join by Feast, run by ``pit_peers`` with an interpreter that has Feast and not fstore.

    python pit_peer_feast.py <duckdb|dask> <folder> <spine.parquet> <result.parquet> <views>

The folder has a directory of Parquet files per view (v1, v2, …). Prints the seconds of the join and the peak of memory.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Bool, Float64, Int64, String

TYPES = {"double": Float64, "int64": Int64, "bool": Bool, "string": String}


def main(store_type: str, folder: str, spine: str, result: str, views: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        store = FeatureStore(
            config=RepoConfig(
                project="bench", provider="local", registry=f"{directory}/registry.db", offline_store={"type": store_type},
                online_store={"type": "sqlite", "path": f"{directory}/online.db"}, entity_key_serialization_version=3,
            )
        )  # fmt: skip
        user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
        declared, wanted = [], []
        for number in range(1, views + 1):
            files = Path(folder) / f"v{number}"
            schema = pq.read_schema(next(files.glob("*.parquet")))
            names = [name for name in schema.names if name not in ("user_id", "event_timestamp")]
            path = str(files) if store_type == "dask" else f"{files}/*.parquet"
            declared.append(
                FeatureView(
                    name=f"v{number}", entities=[user], ttl=timedelta(days=100_000), online=False,
                    schema=[Field(name=name, dtype=TYPES[str(schema.field(name).type)]) for name in names],
                    source=FileSource(path=path, timestamp_field="event_timestamp"),
                )
            )  # fmt: skip
            wanted += [f"v{number}:{name}" for name in names]
        store.apply([user, *declared])
        rows = pd.read_parquet(spine)
        began = time.perf_counter()
        table = store.get_historical_features(rows, wanted).to_arrow()
        seconds = time.perf_counter() - began
        peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        pq.write_table(table, result)
        print(json.dumps({"seconds": seconds, "peak_bytes": int(peak.split()[1]) * 1024}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
