"""Names of features of views, as definitions hold them once their references are resolved to text.

A :class:`FeatureName` is what was written (perhaps a whole view, or all windows of an attribute); a
:class:`FeatureReference` of ``feature_view`` is the Python object before that. A plan resolves names to
:class:`ResolvedFeature`, which is one column.
"""

from __future__ import annotations

import re

import msgspec

ON_DEMAND = "on_demand"
"""What stands for the view in the full name of an on-demand feature: ``on_demand:distance_km``."""

_TEXT = re.compile(r"([^:@()]+):([^:@()]+)(?:@([^:@()]+)(?:\(([^()]*)\))?)?")


class FeatureName(msgspec.Struct, frozen=True, kw_only=True):
    """A reference to features: a whole view (no attribute), an attribute with all its windows, or one window of it.

    ``alias`` and ``join_keys`` are those of ``View.as_("dest", airport="dest")``: the view is joined under another name, its
    key ``airport`` to the reader's column ``dest`` (view's key to reader's column). ``view`` is empty for an on-demand
    feature, which ``attribute`` then names.
    """

    view: str
    attribute: str | None = None
    window: str | None = None
    alias: str | None = None
    join_keys: dict[str, str] = {}


class ResolvedFeature(msgspec.Struct, frozen=True, kw_only=True):
    """One feature column: of a view, perhaps joined under an alias, or on demand (``view`` is then :data:`ON_DEMAND`).

    As text it is ``view:feature``, or ``view:feature@alias(key=column, …)``.
    """

    view: str
    feature: str
    alias: str | None = None
    join_keys: dict[str, str] = {}

    def __str__(self) -> str:
        if self.alias is None:
            return self.full_name
        keys = ", ".join(f"{key}={column}" for key, column in sorted(self.join_keys.items()))
        return f"{self.full_name}@{self.alias}" + (f"({keys})" if keys else "")

    @property
    def full_name(self) -> str:
        """The feature's name in the project: ``view:feature``."""
        return f"{self.view}:{self.feature}"

    @property
    def join(self) -> tuple[str, str | None, tuple[tuple[str, str], ...]]:
        """What tells one join of a view from another: view, alias and keys."""
        return self.view, self.alias, tuple(sorted(self.join_keys.items()))

    def column(self, *, full_names: bool = False) -> str:
        """Return the output column: ``alias__feature`` under an alias, else the feature's short or full name."""
        prefix = self.alias or (self.view if full_names else None)
        return self.feature if prefix is None else f"{prefix}__{self.feature}"


def parse_feature(text: str) -> ResolvedFeature | None:
    """Return the feature that a text means, the inverse of ``str``; None when it is not of that form.

    The feature may be ``*``, which the caller has to expand.
    """
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        return None
    view, feature, alias, keys = match.groups()
    pairs = [pair.partition("=") for pair in (keys or "").split(",") if pair.strip()]
    if any(not (key.strip() and column.strip()) for key, _, column in pairs):
        return None
    join_keys = {key.strip(): column.strip() for key, _, column in pairs}
    return ResolvedFeature(view=view.strip(), feature=feature.strip(), alias=alias and alias.strip(), join_keys=join_keys)
