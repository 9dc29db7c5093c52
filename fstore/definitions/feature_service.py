"""Feature services: the list of features that one model reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fstore.definitions.location import Named

if TYPE_CHECKING:
    from fstore.definitions.feature_view import FeatureReference, FeatureView


class FeatureService(Named, frozen=True, kw_only=True):
    """The features that one model reads, by reference: a view (all of its features), or single features of views."""

    features: Sequence[FeatureReference | type[FeatureView]]
    owner: str = ""
    description: str = ""
    tags: dict[str, str] = {}  # noqa: RUF012  (msgspec copies the default)
