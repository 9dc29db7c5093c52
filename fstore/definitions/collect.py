"""Turn the body of a feature view class into a :class:`View`.

Takes a class as its author wrote it, with any value under any name, and gives the frozen value or everything that is wrong
with it, each problem at the line of the assignment. What needs more than one view (cycles, duplicate names) or the columns
of a source (SQL, types) is for the loader and the compiler.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import FunctionType

import msgspec

from fstore.definitions.check_rules import read_checks
from fstore.definitions.declarations import entity_problems
from fstore.definitions.entity import Entity
from fstore.definitions.expression import Transform
from fstore.definitions.expression_rules import COMPOSED, bind_expressions, bound_views
from fstore.definitions.feature_view import (
    SETTINGS,
    Body,
    FeatureReference,
    FeatureView,
    Input,
    Member,
    PythonFunction,
    View,
    ViewHistory,
)
from fstore.definitions.functions import read_function
from fstore.definitions.inputs import input_source, input_view, read_inputs
from fstore.definitions.members import check_members
from fstore.definitions.problems import Reporter
from fstore.definitions.project import Problem
from fstore.definitions.references import ON_DEMAND
from fstore.definitions.source import Source, WindowedSource
from fstore.definitions.uses import read_uses
from fstore.definitions.validation import (
    kind_of,
    read_duration,
    read_flag,
    read_instant,
    read_name,
    read_optional_text,
    read_order,
    read_parsed,
    read_tags,
    read_text,
)
from fstore.errors import did_you_mean, listing
from fstore.interval import Schedule

_COMPUTED_BY = ("source", "sql", "compute")


def collect_view(view: type[FeatureView]) -> tuple[View | None, list[Problem]]:
    """Return the value that a class declares, or None and all the problems with it."""
    body = view.__body__
    report = Reporter([], f"feature view {body.name!r}", body.location)
    _check_body(report, body)
    members = {key: value for key, value in body.attributes.items() if isinstance(value, Member) and key not in SETTINGS}
    given = {key: value for key, value in body.attributes.items() if key in SETTINGS and not isinstance(value, Member)}
    entity = _read_entity(report, body, given)
    how = _computed_by(report, body, given)
    members = bind_expressions(report, body.name, members, body.lines, how)
    collected = _collect(report, body, given, members, entity)
    keys = list(entity.join_keys) if entity else []
    check_members(report, body.name, members, body.lines, keys=keys, aggregates=None if how is None else how == "source")
    if not members:
        report.add("declares no features.", _no_features_fix(how))
    return (None if report.problems else collected), report.problems


def view_references(view: type[FeatureView]) -> tuple[list[Entity], list[Source], list[type[FeatureView]]]:
    """Return the entity, the sources and the views that a class body refers to."""
    attributes = view.__body__.attributes
    entity, source, inputs = attributes.get("entity"), attributes.get("source"), attributes.get("inputs")
    items = [source, *(inputs.values() if isinstance(inputs, Mapping) else ())]
    sources = [found for item in items if (found := input_source(item)) is not None]
    views = [view_input for item in items if (view_input := input_view(item)) is not None] + bound_views(attributes)
    return ([entity] if isinstance(entity, Entity) else []), sources, views


def _collect(
    report: Reporter, body: Body, given: Mapping[str, object], members: Mapping[str, Member], entity: Entity | None
) -> View:
    """Read every setting; the value is only good if nothing was reported."""
    start, end = _read_dates(report, body, given)
    schedule, timezone = _read_schedule(report, body, given)
    source, sql = given.get("source"), given.get("sql")
    inputs = _read_inputs(report, body, given)
    return View(
        name=body.name,
        entity=entity.name if entity else "",
        module=body.module,
        location=body.location,
        description=body.description,
        owner=read_optional_text(report, "owner", given.get("owner", ""), at=body.lines.get("owner")),
        tags=read_tags(report, given.get("tags", {}), at=body.lines.get("tags")),
        schedule=schedule,
        timezone=timezone,
        start=start,
        end=end,
        ttl=_read_ttl(report, body, given),
        online=read_flag(report, "online", given.get("online", True), at=body.lines.get("online")),
        pipeline=_read_pipeline(report, body, given),
        source=_read_source(report, body, source) if source is not None else None,
        inputs=inputs,
        sql=read_text(report, "sql", sql, example='"SELECT …"', at=body.lines.get("sql")) if sql is not None else None,
        function=_read_compute(report, body, given, inputs),
        members=dict(members),
        checks=read_checks(report, given.get("checks", ()), members, at=body.lines.get("checks")),
    )


# -- names ------------------------------------------------------------------------------------------------------------


def _check_body(report: Reporter, body: Body) -> None:
    """Check the class itself: its name, what it inherits from, and that every attribute means something."""
    if "name" not in body.attributes:
        read_name(report, "name", body.name, at=body.lines.get("name"))
        if body.name == ON_DEMAND:
            report.add(f"has the name {ON_DEMAND!r}, which stands for features computed on demand.", "Choose another.",
                       at=body.lines.get("name"))  # fmt: skip
    for parent in body.parents:
        report.add(
            f"inherits from view {parent!r}, which is not a template.",
            "Move what they share to a class with abstract = True and let both inherit from that.",
        )
    for name in body.repeated:
        report.add(f"assigns feature {name!r} twice; the first one is lost.", "Rename one.", at=body.lines[name])
    for name in body.annotated:
        if not name.startswith("_"):
            report.add(f"annotates {name!r} and assigns nothing to it.", f'Write {name} = feature("int64"), say.')
    for key, value in body.attributes.items():
        _check_attribute(report, body, key, value)


def _check_attribute(report: Reporter, body: Body, key: str, value: object) -> None:
    at = body.lines.get(key)
    if key not in SETTINGS:
        if isinstance(value, FunctionType):
            report.add(
                f"has a function {key!r} in its class body.",
                "Define functions at the top of the module; compute = transform(function) runs one.",
                at=at,
            )
        elif not isinstance(value, Member):
            report.add(
                f"has no setting {key!r} (it is {kind_of(value)}).",
                did_you_mean(key, SETTINGS) or "Features are made by agg, expr and feature; private names begin with _.",
                at=at,
            )
    elif isinstance(value, Member):
        hidden = [name for name, other in body.attributes.items() if other is value and name not in SETTINGS]
        if hidden:
            report.add(
                f"has feature {hidden[0]!r} of the same class body as its {key}: it hides what had that name outside.",
                f"Write {key} above the features.",
                at=at,
            )
        else:
            report.add(
                f"assigns a feature to {key!r}, which is a setting of every view.",
                f'Choose another attribute and keep the name: {key}_value = …(…, name="{key}").',
                at=at,
            )
    elif key == "name":
        report.add(f"has a wrong name: expected a text, got {kind_of(value)}.", at=at)
    elif key == "abstract":
        report.add(f"has a wrong abstract: expected True or False, got {kind_of(value)}.", at=at)


# -- what computes it -------------------------------------------------------------------------------------------------


def _computed_by(report: Reporter, body: Body, given: Mapping[str, object]) -> str | None:
    """Return which of source, sql and compute makes the view's rows, if it is exactly one."""
    found = [key for key in _COMPUTED_BY if given.get(key) is not None]
    if len(found) == 1:
        if found == ["source"] and given.get("inputs") is not None:
            report.add(
                "has a source and inputs.",
                "Aggregates read one source; views over several inputs use sql or compute.",
                at=body.lines.get("inputs"),
            )
        if found != ["source"] and given.get("inputs") is None:
            report.add(f"has {found[0]} and no inputs.", 'Say what it reads: inputs = {"o": orders.window("30d")}.')
        if found != ["compute"] and given.get("uses") is not None:
            report.add(
                f"has {found[0]} and uses, which says what else a Python function depends on.",
                "Remove uses.",
                at=body.lines.get("uses"),
            )
        return found[0]
    if any(isinstance(body.attributes.get(key), Member) for key in _COMPUTED_BY):
        return None
    if not found and bound_views(body.attributes):
        if given.get("inputs") is not None:
            report.add("has inputs, and neither sql nor compute to read them.", "Remove them.", at=body.lines.get("inputs"))
        return COMPOSED
    if found:
        report.add(f"has {listing(found)}, but only one of them can compute it.", "Split it into two views.")
    else:
        report.add("says nothing of how it is computed.", "Give it one of source (with agg features), sql or compute.")
    return None


