"""Resolve the features that a reader asks for into views, features and output columns.

Takes references (``view:feature``, ``view:*``, or the objects of definition modules) or a service's name, and the registry;
gives a :class:`Selection`, in the order asked for, each feature once. Reads no data. Knows the empty row of a view.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, cast

import msgspec
import pyarrow as pa

from fstore.arrow import arrow_type
from fstore.definitions.feature_references import read_listed
from fstore.definitions.feature_view import AliasedView, FeatureReference, FeatureView, Member, feature_names
from fstore.definitions.on_demand import OnDemand
from fstore.definitions.problems import Reporter
from fstore.definitions.references import ON_DEMAND, ResolvedFeature, parse_feature
from fstore.errors import FeatureNameClash, RetrievalError, UnknownFeature, did_you_mean, listing
from fstore.interval import parse_instant
from fstore.plan.steps import Feature, PlannedOnDemand, Step
from fstore.types import Column, parse_type

if TYPE_CHECKING:
    from fstore.registry.records import RegisteredView
    from fstore.registry.registry import Registry

Join = tuple[str, str | None, tuple[tuple[str, str], ...]]


Wanted = str | FeatureReference | AliasedView | type[FeatureView] | OnDemand | ResolvedFeature
"""What a reader may ask for: a text (``view:feature``), or the object that a definition module has for it."""


class SelectedView(msgspec.Struct, frozen=True, kw_only=True):
    """The features of one join of a view that are read, and for each the reference as text, which names its column."""

    step: Step
    generation: int
    fingerprint: str
    features: tuple[Feature, ...]
    columns: tuple[str, ...]
    alias: str | None = None
    join_keys: dict[str, str] = {}

    @property
    def schema(self) -> pa.Schema:
        """The columns with their types."""
        pairs = zip(self.columns, self.features, strict=True)
        return pa.schema([pa.field(column, arrow_type(parse_type(feature.type or ""))) for column, feature in pairs])

    @property
    def keys(self) -> tuple[Column, ...]:
        """The view's keys as the reader's columns, with the view's types."""
        return tuple(Column(name=self.join_keys.get(key.name, key.name), type=key.type) for key in self.step.keys)

    @property
    def label(self) -> str:
        """The view as messages name it."""
        return self.step.view if self.alias is None else f"{self.step.view} as {self.alias}"


class SelectedOnDemand(msgspec.Struct, frozen=True, kw_only=True):
    """An on-demand feature that is read: ``column`` names its values, ``arguments`` the columns of its stored features."""

    definition: PlannedOnDemand
    column: str
    arguments: dict[str, str]


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """What a read is about.

    ``views`` are the joins by first mention; they also hold what on-demand features need. ``references`` are the features
    asked for, as text and in order, ``columns`` what each is called in the output.
    """

    views: tuple[SelectedView, ...]
    on_demand: tuple[SelectedOnDemand, ...]
    references: tuple[str, ...]
    columns: tuple[str, ...]

    @property
    def keys(self) -> dict[str, list[str]]:
        """The key columns that all views together need, each with the views that need it."""
        needed: dict[str, list[str]] = {}
        for view in self.views:
            for key in view.keys:
                needed.setdefault(key.name, []).append(view.label)
        return needed


def select_features(
    registry: Registry, *, features: Sequence[Wanted] | None, service: str | None, full_names: bool
) -> Selection:
    """Return the selection for either references or a service, all of it at one version of the registry.

    Raises UnknownFeature, FeatureNameClash, and RetrievalError when neither or both of ``features`` and ``service`` are
    given.
    """
    version = registry.version()
    while True:
        try:
            selection = _select(registry, features, service, full_names=full_names)
        except UnknownFeature:
            if version == (version := registry.version()):
                raise
        else:
            if version == (version := registry.version()):
                return selection


