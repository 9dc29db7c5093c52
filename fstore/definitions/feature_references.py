"""Turn references to features, as Python objects, into names.

Takes what a service lists or an expression binds, which can be any value, and gives a :class:`FeatureName`, or reports what
is wrong with it. Whether the view can be planned, and what columns it has, is for the compiler.
"""

from __future__ import annotations

from fstore.definitions.aggregation import Aggregation
from fstore.definitions.entity import Entity
from fstore.definitions.expression import Field
from fstore.definitions.feature_view import AliasedView, FeatureReference, FeatureView, ViewHistory
from fstore.definitions.on_demand import OnDemand
from fstore.definitions.problems import Reporter
from fstore.definitions.references import FeatureName
from fstore.definitions.validation import kind_of, read_column, report_unknown
from fstore.errors import did_you_mean, listing


def referred_view(item: object) -> type[FeatureView] | None:
    """Return the view that a reference is about, if it is about one."""
    if isinstance(item, FeatureReference | AliasedView | ViewHistory):
        return item.view
    return item if isinstance(item, type) and issubclass(item, FeatureView) else None


def read_listed(report: Reporter, item: object) -> FeatureName | None:
    """Return the name of what a service lists: a view, a view under an alias, a feature, or an on-demand feature."""
    match item:
        case OnDemand():
            return FeatureName(view="", attribute=item.name)
        case AliasedView():
            if not _is_sound(report, "lists", item, item.view) or not read_alias(report, "lists", item):
                return None
            return FeatureName(view=item.view.__body__.name, alias=item.alias, join_keys=item.join_keys)
        case type() if issubclass(item, FeatureView):
            return FeatureName(view=item.__body__.name) if _is_sound(report, "lists", item, item) else None
    return read_reference(report, "lists", item)


def read_reference(report: Reporter, verb: str, item: object) -> FeatureName | None:
    """Return the name of a feature; ``verb`` begins the complaint, as in ``lists`` or ``binds 'a' to``."""
    match item:
        case FeatureReference():
            return _feature_name(report, verb, item)
        case ViewHistory():
            report.add(f"{verb} {item.view.__name__}.history, which is for inputs of views.",
                       "List the view itself." if verb == "lists" else "Name one of the view's features.")  # fmt: skip
        case str():
            report.add(
                f"{verb} the text {item!r}; features are objects, never strings.",
                'Import the view and write, say, Orders.amount["7d"].',
            )
        case AliasedView() | type() if referred_view(item) is not None:
            report.add(f"{verb} {_spelled(item)}, which is a whole view.", "Name one of its features.")
        case _:
            what = "neither a view nor a feature of one" if verb == "lists" else "no feature of a view"
            report.add(f"{verb} {kind_of(item)}, which is {what}.")
    return None


def read_alias(report: Reporter, verb: str, item: AliasedView) -> bool:
    """Check the alias of a view and the keys that it joins by other columns."""
    before = len(report.problems)
    read_column(report, f"alias in {item!r}", item.alias)
    entity = item.view.__body__.attributes.get("entity")
    keys = list(entity.join_keys) if isinstance(entity, Entity) and isinstance(entity.join_keys, dict) else None
    for key, column in item.join_keys.items():
        read_column(report, f"column for key {key!r} in {item!r}", column)
        if keys is not None and key not in keys:
            report.add(f"{verb} {item!r}, and view {item.view.__body__.name!r} has no join key {key!r}, only "
                       f"{listing(keys)}.", did_you_mean(key, keys))  # fmt: skip
    return len(report.problems) == before


def _is_sound(report: Reporter, verb: str, item: object, view: type[FeatureView]) -> bool:
    if view.__body__.abstract:
        report.add(f"{verb} {_spelled(item)}, which is a template (abstract = True).", "List a view that inherits from it.")
    return not view.__body__.abstract


def _spelled(item: object) -> str:
    return item.__name__ if isinstance(item, type) else repr(item)


def _feature_name(report: Reporter, verb: str, item: FeatureReference) -> FeatureName | None:
    """Check the window of a reference against those that its feature has."""
    body = item.view.__body__
    if body.abstract:
        report.add(f"{verb} {item!r}, a feature of a template (abstract = True).", "Name a view that inherits from it.")
        return None
    member = body.attributes[item.attribute]
    windows = member.windows if isinstance(member, Aggregation) else ()
    if item.window is not None and not windows:
        written = FeatureReference(item.view, item.attribute, under=item.under)
        report.add(f"{verb} {item!r}, but that feature has no windows.", f"Write {written!r}.")
        return None
    if item.window is not None and item.window not in windows:
        report_unknown(report, f"{verb} {item!r} with window", str(item.window), list(windows))
        return None
    if item.under is not None and not read_alias(report, verb, item.under):
        return None
    if verb != "lists" and item.window is None and len(windows) > 1:
        report.add(f"{verb} {item!r}, which has the windows {listing(windows)}.", f'Name one: {item!r}["{windows[0]}"].')
        return None
    if isinstance(member, Field) and (member.name or item.attribute) == "event_timestamp":
        report.add(f"{verb} {item!r}, which is the time of the rows rather than a feature.")
        return None
    window = item.window if len(windows) != 1 else windows[0]
    under = item.under
    return FeatureName(view=body.name, attribute=item.attribute, window=window, alias=under.alias if under else None,
                       join_keys=under.join_keys if under else {})  # fmt: skip
