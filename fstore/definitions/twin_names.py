"""What the declarations of a project are called, for twins, which refer to each other and to Python by name.

Holds the Python declarations of the imported modules and, as they are made, those of the twins. A name that means nothing is
reported with what it may have been meant to be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from fstore.definitions.aggregation import Aggregation
from fstore.definitions.entity import Entity
from fstore.definitions.feature_view import FeatureReference, FeatureView, Member, feature_names
from fstore.definitions.inputs import input_source
from fstore.definitions.location import Location
from fstore.definitions.problems import Reporter
from fstore.definitions.source import Source
from fstore.definitions.validation import report_unknown

Found = TypeVar("Found")


class Names:
    """Entities, sources and views by name."""

    def __init__(self, values: Iterable[object], views: Iterable[type[FeatureView]]) -> None:
        self.entities: dict[str, Entity] = {}
        self.sources: dict[str, Source] = {}
        self.views: dict[str, type[FeatureView]] = {}
        for view in views:
            if not view.__body__.abstract:
                self.views.setdefault(view.__body__.name, view)
                for value in _referred(view):
                    self.add(value)
        for value in values:
            self.add(value)

    def add(self, value: object) -> None:
        """Remember a declaration, unless its name is taken (which is reported elsewhere)."""
        match value:
            case Entity():
                self.entities.setdefault(str(value.name), value)
            case _ if isinstance(value, Source):
                self.sources.setdefault(str(value.name), value)

    def entity(self, report: Reporter, name: str, at: Location) -> Entity | None:
        """Return an entity by name."""
        return _found(report, "is about entity", name, self.entities, "Declare it with `kind: Entity`.", at)

    def source(self, report: Reporter, name: str, at: Location, verb: str = "reads source") -> Source | None:
        """Return a source by name."""
        return _found(report, verb, name, self.sources, "Declare it with `kind: ParquetSource`, say.", at)

    def view(self, report: Reporter, name: str, at: Location, verb: str = "reads view") -> type[FeatureView] | None:
        """Return a view by name."""
        return _found(report, verb, name, self.views, "", at)

    def input(self, report: Reporter, name: str, at: Location) -> Source | type[FeatureView] | None:
        """Return a source or view by name, where it is clear which."""
        if name in self.sources and name in self.views:
            report.add(f"reads {name!r}, which is a source and a view.",
                       f"Write {{source: {name}}} or {{view: {name}}}.", at=at)  # fmt: skip
            return None
        known: Mapping[str, Source | type[FeatureView]] = {**self.sources, **self.views}
        return _found(report, "reads", name, known, "Name a source or a view.", at)

    def feature(
        self,
        report: Reporter,
        text: str,
        at: Location,
        verb: str,
        members: Callable[[type[FeatureView]], Mapping[str, object]],
    ) -> FeatureReference | None:
        """Return a reference to a feature written as ``view:feature``."""
        name, colon, feature = text.partition(":")
        if not colon or not feature:
            report.add(
                f"{verb} {text!r}, which is no feature.", "Write the view and the feature: user_purchases:n_7d.", at=at
            )
            return None
        view = self.view(report, name, at, f"{verb} {text!r} of view")
        if view is None:
            return None
        sound = {name: item for name, item in members(view).items() if isinstance(item, Member) and _is_sound(item)}
        known: dict[str, tuple[str, str | None]] = {name: (name, None) for name in sound}
        for attribute, member in sound.items():
            known |= {made: (attribute, window) for window, made in feature_names(attribute, member).items()}
        place = _found(report, f"{verb} feature", feature, known, "", at)
        return FeatureReference(view, *place) if place else None


def _is_sound(member: Member) -> bool:
    return not isinstance(member, Aggregation) or all(isinstance(window, str) for window in member.windows)


def _referred(view: type[FeatureView]) -> list[object]:
    """Return what a view's class body refers to, which need not be a value of any module."""
    attributes = view.__body__.attributes
    inputs = attributes.get("inputs")
    items = [attributes.get("source"), *(inputs.values() if isinstance(inputs, Mapping) else ())]
    return [attributes.get("entity"), *(input_source(item) for item in items)]


def _found(
    report: Reporter, what: str, name: str, known: Mapping[str, Found], fix: str, at: Location
) -> Found | None:  # fmt: skip
    if name not in known:
        report_unknown(report, what, name, sorted(known), fix, at=at)
    return known.get(name)
