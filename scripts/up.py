"""Run Airflow with the flights project until Ctrl-C."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from rich.console import Console

from fstore.airflow.local import LocalAirflow
from fstore.cli.versions import apply_project
from scripts.servers import airflow_database

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Start Airflow, say where it is, and stop it on Ctrl-C."""
    console = Console(highlight=False)
    apply_project(hold=False, renewed=[], as_json=False)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with airflow_database(ROOT / ".airflow") as database, LocalAirflow(ROOT, port=8080, database_url=database) as airflow:
        console.print(f"Airflow: [bold]{airflow.url}[/], login admin / admin. Ctrl-C stops it.")
        console.print("Open a DAG and press Trigger → Backfill to compute a range of days.")
        stop.wait()
        console.print("stopping …")
    return 0


if __name__ == "__main__":
    sys.exit(main())
