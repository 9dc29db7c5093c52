"""Weather and traffic at the airports of New York."""

from fstore import FeatureView, agg, check, expr, feature

from .entities import origin
from .sources import flights, weather


class OriginTraffic(FeatureView):
    """Traffic of an airport, hour by hour."""

    entity = origin
    source = flights
    schedule = "@hourly"
    start = "2013-01-01"
    end = "2014-01-01"
    ttl = "6h"
    owner = "operations-ml"
    tags = {"domain": "flights"}

    movements = agg.count().over("1h", "3h", "1d")
    dep_delay_avg = agg.avg("dep_delay").over("3h", "1d").fill(0.0)
    last_dest = agg.last("dest").over("1d")

    load = expr("movements_3h / (movements_1d / 8)", description="The last three hours against the day's mean.")

    checks = [check.in_range("movements_1d", 1, 2000), check.not_null("dep_delay_avg_3h")]


class OriginWeather(FeatureView):
    """The weather of the last day at an airport."""

    entity = origin
    inputs = {"w": weather.window("1d")}
    schedule = "@daily"
    start = "2013-01-01"
    end = "2014-01-01"
    ttl = "3d"
    owner = "operations-ml"
    tags = {"domain": "weather"}

    sql = """
        SELECT origin, avg(temp) AS temp_avg, min(visib) AS visib_min, max(wind_speed) AS wind_max,
               sum(precip) AS precip_sum, arg_max(pressure, observed_at) AS pressure_last
        FROM w
        GROUP BY origin
    """
    temp_avg = feature("float64", description="Mean temperature in °F.")
    visib_min = feature("float64", description="Worst visibility in miles.")
    wind_max = feature("float64", description="Strongest wind in mph.")
    precip_sum = feature("float64", description="Precipitation in inches.")
    pressure_last = feature("float64", description="Newest sea-level pressure in millibars.")

    checks = [
        check.in_range("visib_min", 0, 10, severity="quarantine"),
        check.in_range("wind_max", 0, 200, severity="quarantine"),
        check.in_range("temp_avg", -30, 120, severity="warn"),
    ]
