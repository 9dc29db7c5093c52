"""Airflow assets: how other teams' DAGs learn that a view was published.

Every view is one asset, ``x-fstore://<project>/<view>``; a publication is an event of it per interval, with the interval as
partition key. The scheme is a private one on purpose: for ``s3:`` and the like Airflow imports provider packages in every
task process. The physical address is in the event's ``extra``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from airflow.sdk import Asset, Context

from fstore.airflow.intervals import partition_key
from fstore.interval import Interval, format_instant
from fstore.plan.steps import Step

MAX_PARTITIONS = 400
"""The most intervals announced one by one: a year of days. A longer range is announced by one event without a key."""


def view_asset(project: str, view: str) -> Asset:
    """Return the asset of a view."""
    return Asset(name=f"{project}.{view}", uri=f"x-fstore://{project}/{view}", group="fstore")


def announce(
    context: Context, asset: Asset, step: Step, intervals: Sequence[Interval], extra: Mapping[str, str | int]
) -> None:  # fmt: skip
    """Attach the events of a publication to the running task; Airflow emits them when the task succeeds.

    ``extra`` is added to every event, with the first start and the last end of the publication.
    """
    if not intervals:
        return
    event = context["outlet_events"][asset]
    span = {"start": format_instant(intervals[0].start), "end": format_instant(intervals[-1].end)}
    event.extra = {**extra, **span, "intervals": len(intervals)}
    if len(intervals) <= MAX_PARTITIONS:
        event.add_partitions([partition_key(step.schedule, interval) for interval in intervals])
