"""What a list of features needs from its reader: join keys and request values, with the types that the registry declares.

Asked of the registry once per list, and again when definitions have changed, which is looked for every few seconds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from fstore.backends import Backends
from fstore.errors import RegistryUnavailable
from fstore.retrieval.features import select_features

_CHECK_SECONDS = 5.0
_MOST = 1000
"""How many lists are remembered; beyond that all are forgotten."""

Asked = tuple[str, ...] | str


class DeclaredInputs:
    """The declared types of join keys and request values, by column. Blocks for a round trip to the registry at most."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._known: dict[Asked, dict[str, str]] = {}
        self._version, self._checked_at = -1, float("-inf")

    def remembered(self, features: Sequence[str] | None, service: str | None) -> dict[str, str] | None:
        """Return the types if they are known and were checked lately, without asking the registry."""
        if time.monotonic() - self._checked_at > _CHECK_SECONDS:
            return None
        return self._known.get(_key(features, service))

    def read(self, features: Sequence[str] | None, service: str | None) -> dict[str, str]:
        """Return the types. Raises what selecting the features raises; types once known outlive an absent registry."""
        key = _key(features, service)
        try:
            return self._read(key, features, service)
        except RegistryUnavailable:
            if key in self._known:
                return self._known[key]
            raise

    def _read(self, key: Asked, features: Sequence[str] | None, service: str | None) -> dict[str, str]:
        registry = self._backends.registry
        version = registry.version()
        if version != self._version or len(self._known) > _MOST:
            self._known = {}
        self._version, self._checked_at = version, time.monotonic()
        if key not in self._known:
            selection = select_features(registry, features=features, service=service, full_names=True)
            types = {column.name: column.type for item in selection.on_demand for column in item.definition.request}
            types |= {column.name: column.type for view in selection.views for column in view.keys}
            self._known[key] = types
        return self._known[key]


def _key(features: Sequence[str] | None, service: str | None) -> Asked:
    return tuple(features) if features is not None else service or ""
