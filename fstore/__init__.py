"""fstore: feature definitions in, Airflow pipelines, training frames and online features out.

Names are imported on first use, so that ``from fstore import FeatureView`` in a definition module costs no more than the
definition language itself; ``__init__.pyi`` tells type checkers where they come from.
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

_HOME = {
    "agg": "fstore.definitions.aggregation",
    "AsyncClient": "fstore.retrieval.async_client",
    "check": "fstore.definitions.checks",
    "Client": "fstore.retrieval.client",
    "CsvSource": "fstore.definitions.source",
    "Entity": "fstore.definitions.entity",
    "expr": "fstore.definitions.expression",
    "feature": "fstore.definitions.expression",
    "FeatureService": "fstore.definitions.feature_service",
    "FeatureView": "fstore.definitions.feature_view",
    "FStoreError": "fstore.errors",
    "HttpClient": "fstore.serving.http_client",
    "AsyncHttpClient": "fstore.serving.http_client",
    "OnlineCache": "fstore.retrieval.online_cache",
    "on_demand": "fstore.definitions.on_demand",
    "ParquetSource": "fstore.definitions.source",
    "PostgresSource": "fstore.definitions.source",
    "SqlSource": "fstore.definitions.source",
    "UnionSource": "fstore.definitions.source",
    "transform": "fstore.definitions.expression",
}

__all__ = [
    "AsyncClient",
    "AsyncHttpClient",
    "Client",
    "CsvSource",
    "Entity",
    "FStoreError",
    "FeatureService",
    "FeatureView",
    "HttpClient",
    "OnlineCache",
    "ParquetSource",
    "PostgresSource",
    "SqlSource",
    "UnionSource",
    "agg",
    "check",
    "expr",
    "feature",
    "on_demand",
    "transform",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'fstore' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
