"""Airports: how busy they are as either end of a flight, and how far away they are from a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fstore import (
    FeatureService,
    FeatureView,
    ParquetSource,
    UnionSource,
    agg,
    check,
    expr,
    feature,
    on_demand,
    transform,
)

from .entities import airport, route
from .origins import OriginTraffic
from .routes import RouteDelays
from .sources import airports

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

departures = ParquetSource(
    "departures",
    path="data/flights.parquet",
    event_time="recorded_at",
    keys={"airport": "origin"},
    lag="1h",
    description="Flights, by the airport that they left.",
)
arrivals = ParquetSource(
    "arrivals",
    path="data/flights.parquet",
    event_time="recorded_at",
    keys={"airport": "dest"},
    lag="1h",
    description="Flights, by the airport that they went to.",
)
movements = UnionSource(
    [departures, arrivals],
    name="movements",
    columns=["airport", "carrier", "tailnum", "flight", "distance", "arr_delay", "cancelled"],
    description="Every flight twice: where it left and where it went.",
)


class AirportMovements(FeatureView):
    """Flights that an airport is one end of."""

    entity = airport
    source = movements
    schedule = "@daily"
    start = "2013-01-01"
    end = "2014-01-01"
    ttl = "3d"
    owner = "operations-ml"
    tags = {"domain": "airports"}

    movements = agg.count().over("1d", "30d", "lifetime")
    movements_before = agg.count(name="movements").over("30d", offset="30d")
    cancelled = agg.count(where="cancelled").over("30d")
    by_carrier = agg.count(by="carrier").over("30d")
    delay_by_carrier = agg.avg("arr_delay", by="carrier", max_categories=5).over("30d")
    carriers = agg.count_distinct("carrier").over("30d")
    carrier_list = agg.distinct("carrier", max_values=20).over("30d")
    main_carriers = agg.top_k("carrier", 3).over("30d")
    aircraft = agg.approx_count_distinct("tailnum").over("30d", "90d")
    delay_median = agg.approx_percentile("arr_delay", 0.5).over("30d")
    delay_p95 = agg.approx_percentile("arr_delay", 0.95).over("30d")
    delays = agg.histogram("arr_delay", edges=[0, 15, 60]).over("30d")
    delay_deviation = agg.stddev("arr_delay").over("30d")
    delay_variance = agg.variance("arr_delay").over("30d")
    delay_skew = agg.skew("arr_delay").over("30d")
    recent_delay = agg.decayed_sum("greatest(arr_delay, 0)", half_life="12h").over("7d").fill(0.0)
    first_carrier = agg.first("carrier", order_by="flight").over("1d")
    last_carriers = agg.last_k("carrier", 3, order_by="flight").over("1d")
    first_carriers = agg.first_k("carrier", 3, order_by="flight").over("1d")
    growth = expr("movements_30d / movements_30d_offset_30d", description="This month against the one before.")

    checks = [check.not_null("movements_30d"), check.in_range("delay_deviation_30d", 0, 2000, severity="warn")]


class AirportPlace(FeatureView):
    """Where an airport is."""

    entity = airport
    inputs = {"a": airports}
    schedule = "@daily"
    start = "2013-01-01"
    end = "2014-01-01"
    ttl = "3d"
    owner = "operations-ml"
    tags = {"domain": "airports"}

    sql = "SELECT airport, name, lat, lon FROM a"
    airport_name = feature("string", name="name")
    lat = feature(description="Degrees north; the type is that of the source.")
    lon = feature(description="Degrees east.")

    checks = [check.in_range("lat", -90, 90), check.in_range("lon", -180, 180)]


def rank_by_growth(movements: pd.DataFrame) -> pd.DataFrame:
    """Rank the airports by how much more there is to do than a month ago."""
    ranked = movements[["airport", "growth"]].dropna()
    ranked["growth_rank"] = ranked.pop("growth").rank(ascending=False, method="min").astype("int64")
    return ranked


class AirportRank(FeatureView):
    """An airport among the others, in pandas."""

    entity = airport
    inputs = {"movements": AirportMovements}
    schedule = "@daily"
    end = "2014-01-01"
    ttl = "3d"
    owner = "operations-ml"
    tags = {"domain": "airports"}

    growth_rank = feature("int64", description="1 is the airport that grows most.")
    compute = transform(rank_by_growth)


def compare_with_month(movements: pl.DataFrame) -> pl.DataFrame:
    """Compare an airport's day with its month."""
    import polars as pl

    pace = pl.col("movements_1d") * 30 / pl.col("movements_30d")
    return movements.select("airport", pace=pace.fill_nan(None))


