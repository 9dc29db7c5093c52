"""The Airflow plugin: registers the timetable, which Airflow refuses to (de)serialize otherwise.

Every Airflow process imports plugins, so this imports nothing else. It adds no route to the API server.
"""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from fstore.airflow.timetable import FeatureTimetable


class FStorePlugin(AirflowPlugin):
    """Found by Airflow through plugins/fstore_plugin.py."""

    name = "fstore"
    timetables = [FeatureTimetable]  # noqa: RUF012  (Airflow reads this class attribute)
