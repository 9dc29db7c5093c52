"""Where the flight data is; `make data` writes it."""

from fstore import CsvSource, ParquetSource

flights = ParquetSource(
    "flights",
    path="data/flights.parquet",
    event_time="recorded_at",
    lag="1h",
    description="Flights out of New York in 2013, known once they have landed (or were to leave, if cancelled).",
)
weather = ParquetSource(
    "weather",
    path="data/weather.parquet",
    event_time="observed_at",
    lag="1h",
    description="Hourly weather at the three airports of New York.",
)
planes = ParquetSource(
    "planes", path="data/planes.parquet", keys=["tailnum"], static=True, description="Registered aircraft."
)
airports = ParquetSource(
    "airports",
    path="data/airports.parquet",
    keys={"airport": "faa"},
    static=True,
    description="Where the airports of the United States are.",
)
airlines = CsvSource(
    "airlines", path="data/airlines.csv", keys=["carrier"], static=True, description="Names of the airlines."
)
