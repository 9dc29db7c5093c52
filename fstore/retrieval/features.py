"""Resolve the features that a reader asks for into views, features and output columns.

Takes references (``view:feature``, ``view:*``) or a service's name, and the registry; gives a :class:`Selection`, in the
order asked for, each feature once. Reads no data. Knows the empty row of a view.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

from fstore.arrow import arrow_type
from fstore.errors import FeatureNameClash, RetrievalError, UnknownFeature, did_you_mean, listing
from fstore.interval import parse_instant
from fstore.plan.steps import Feature, Step
from fstore.types import parse_type

if TYPE_CHECKING:
    from fstore.registry.registry import Registry


class SelectedView(msgspec.Struct, frozen=True, kw_only=True):
    """The features of one view that were asked for, and the output column of each."""

    step: Step
    generation: int
    fingerprint: str
    features: tuple[Feature, ...]
    columns: tuple[str, ...]

    @property
    def schema(self) -> pa.Schema:
        """The output columns with their types."""
        pairs = zip(self.columns, self.features, strict=True)
        return pa.schema([pa.field(column, arrow_type(parse_type(feature.type or ""))) for column, feature in pairs])


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """What a read is about: views by first mention, and the output columns and references in the order asked for."""

    views: tuple[SelectedView, ...]
    columns: tuple[str, ...]
    references: tuple[str, ...]

    @property
    def keys(self) -> dict[str, list[str]]:
        """The join keys that all views together need, each with the views that need it."""
        needed: dict[str, list[str]] = {}
        for view in self.views:
            for key in view.step.keys:
                needed.setdefault(key.name, []).append(view.step.view)
        return needed


def select_features(
    registry: Registry, *, features: Sequence[str] | None, service: str | None, full_names: bool
) -> Selection:
    """Return the selection for either references or a service.

    Raises UnknownFeature, FeatureNameClash, and RetrievalError when neither or both of ``features`` and ``service`` are
    given.
    """
    references = _references(registry, features, service)
    steps: dict[str, tuple[Step, int, str]] = {}
    chosen: dict[tuple[str, str], Feature] = {}
    for reference in references:
        view, separator, name = reference.partition(":")
        if not separator or not view or not name:
            raise UnknownFeature(
                f'{reference!r} is not a feature reference; write "view:feature", or "view:*" for all features of a view'
            )
        if view not in steps:
            registered = registry.view(view)
            steps[view] = (registered.step, registered.generation, registered.fingerprint)
        for feature in _features_of(steps[view][0], name):
            chosen.setdefault((view, feature.name), feature)
    columns = {pair: f"{pair[0]}__{pair[1]}" if full_names else pair[1] for pair in chosen}
    _refuse_clashes(columns)
    return Selection(
        views=tuple(
            SelectedView(
                step=step,
                generation=generation,
                fingerprint=fingerprint,
                features=tuple(feature for (owner, _), feature in chosen.items() if owner == view),
                columns=tuple(column for (owner, _), column in columns.items() if owner == view),
            )
            for view, (step, generation, fingerprint) in steps.items()
        ),
        columns=tuple(columns.values()),
        references=tuple(f"{view}:{name}" for view, name in chosen),
    )


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


def _references(registry: Registry, features: Sequence[str] | None, service: str | None) -> Sequence[str]:
    if (features is None) == (service is None):
        raise RetrievalError('say what to read: either features=["view:feature", …] or service="name"')
    if service is not None:
        return registry.service(service).features
    if isinstance(features, str):
        raise RetrievalError(f"features must be a list of references, not the text {features!r}: write [{features!r}]")
    if not features:
        raise RetrievalError('features is empty: name at least one "view:feature"')
    return features or ()


def _features_of(step: Step, name: str) -> Iterable[Feature]:
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


def _refuse_clashes(columns: dict[tuple[str, str], str]) -> None:
    owners: dict[str, str] = {}
    for (view, name), column in columns.items():
        if column in owners:
            raise FeatureNameClash(
                f"features {owners[column]!r} and '{view}:{name}' are both named {column!r}. Pass full_names=True to name "
                "columns view__feature."
            )
        owners[column] = f"{view}:{name}"
