"""The DAGs of this project, retrying fast, and the same definitions again with an online store of their own."""

import os
from datetime import timedelta
from pathlib import Path

from fstore.airflow.dag_builder import build_dags

root = Path(__file__).parents[1]
fast = {"retry_delay": timedelta(seconds=1), "retry_exponential_backoff": False}
globals().update(build_dags(root, default_args=fast))

if "ONLINE_OF_SECOND_PROJECT" in os.environ:
    redis = os.environ["ONLINE_OF_SECOND_PROJECT"]
    globals().update(build_dags(root, project="outlet", online=redis, default_args={**fast, "retries": 30}))
