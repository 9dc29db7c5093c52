"""Run the flights project through a real Airflow, then read its features back.

Starts Airflow here with the embedded stores, lets the DAGs appear, backfills a week through Airflow's own backfill
API and the rest of the year by one range run per pipeline, waits with a progress display, and prints a training frame, an
online read and the lineage of one feature. Stops what it started.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from fstore import Client
from fstore.airflow.local import LocalAirflow
from fstore.airflow.rest import AirflowClient
from fstore.airflow.rest_values import DagRun
from fstore.cli.lineage import show_lineage
from fstore.cli.versions import apply_project
from scripts.servers import airflow_database

ROOT = Path(__file__).resolve().parent.parent
DAILY = (
    "flights.aircraft.daily",
    "flights.airports.daily",
    "flights.carriers.daily",
    "flights.origins.daily",
    "flights.routes.daily",
)
HOURLY = ("flights.origins.hourly",)
LATE_MINUTES = 15

console = Console(highlight=False)


def day(text: str) -> datetime:
    """Return midnight UTC of a day."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def main() -> int:
    """Run the demo; return 1 when a run failed."""
    began = time.monotonic()
    console.rule("1. Register the definitions")
    apply_project(hold=False, renewed=[], as_json=False)
    console.rule("2. Start Airflow")
    with airflow_database(ROOT / ".airflow") as database, LocalAirflow(ROOT, database_url=database) as airflow:
        client = airflow.client()
        console.print(f"Airflow is at {airflow.url}, login admin / admin")
        client.wait_for_dags([*DAILY, *HOURLY])
        console.print(f"DAGs: {', '.join([*DAILY, *HOURLY])}")
        console.rule("3. Backfill a week, and the rest of the year as ranges")
        failed = run_year(client)
    for run in failed:
        console.print(f"[red]failed[/] {run.dag_id} {run.dag_run_id}: see the logs in .airflow/logs, or `make up`")
    if failed:
        return 1
    console.rule("4. A training frame, point in time")
    with Client.from_env(ROOT) as features:
        print_training_frame(features)
        console.rule("5. An online read")
        print_online_read(features)
    console.rule("6. The lineage of one feature")
    show_lineage("route_risk:risk", as_json=False)
    console.rule("7. Next")
    console.print("`make up` opens the same Airflow with its UI; `fstore status` shows what is published.")
    console.print(f"[dim]done in {time.monotonic() - began:.0f} s[/]")
    return 0


def run_year(client: AirflowClient) -> list[DagRun]:
    """Start everything, wait for it with a progress display, and return the runs that did not succeed."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    runs: list[DagRun] = []
    with Progress(*columns, console=console) as display:
        for dag in [*DAILY, *HOURLY]:
            client.set_paused(dag, paused=True)  # so that nothing runs before all of these are there
        backfills = {
            client.backfill(dag, day("2013-01-01"), day("2013-01-07"), max_active_runs=7): f"backfill {dag}, January 1-7"
            for dag in DAILY
        }
        for dag in HOURLY:
            first_hours = client.backfill(dag, day("2013-01-01"), datetime(2013, 1, 1, 23, tzinfo=UTC), max_active_runs=16)
            backfills[first_hours] = f"backfill {dag}, January 1"
        ranges = {dag: client.trigger(dag, {"start": "2013-01-08", "end": "2013-12-31"}) for dag in DAILY}
        for dag in HOURLY:
            ranges[dag] = client.trigger(dag, {"start": "2013-01-02T00:00:00Z", "end": "2013-12-31T23:00:00Z"})
        for dag in [*DAILY, *HOURLY]:
            client.set_paused(dag, paused=False)
        bars = {backfill: display.add_task(text, total=None) for backfill, text in backfills.items()}
        range_bars = {dag: display.add_task(f"range    {dag}, the rest of 2013", total=1) for dag in ranges}
        for backfill, bar in bars.items():
            runs += client.wait_backfill(backfill, progress=partial(advance, display, bar))
        for dag, run_id in ranges.items():
            runs.append(client.wait_run(dag, run_id, timeout=1800))
            display.update(range_bars[dag], completed=1)
    return [run for run in runs if run.state != "success"]


def advance(display: Progress, bar: TaskID, done: int, total: int) -> None:
    """Move one bar."""
    display.update(bar, completed=done, total=total or None)


def print_training_frame(features: Client) -> None:
    """Print what the model would have known of some flights when they were due to leave, and whether they came late."""
    flights = pd.read_parquet(ROOT / "data" / "flights.parquet")
    known = flights[flights["arr_delay"].notna() & (flights["scheduled_at"] >= pd.Timestamp("2013-02-01", tz="UTC"))]
    sample = known.sample(5000, random_state=7).sort_values("scheduled_at")
    labels = sample[["carrier", "tailnum", "origin", "dest"]].assign(
        event_timestamp=sample["scheduled_at"], late=sample["arr_delay"] > LATE_MINUTES
    )
    frame = features.get_historical_features(labels, service="arrival_delay")
    table = frame.to_pandas()
    console.print(f"{len(table):,} flights × {len(table.columns)} columns; {table['late'].mean():.0%} arrived late")
    with pd.option_context("display.float_format", "{:.2f}".format):
        console.print(table.head(4).reset_index(drop=True).T.to_string(header=False), soft_wrap=True)
    print_late_share(table)


def print_late_share(table: pd.DataFrame) -> None:
    """Print the share of late flights by the predicted risk of their route: what the features are worth."""
    known = table.dropna(subset="risk")
    fifths = pd.qcut(known["risk"], 5, labels=["lowest", "low", "middle", "high", "highest"])
    for fifth, share in known.groupby(fifths, observed=True)["late"].mean().items():
        console.print(f"  {fifth!s:>8} fifth of risk  {'█' * round(share * 100)} {share:.0%} late")


def print_online_read(features: Client) -> None:
    """Print the features that a model would be served now."""
    response = features.get_online_features(
        service="arrival_delay",
        entities={
            "carrier": ["UA", "B6"],
            "tailnum": ["N14228", "N24211"],
            "origin": ["EWR", "JFK"],
            "dest": ["IAH", "SFO"],
        },
    )
    print_columns(response.to_dict())
    console.print("The same for two passengers on their way, with what is computed from where they are:")
    passengers = features.get_online_features(
        service="passenger",
        entities={"origin": ["EWR", "JFK"], "dest": ["IAH", "SFO"]},
        request={"lat": [40.73, 40.65], "lon": [-74.03, -73.95]},
    )
    print_columns(passengers.to_dict())


def print_columns(columns: Mapping[str, Sequence[object]]) -> None:
    """Print one column a line."""
    for name, values in columns.items():
        console.print(f"  {name:24} {values}", markup=False)


if __name__ == "__main__":
    sys.exit(main())
