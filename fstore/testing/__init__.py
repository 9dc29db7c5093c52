"""Tests of features in plain pytest: ``UserPurchases.test(rows=[…], at="2026-03-01", expect={…})``.

``check_view`` computes a view over a few rows through the real compiler and the real engine, in milliseconds.
:class:`FeatureTests` gives every view of a project a test against leakage and one that online equals offline. The plugin for
pytest is found by itself and imports none of this before a test asks for it.
"""

from __future__ import annotations

from importlib import import_module

_HOME = {
    "check_view": "fstore.testing.check",
    "compute_view": "fstore.testing.check",
    "FeatureTests": "fstore.testing.generated",
}

__all__ = ["FeatureTests", "check_view", "compute_view"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'fstore.testing' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
