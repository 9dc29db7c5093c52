"""Feast's online reads, in Feast's own environment: fills a store, then makes one call per line that it is sent.

    python feast_online.py <directory> <parquet of each width…>

The first line is the store's configuration as JSON. Each later line has a width and a list of user ids; the answer is the
seconds that the call took, to numpy arrays and masks of nulls, or with ``"values": true`` the values themselves. Imports
nothing of fstore.
"""

import json
import sys
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Bool, Float64, Int64, String

KINDS = {"Float64": Float64, "Int64": Int64, "boolean": Bool, "string": String}


def main() -> None:
    answers = sys.stdout
    sys.stdout = sys.stderr  # Feast prints
    directory, files = sys.argv[1], sys.argv[2:]
    store = FeatureStore(
        config=RepoConfig(
            project="bench", provider="local", registry=f"{directory}/feast.db", offline_store={"type": "file"},
            online_store=json.loads(sys.stdin.readline()), entity_key_serialization_version=3,
        )
    )  # fmt: skip
    user = Entity(name="user_id", join_keys=["user_id"], value_type=ValueType.STRING)
    wanted = {}
    for file in files:
        frame = pd.read_parquet(file, dtype_backend="numpy_nullable")
        names = [name for name in frame.columns if name not in ("user_id", "event_timestamp")]
        width = len(names)
        fields = [Field(name=name, dtype=KINDS[str(frame[name].dtype)]) for name in names]
        view = FeatureView(
            name=f"user_{width}", entities=[user], ttl=timedelta(days=3), schema=fields,
            source=FileSource(name=f"source_{width}", path=file, timestamp_field="event_timestamp"),
        )  # fmt: skip
        store.apply([user, view])
        frame["event_timestamp"] = datetime.now(UTC)
        for start in range(0, len(frame), 1000):
            store.write_to_online_store(f"user_{width}", frame.iloc[start : start + 1000])
        wanted[width] = [f"user_{width}:{name}" for name in names]
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        call = json.loads(line)
        rows = [{"user_id": name} for name in call["users"]]
        began = time.perf_counter()
        found = store.get_online_features(features=wanted[call["width"]], entity_rows=rows).to_dict()
        nulls = {name: np.array([value is None for value in values]) for name, values in found.items()}
        arrays = {name: np.array(values) for name, values in found.items()}
        seconds = time.perf_counter() - began
        assert len(arrays) == len(nulls)
        print(json.dumps(found if call.get("values") else seconds), file=answers, flush=True)


if __name__ == "__main__":
    main()
