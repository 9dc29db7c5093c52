"""Where features are kept: immutable Parquet offline, packed rows online."""