def as_it_was(registry: Registry, selection: Selection, sequence: int) -> Selection:
    """Return a selection with the generations, and their definitions, that were live as of a sequence.

    Raises UnknownFeature for a view or feature that was not there then.
    """
    if registry.overlay:
        return selection  # an environment's views have one generation each
    then = registry.retention.steps_as_of({view.step.view for view in selection.views}, sequence)
    if not then:
        return selection
    views = [_as_of_version(view, then[view.step.view], sequence) if view.step.view in then else view
             for view in selection.views]  # fmt: skip
    return msgspec.structs.replace(selection, views=tuple(views))


def _as_of_version(view: SelectedView, then: tuple[Step | None, int], sequence: int) -> SelectedView:
    step, generation = then
    name = view.step.view
    if step is None:
        raise UnknownFeature(f"view {name!r} was not there as of sequence {sequence}")
    known = {feature.name: feature for feature in step.features}
    for feature in view.features:
        if feature.name not in known:
            raise UnknownFeature(f"view {name!r} had no feature {feature.name!r} as of sequence {sequence}")
    features = tuple(known[feature.name] for feature in view.features)
    return msgspec.structs.replace(view, step=step, generation=generation, fingerprint=step.fingerprint, features=features)


def _select(registry: Registry, features: Sequence[Wanted] | None, service: str | None, *, full_names: bool) -> Selection:
    wanted = _wanted(registry, features, service)
    definitions = {item.feature: registry.on_demand(item.feature) for item in wanted if item.view == ON_DEMAND}
    needed = [item for definition in definitions.values() for item in definition.features.values()]
    names = dict.fromkeys(item.view for item in [*wanted, *needed] if item.view != ON_DEMAND)
    registered = dict(zip(names, registry.views_at_once(list(names)), strict=True))
    chosen = {str(found): found for item in wanted for found in _expand(item, registered)}
    read = [item for item in [*chosen.values(), *needed] if item.view != ON_DEMAND]
    joins: dict[Join, dict[str, Feature]] = {}
    for item in read:
        (feature,) = _features_of(registered[item.view].step, item.feature)
        joins.setdefault(item.join, {})[str(item)] = feature
    columns = {text: item.column(full_names=full_names) for text, item in chosen.items()}
    _refuse_clashes(columns, chosen)
    return Selection(
        views=tuple(
            SelectedView(
                step=registered[view].step, generation=registered[view].generation, fingerprint=registered[view].fingerprint,
                features=tuple(found.values()), columns=tuple(found), alias=alias, join_keys=dict(join_keys),
            )
            for (view, alias, join_keys), found in joins.items()
        ),
        on_demand=tuple(
            SelectedOnDemand(
                definition=definitions[item.feature], column=text,
                arguments={name: str(of) for name, of in definitions[item.feature].features.items()},
            )
            for text, item in chosen.items()
            if item.view == ON_DEMAND
        ),
        references=tuple(chosen),
        columns=tuple(columns.values()),
    )  # fmt: skip


def as_texts(features: Sequence[Wanted] | None) -> tuple[str, ...] | None:
    """Return what was asked for as texts, without asking the registry; None when nothing was."""
    if features is None:
        return None
    if isinstance(features, str | type) or not isinstance(features, Sequence):
        what = "the text " if isinstance(features, str) else ""
        fix = f"write [{features!r}]" if isinstance(features, str | type) else "their order is that of the columns"
        raise RetrievalError(f"features must be a list of references, not {what}{features!r}: {fix}")
    return tuple(item if isinstance(item, str) else text for item in features for text in _texts(item))


def refuse_taken(selection: Selection, taken: Collection[str]) -> None:
    """Raise FeatureNameClash if an output column has the name of a column that the entity rows have already."""
    for column, reference in zip(selection.columns, selection.references, strict=True):
        if column in taken:
            raise FeatureNameClash(
                f"feature {reference!r} would be column {column!r}, which the entity rows have already. Pass "
                "full_names=True to name columns view__feature, or rename that column."
            )


