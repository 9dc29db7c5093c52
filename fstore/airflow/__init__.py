"""Airflow DAGs, operators, timetable and plugin over the plan; the only package that imports Airflow."""
