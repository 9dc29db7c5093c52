"""Where ``UserPurchases.test(…)`` is plugged in: by the pytest plugin (``fstore.testing.plugin``), and by nothing else.

Definitions know nothing of engines; a module that is imported to be planned never gets here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

TestMethod: TypeAlias = Callable[..., object]
_plugged: list[Callable[[object], TestMethod]] = []


def plug_in(test_of: Callable[[object], TestMethod]) -> None:
    """Say what ``View.test`` is from now on, given the view."""
    _plugged[:] = [test_of]


def test_method(view: object, name: str) -> TestMethod:
    """Return what ``View.test`` is. Raises AttributeError where nobody said so."""
    if not _plugged:
        raise AttributeError(
            f"{name}.test is there while pytest runs, by the plugin that comes with fstore. Elsewhere write: "
            f"from fstore.testing import check_view; check_view({name}, rows=…, at=…, expect=…)."
        )
    return _plugged[0](view)