def _no_features_fix(how: str | None) -> str:
    if how == "source":
        return 'Add one such as amount_sum = agg.sum("amount").over("7d").'
    return 'Declare the output columns, such as amount = feature("float64").'


def _read_entity(report: Reporter, body: Body, given: Mapping[str, object]) -> Entity | None:
    value = given.get("entity")
    if isinstance(value, Entity):
        return None if entity_problems(value) else value
    if value is None and not isinstance(body.attributes.get("entity"), Member):
        report.add("has no entity.", "Say what it describes: entity = user, with user = Entity(…).")
    elif isinstance(value, str):
        report.add(
            f"has the text {value!r} as its entity; entities are objects, never strings.",
            "Import the entity and write entity = user.",
            at=body.lines.get("entity"),
        )
    elif value is not None:
        report.add(f"has a wrong entity: expected an Entity, got {kind_of(value)}.", at=body.lines.get("entity"))
    return None


def _read_source(report: Reporter, body: Body, value: object) -> str | None:
    at = body.lines.get("source")
    match value:
        case WindowedSource():
            name = value.source.name
            report.add(
                f"has a window on its source {name!r}; the windows of its features bound it already.",
                f"Write source = {name}.",
                at=at,
            )
        case _ if isinstance(value, Source):
            if value.is_dimension and value.keys is not None:
                report.add(
                    f"aggregates source {value.name!r}, which is a dimension: its rows did not happen at an instant.",
                    "Give the source an event_time, or read it in a SQL view through inputs.",
                    at=at,
                )
            return value.name
        case type() if issubclass(value, FeatureView):
            report.add(
                f"has view {value.__name__} as its source; aggregates read event sources.",
                "Read views through inputs, with sql or compute.",
                at=at,
            )
        case str():
            report.add(
                f"has the text {value!r} as its source; sources are objects, never strings.",
                f"Import the source and write source = {value}.",
                at=at,
            )
        case _:
            report.add(f"has a wrong source: expected a source such as a ParquetSource, got {kind_of(value)}.", at=at)
    return None


