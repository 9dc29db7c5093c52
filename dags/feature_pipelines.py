"""The DAGs of this project: Airflow finds them here, one per pipeline of feature_defs/."""

from pathlib import Path

from fstore.airflow.dag_builder import build_dags

globals().update(build_dags(Path(__file__).parents[1]))
