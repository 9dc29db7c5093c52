"""Delays of a route, alone and in its context."""

from fstore import FeatureService, FeatureView, agg, check, expr, feature

from .aircraft import AircraftWear
from .carriers import CarrierDelays
from .entities import route
from .origins import OriginTraffic, OriginWeather
from .sources import flights


class RouteDelays(FeatureView):
    """Delays of the flights between two airports."""

    entity = route
    source = flights
    schedule = "@daily"
    start = "2013-01-01"
    end = "2014-01-01"
    ttl = "3d"
    owner = "operations-ml"
    tags = {"domain": "flights"}

    flights = agg.count().over("1d", "7d", "30d")
    arr_delay_avg = agg.avg("arr_delay").over("1d", "7d", "30d")
    arr_delay_min = agg.min("arr_delay").over("7d")
    arr_delay_max = agg.max("arr_delay").over("7d")
    distance = agg.last("distance").over("30d")
    trend = expr("arr_delay_avg_7d / arr_delay_avg_30d", description="The week against the month.")

    checks = [check.not_null("flights_30d"), check.row_count(1, None)]


class RouteRisk(FeatureView):
    """How risky a route is tomorrow: its own delays, and the weather and traffic where it begins."""

    entity = route
    inputs = {"r": RouteDelays, "w": OriginWeather, "t": OriginTraffic}
    schedule = "@daily"
    end = "2014-01-01"
    ttl = "3d"
    owner = "operations-ml"
    tags = {"domain": "flights"}

    sql = """
        SELECT r.origin, r.dest,
               coalesce(r.arr_delay_avg_7d, 0) + 5 * coalesce(w.precip_sum, 0)
                   + greatest(coalesce(w.wind_max, 0) - 25, 0) AS risk,
               t.movements_1d AS origin_movements,
               coalesce(w.visib_min < 3, false) AS low_visibility
        FROM r LEFT JOIN w USING (origin) LEFT JOIN t USING (origin)
    """
    risk = feature("float64", description="Expected minutes of delay.")
    origin_movements = feature("int64", description="Flights of the last day at the origin.")
    low_visibility = feature("bool", description="Whether visibility fell below three miles.")

    checks = [check.not_null("risk"), check.in_range("risk", -120, 2000, severity="quarantine")]


arrival_delay = FeatureService(
    "arrival_delay",
    features=[
        CarrierDelays.arr_delay_avg["7d"],
        CarrierDelays.cancelled_share,
        AircraftWear.wear,
        OriginTraffic.movements["3h"],
        OriginWeather.wind_max,
        RouteDelays.trend,
        RouteRisk.risk,
        RouteRisk.low_visibility,
    ],
    owner="operations-ml",
    description="Will a flight arrive more than 15 minutes late?",
)
