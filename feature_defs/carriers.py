"""How punctual an airline is."""

from fstore import FeatureView, agg, check, expr, feature

from .entities import carrier
from .sources import airlines, flights


class CarrierDelays(FeatureView):
    """Delays and cancellations of an airline."""

    entity = carrier
    source = flights
    schedule = "@daily"
    start = "2013-01-01"
    end = "2014-01-01"
    ttl = "3d"
    owner = "operations-ml"
    tags = {"domain": "flights"}

    flights = agg.count().over("1d", "7d", "30d")
    departed = agg.count("dep_delay").over("1d", "7d", "30d")
    arr_delay_avg = agg.avg("arr_delay").over("1d", "7d", "30d")
    arr_delay_max = agg.max("arr_delay").over("7d")
    cancelled_share = expr("1 - departed_7d / flights_7d", description="Share of the week's flights that never left.")
    delay_trend = expr(
        "arr_delay_avg_7d - arr_delay_avg_30d", description="Minutes by which the week is worse than the month."
    )

    checks = [
        check.not_null("flights_30d"),
        check.in_range("cancelled_share", 0, 1),
        check.in_range("arr_delay_avg_1d", -120, 1440, severity="quarantine"),
        check.row_count(1, 100, severity="warn"),
    ]


class CarrierStanding(FeatureView):
    """An airline next to the others."""

    entity = carrier
    inputs = {"d": CarrierDelays, "a": airlines}
    schedule = "@daily"
    end = "2014-01-01"
    ttl = "3d"
    owner = "operations-ml"
    tags = {"domain": "flights"}

    sql = """
        SELECT d.carrier, a.name, rank() OVER (ORDER BY d.arr_delay_avg_30d NULLS LAST, d.carrier) AS punctuality_rank,
               d.flights_30d / sum(d.flights_30d) OVER () AS market_share
        FROM d LEFT JOIN a USING (carrier)
    """
    name_of_carrier = feature("string", name="name", description="The airline's name.")
    punctuality_rank = feature("int64", description="1 is the airline with the least delay over 30 days.")
    market_share = feature("float64", description="Share of the flights of 30 days.")

    checks = [check.unique("punctuality_rank"), check.in_range("market_share", 0, 1)]