def empty_values(view: SelectedView) -> pa.Table:
    """Return one row with the value that each selected feature has for a key without a row, in output columns."""
    arrays = []
    for feature, field in zip(view.features, view.schema, strict=True):
        value: object = feature.empty
        if value is not None and pa.types.is_decimal(field.type):
            value = Decimal(str(value))
        elif isinstance(value, int | float) and pa.types.is_integer(field.type):
            value = int(value)
        elif isinstance(value, str) and pa.types.is_timestamp(field.type):
            value = parse_instant(value)
        elif isinstance(value, str) and pa.types.is_date(field.type):
            value = parse_instant(value).date()
        arrays.append(pa.array([value], type=field.type))
    return pa.table(arrays, schema=view.schema)


def _wanted(registry: Registry, features: Sequence[Wanted] | None, service: str | None) -> Sequence[ResolvedFeature]:
    if (features is None) == (service is None):
        raise RetrievalError('say what to read: either features=["view:feature", …] or service="name"')
    if service is not None:
        if not isinstance(service, str):
            raise RetrievalError(f"service must be the name of a service, got {service!r}")
        return registry.service(service).references
    texts = as_texts(features) or ()
    if not texts:
        raise RetrievalError('features is empty: name at least one "view:feature"')
    found = []
    for text in texts:
        parsed = parse_feature(text)
        if parsed is None:
            raise UnknownFeature(
                f'{text!r} is not a feature reference; write "view:feature", or "view:*" for all features of a view'
            )
        found.append(parsed)
    return found


def _texts(item: Wanted) -> list[str]:
    """Return a reference as texts: one, or for an attribute without a window one per window."""
    if isinstance(item, str | ResolvedFeature):
        return [str(item)]
    report = Reporter([], "the list of features", None)
    name = read_listed(report, item)
    if name is None:
        raise RetrievalError("; ".join(str(problem) for problem in report.problems))
    if not name.view:
        return [str(ResolvedFeature(view=ON_DEMAND, feature=name.attribute or ""))]
    names = ["*"]
    if isinstance(item, FeatureReference):
        member = item.view.__body__.attributes[item.attribute]
        windows = feature_names(item.attribute, cast("Member", member))
        names = list(windows.values()) if name.window is None else [windows[name.window]]
    return [
        str(ResolvedFeature(view=name.view, feature=feature, alias=name.alias, join_keys=name.join_keys))
        for feature in names
    ]


def _expand(item: ResolvedFeature, registered: Mapping[str, RegisteredView]) -> list[ResolvedFeature]:
    """Return a feature, or for ``*`` every feature of its view."""
    if item.view == ON_DEMAND:
        return [item]
    step = registered[item.view].step
    keys = [key.name for key in step.keys]
    if unknown := [key for key in item.join_keys if key not in keys]:
        raise UnknownFeature(f"{str(item)!r}: view {item.view!r} has no join key {unknown[0]!r}, only {listing(keys)}."
                             f"{did_you_mean(unknown[0], keys)}")  # fmt: skip
    return [msgspec.structs.replace(item, feature=feature.name) for feature in _features_of(step, item.feature)]


def _features_of(step: Step, name: str) -> tuple[Feature, ...]:
    found = tuple(feature for feature in step.features if name in ("*", feature.name))
    if not found:
        names = [feature.name for feature in step.features]
        raise UnknownFeature(
            f"view {step.view!r} has no feature {name!r}; it has {listing(names)}.{did_you_mean(name, names)}"
        )
    if untyped := [feature.name for feature in found if feature.type is None]:
        raise RetrievalError(
            f"the type of {listing(untyped)} of view {step.view!r} is not known yet, because its sources were never read. "
            "Run `fstore apply` where the sources can be read."
        )
    return found


def _refuse_clashes(columns: Mapping[str, str], chosen: Mapping[str, ResolvedFeature]) -> None:
    owners: dict[str, str] = {}
    for text, column in columns.items():
        if column in owners:
            aliased = chosen[text].alias or chosen[owners[column]].alias
            fix = "Use another alias." if aliased else "Pass full_names=True to name columns view__feature."
            raise FeatureNameClash(f"features {owners[column]!r} and {text!r} are both named {column!r}. {fix}")
        owners[column] = text
