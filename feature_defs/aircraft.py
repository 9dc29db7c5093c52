"""How an aircraft is used, and how worn it may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fstore import FeatureView, agg, check, feature, transform

from .entities import aircraft
from .sources import flights, planes

if TYPE_CHECKING:
    import pyarrow as pa

    from fstore.interval import Interval


class AircraftUsage(FeatureView):
    """Flights of an aircraft."""

    entity = aircraft
    source = flights
    schedule = "@daily"
    start = "2013-01-01"
    end = "2014-01-01"
    ttl = "3d"
    owner = "fleet-ml"
    tags = {"domain": "fleet"}

    flights = agg.count().over("1d", "7d", "30d")
    air_minutes = agg.sum("air_time").over("7d", "30d").fill(0.0)
    miles = agg.sum("distance").over("30d")
    arr_delay_avg = agg.avg("arr_delay").over("7d", "30d")
    last_dest = agg.last("dest").over("30d")

    checks = [check.not_null("flights_30d"), check.in_range("air_minutes_7d", 0, 10_080)]


def score_wear(interval: Interval, usage: pa.Table, planes: pa.Table) -> pa.Table:
    """Score wear as air minutes of 30 days, weighted by the age of the aircraft in the year of the interval."""
    import pyarrow as pa
    import pyarrow.compute as pc

    flown = usage.select(["tailnum", "air_minutes_30d"])
    joined = flown.join(planes.select(["tailnum", "built"]), "tailnum", join_type="left outer")
    age = pc.subtract(interval.end.year, joined["built"])
    weight = pc.add(1.0, pc.divide(pc.cast(pc.max_element_wise(age, 0, skip_nulls=False), "float64"), 20.0))
    score = pc.multiply(joined["air_minutes_30d"], pc.fill_null(weight, 1.0))
    return pa.table({"tailnum": joined["tailnum"], "age": pc.cast(age, "int64"), "wear": score})


class AircraftWear(FeatureView):
    """How worn an aircraft may be, computed in Python from its usage and its age."""

    entity = aircraft
    inputs = {"usage": AircraftUsage, "planes": planes}
    schedule = "@daily"
    end = "2014-01-01"
    ttl = "3d"
    owner = "fleet-ml"
    tags = {"domain": "fleet"}

    age = feature("int64", description="Years since the aircraft was built; null when unknown.")
    wear = feature("float64", description="Air minutes of 30 days, weighted by age.")
    compute = transform(score_wear)

    checks = [check.in_range("wear", 0, None), check.in_range("age", 0, 80, severity="warn")]
