"""The DAGs of this project, retrying fast, and the same definitions again with an online store of their own,
whose URL is an Airflow connection."""

import os
from datetime import timedelta
from pathlib import Path

from fstore.airflow.dag_builder import build_dags

root = Path(__file__).parents[1]
fast = {"retry_delay": timedelta(seconds=1), "retry_exponential_backoff": False}
globals().update(build_dags(root, default_args=fast))

if "AIRFLOW_CONN_OUTLET_ONLINE" in os.environ:
    stores = {"registry": "airflow://outlet_registry", "online": "airflow://outlet_online"}
    globals().update(build_dags(root, project="outlet", **stores, default_args={**fast, "retries": 30}))
