"""How a local Airflow connects to its SQLite database. Imports nothing: every Airflow process reads it."""

CONNECT_ARGS = {"timeout": 60.0}
"""Wait this many seconds for another writer.

With SQLite's default of 5 s a busy machine makes Airflow refuse a backfill that it has half created; it then deletes DAG
runs that the scheduler is about to update, and the scheduler stops (seen: StaleDataError on table dag_run).
"""