def _read_inputs(report: Reporter, body: Body, given: Mapping[str, object]) -> tuple[Input, ...]:
    value = given.get("inputs")
    return () if value is None else read_inputs(report, value, at=body.lines.get("inputs"))


def _read_compute(
    report: Reporter, body: Body, given: Mapping[str, object], inputs: tuple[Input, ...]
) -> PythonFunction | None:
    value = given.get("compute")
    at = body.lines.get("compute")
    if value is None:
        return None
    if isinstance(value, Transform):
        uses = read_uses(report, given.get("uses", ()), at=body.lines.get("uses"))
        function = read_function(report, value.function, [item.alias for item in inputs], at=at, by_key=value.by_key)
        return msgspec.structs.replace(function, uses=uses) if function else None
    if callable(value) and not isinstance(value, FeatureReference | ViewHistory):
        name = getattr(value, "__name__", "function")
        report.add(
            f"has function {name!r} itself as compute.",
            f"Define it outside of the class and write compute = transform({name}).",
            at=at,
        )
    else:
        report.add(f"has a wrong compute: expected transform(function), got {kind_of(value)}.", at=at)
    return None


# -- when it is computed ----------------------------------------------------------------------------------------------


def _read_schedule(report: Reporter, body: Body, given: Mapping[str, object]) -> tuple[str | None, str]:
    timezone = given.get("timezone", "UTC")
    zone = read_parsed(
        report,
        "time zone",
        timezone,
        lambda text: Schedule.parse("@daily", text),
        example='"Europe/Berlin"',
        at=body.lines.get("timezone"),
    )
    value = given.get("schedule")
    if value is None:
        if not isinstance(body.attributes.get("schedule"), Member):
            report.add("has no schedule.", 'Say how often it is computed: schedule = "@daily", or a cron expression.')
        return None, "UTC"
    parsed = read_parsed(report, "schedule", value, Schedule.parse, example='"@daily"', at=body.lines.get("schedule"))
    return (str(value) if parsed else None), (zone.timezone if zone else "UTC")


def _read_dates(report: Reporter, body: Body, given: Mapping[str, object]) -> tuple[str | None, str | None]:
    dates: list[str | None] = []
    for key in ("start", "end"):
        value = given.get(key)
        dates.append(None if value is None else read_instant(report, key, value, at=body.lines.get(key)))
    start, end = dates
    read_order(report, start, end, at=body.lines.get("end"))
    inherits = bool(view_inputs(given) or bound_views(body.attributes))
    if given.get("start") is None and not inherits and not isinstance(body.attributes.get("start"), Member):
        report.add("has no start.", 'Say since when there is data: start = "2026-01-01".')
    return start, end


def view_inputs(given: Mapping[str, object]) -> list[type[FeatureView]]:
    """Return the views among the inputs: a view that reads one inherits its start."""
    inputs = given.get("inputs")
    return [view for item in inputs.values() if (view := input_view(item))] if isinstance(inputs, Mapping) else []


def _read_ttl(report: Reporter, body: Body, given: Mapping[str, object]) -> str | None:
    value = given.get("ttl")
    if value is None:
        return None
    return str(value) if read_duration(report, "ttl", value, at=body.lines.get("ttl")) is not None else None


def _read_pipeline(report: Reporter, body: Body, given: Mapping[str, object]) -> str | None:
    value = given.get("pipeline")
    return None if value is None else read_name(report, "pipeline", value, at=body.lines.get("pipeline"))