class AirportPace(FeatureView):
    """How busy the day was for this airport, in Polars, in batches of airports where they are many."""

    entity = airport
    inputs = {"movements": AirportMovements}
    schedule = "@daily"
    end = "2014-01-01"
    ttl = "3d"
    owner = "operations-ml"
    tags = {"domain": "airports"}

    pace = feature("float64", description="Flights of the day, as a multiple of the mean of 30 days.")
    compute = transform(compare_with_month, by_key=True)

    checks = [check.in_range("pace", 0, None)]


class RouteContext(FeatureView):
    """A route next to everything that leaves from where it begins, and goes to where it ends."""

    entity = route
    schedule = "@daily"
    end = "2014-01-01"
    ttl = "3d"
    owner = "operations-ml"
    tags = {"domain": "flights"}

    share_of_origin = expr(
        "flights / movements",
        flights=RouteDelays.flights["1d"],
        movements=OriginTraffic.movements["1d"],
        description="The route's share of the flights that left its origin.",
    )
    share_of_dest = expr(
        "flights / movements",
        flights=RouteDelays.flights["30d"],
        movements=AirportMovements.as_("dest", airport="dest").movements["30d"],
        description="The route's share of the flights of its destination.",
    )


POSITION = {"lat": "float64", "lon": "float64"}

distance_km = on_demand(
    "distance_km",
    """
    2 * 6371.0088 * asin(sqrt(
        pow(sin(radians(lat - airport_lat) / 2), 2)
        + cos(radians(lat)) * cos(radians(airport_lat)) * pow(sin(radians(lon - airport_lon) / 2), 2)
    ))
    """,
    request=POSITION,
    airport_lat=AirportPlace.as_("origin", airport="origin").lat,
    airport_lon=AirportPlace.as_("origin", airport="origin").lon,
    description="Great-circle distance from the passenger to the airport (haversine).",
)


def minutes_to_leave(
    lat: pa.Array, lon: pa.Array, airport_lat: pa.Array, airport_lon: pa.Array, crowd: pa.Array
) -> pa.Array:
    """Return half an hour for a usual day's queues, and two minutes for each kilometre north or east."""
    import pyarrow.compute as pc

    north = pc.multiply(pc.abs(pc.subtract(lat, airport_lat)), 111.2)
    east = pc.multiply(pc.abs(pc.subtract(lon, airport_lon)), 84.3)
    return pc.add(pc.multiply(crowd, 30.0), pc.multiply(pc.add(north, east), 2.0))


minutes = on_demand(
    "minutes_to_leave",
    minutes_to_leave,
    request=POSITION,
    type="float64",
    airport_lat=AirportPlace.as_("origin", airport="origin").lat,
    airport_lon=AirportPlace.as_("origin", airport="origin").lon,
    crowd=AirportPace.as_("origin", airport="origin").pace,
    description="How long the way takes, in minutes: by the grid of streets, and longer where the airport is crowded.",
)

passenger = FeatureService(
    "passenger",
    features=[
        AirportMovements.as_("origin", airport="origin").movements["30d"],
        AirportMovements.as_("dest", airport="dest").movements["30d"],
        AirportMovements.as_("dest", airport="dest").delay_p95,
        AirportRank.as_("dest", airport="dest").growth_rank,
        AirportPace.as_("dest", airport="dest").pace,
        RouteContext.share_of_dest,
        distance_km,
        minutes,
    ],
    owner="operations-ml",
    description="When should a passenger leave home? The position comes with the request.",
)
