"""Shows broken definitions among Airflow's import errors; the DAGs of the others are in feature_pipelines.py."""

from pathlib import Path

from fstore.airflow.dag_builder import report_problems

report_problems(Path(__file__).parents[1])
