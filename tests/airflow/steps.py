"""Steps written by hand, so that the Airflow tests need no compiler."""

from datetime import UTC, datetime, timedelta

from fstore.definitions.source import ParquetSource
from fstore.interval import Interval, Schedule
from fstore.plan.steps import AggregateStep, EventInput, Feature, SnapshotInput, SqlStep
from fstore.types import Column

DAILY = Schedule("0 0 * * *")
KEY = Column(name="carrier", type="string")


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def day(*parts: int) -> Interval:
    start = at(*parts)
    return Interval(start, start + timedelta(days=1))


def aggregate(view="delays", *, pipeline="carriers", schedule=DAILY, **changes):
    values = {
        "project": "flights",
        "view": view,
        "entity": "carrier",
        "keys": (KEY,),
        "features": (Feature(name="flights_7d", type="int64", fingerprint="f1", empty=0, description="Flights | a week."),),
        "kind": "snapshot",
        "schedule": schedule,
        "start": at(2013, 1, 1),
        "end": at(2014, 1, 1),
        "lag": timedelta(0),
        "ttl": timedelta(days=3),
        "online": True,
        "pipeline": pipeline,
        "inputs": (
            EventInput(alias="events", source=ParquetSource(name="flights", path="data/"), window=timedelta(days=7)),
        ),
        "audits": (),
        "lineage": (),
        "fingerprint": "0123456789abcdef",
        "module": "feature_defs/carriers.py",
        "line": 10,
        "description": "Delays of an airline.",
        "owner": "ops-ml",
        "tags": {"domain": "ops"},
        "sql": "SELECT 1",
    }
    return AggregateStep(**{**values, **changes})


def reading(upstream, view="risk", *, pipeline=None, schedule=None, **changes):
    """A SQL view over another one."""
    item = SnapshotInput(
        alias="u",
        view=upstream.view,
        keys=upstream.keys,
        features=upstream.features,
        schedule=upstream.schedule,
        start=upstream.start,
        end=upstream.end,
        pipeline=upstream.pipeline,
    )
    made = aggregate(view, pipeline=pipeline or upstream.pipeline, schedule=schedule or upstream.schedule, **changes)
    values = {name: getattr(made, name) for name in SqlStep.__struct_fields__ if hasattr(made, name)}
    return SqlStep(**{**values, "inputs": (item,), "sql": "SELECT carrier, 1 AS flights_7d FROM u"})
