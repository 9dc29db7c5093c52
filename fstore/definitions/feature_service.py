"""Feature services: the list of features that one model reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fstore.definitions.location import Named

if TYPE_CHECKING:
    from fstore.definitions.feature_view import AliasedView, FeatureReference, FeatureView
    from fstore.definitions.on_demand import OnDemand


class FeatureService(Named, frozen=True, kw_only=True):
    """The features that one model reads, by reference: views (all of their features), single features, on-demand ones."""

    features: Sequence[FeatureReference | AliasedView | type[FeatureView] | OnDemand]
    owner: str = ""
    description: str = ""
    tags: dict[str, str] = {}  # noqa: RUF012  (msgspec copies the default)
