"""The features and checks of a view that is written in YAML.

``{agg: avg, of: amount, over: [7d, 30d], fill: 0.0}`` calls ``agg.avg("amount").over("7d", "30d").fill(0.0)``: the keys of
an aggregate are the parameters of the Python function, so that both languages have the same ones. Structure is checked here,
and values by the rules that Python's are checked by.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import cast

import msgspec

from fstore.definitions.aggregation import FUNCTIONS, Aggregation, agg
from fstore.definitions.checks import KINDS, Check, check
from fstore.definitions.expression import expr, feature
from fstore.definitions.feature_view import FeatureReference, Member
from fstore.definitions.location import Location
from fstore.definitions.problems import Reporter
from fstore.definitions.twin_sections import Section, shown
from fstore.definitions.validation import report_unknown
from fstore.definitions.yaml_nodes import ListNode, MappingNode, Node, ScalarNode, is_null, node_value, scalar_value

_OF = "of"
_COMMON = ("name", "description", "pii")
_TEXTS = ("argument", "where", "by", "order_by", "half_life", "name", "description")
"""Parameters that are texts even where they look like numbers."""

_CHECK_KEYS: dict[str, tuple[str, ...]] = {
    "not_null": ("column", "severity"),
    "in_range": ("column", "min", "max", "severity"),
    "one_of": ("column", "values", "severity"),
    "unique": ("columns", "severity"),
    "row_count": ("min", "max", "severity"),
}

_declare_field: Callable[..., Member] = feature
_declare_expression: Callable[..., Member] = expr

Resolve = Callable[[Reporter, str, Node, str], FeatureReference | None]
"""Finds a feature written as ``view:feature``, or as a mapping that joins the view under an alias; takes the file."""


def read_members(
    report: Reporter, section: Section, view: str, resolve: Resolve, *, aggregates: bool
) -> tuple[dict[str, Member], dict[str, Location]]:
    """Return the features of a view by attribute, and where each is written."""
    members: dict[str, Member] = {}
    lines: dict[str, Location] = {}
    for attribute, node in section.entries("features", "a mapping of features").items():
        at = section.line_in("features", attribute)
        found = _read_member(report.about(f"feature '{view}:{attribute}'", at), section.file, node, resolve, aggregates)
        if found is not None:
            members[attribute] = msgspec.structs.replace(found, location=at)
            lines[attribute] = at
    return members, lines


def _read_member(report: Reporter, file: str, node: Node, resolve: Resolve, aggregates: bool) -> Member | None:  # noqa: FBT001
    if isinstance(node, ScalarNode) and not aggregates:
        return _declare_field(None if is_null(node) else node.text)
    if not isinstance(node, MappingNode):
        example = "{agg: count, over: 7d}" if aggregates else "int64"
        report.add(f"is {shown(node)}, which says nothing of how it is computed.", f"Write {example}, say.")
        return None
    found = [key for key in ("agg", "expr", "type") if key in node.entries]
    match found:
        case ["agg"]:
            return _read_aggregation(report, file, node)
        case ["expr"]:
            return _read_expression(report, file, node, resolve)
        case ["type"]:
            section = Section(report, file, node, ("type", *_COMMON))
            return _declare_field(section.text("type"), **_common(section))
        case [] if not aggregates:
            section = Section(report, file, node, ("type", *_COMMON))
            return _declare_field(None, **_common(section))
        case []:
            report.add("has none of agg and expr.", "Write {agg: count, over: 7d}, say.")
        case _:
            report.add(f"has {' and '.join(found)}, of which a feature can have one.", "Make two features of it.")
    return None


def _common(section: Section) -> dict[str, object]:
    return {
        "name": section.text("name"),
        "description": (section.text("description") or "").strip(),
        "pii": section.flag("pii", default=False),
    }


def _read_aggregation(report: Reporter, file: str, node: MappingNode) -> Aggregation | None:
    function = node.entries["agg"]
    if not isinstance(function, ScalarNode) or function.text not in FUNCTIONS:
        name = function.text if isinstance(function, ScalarNode) else shown(function)
        report_unknown(report, "uses function", name, FUNCTIONS, at=Location(file, node.lines["agg"]))
        return None
    declare: Callable[..., Aggregation] = getattr(agg, function.text)
    parameters = inspect.signature(declare).parameters
    keys = {name: _OF if name == "argument" else name for name in parameters}
    section = Section(report, file, node, ("agg", *keys.values(), "over", "offset", "fill"))
    missing = [
        key for name, key in keys.items() if parameters[name].default is inspect.Parameter.empty and key not in section
    ]
    for key in missing:
        report.add(f"has no {key}, which agg {function.text} needs.", f"Write {key}: {_EXAMPLES.get(key, '3')}, say.",
                   at=Location(file, node.line))  # fmt: skip
    if missing:
        return None
    given: dict[str, object] = {}
    for name, key in keys.items():
        if name in _COMMON or key not in section:
            continue
        given[name] = section.text(key) if name in _TEXTS else section.value(key)
    windows = section.texts("over")
    if not windows and "over" not in section:
        report.add("has no windows.", "Write over: [7d], with one or more durations or lifetime.")
        return None
    found = declare(**given, **_common(section)).over(*windows, offset=section.text("offset"))
    return found.fill(cast("str", section.value("fill"))) if "fill" in section else found


_EXAMPLES = {"of": "amount", "edges": "[0, 10, 100]", "percentile": "0.5", "half_life": "7d"}


def _read_expression(report: Reporter, file: str, node: MappingNode, resolve: Resolve) -> Member | None:
    section = Section(report, file, node, ("expr", "using", *_COMMON))
    sql = section.text("expr")
    bound: dict[str, FeatureReference] = {}
    for name, item in section.entries("using", "a mapping such as {a: user_purchases:n_7d}").items():
        reference = resolve(report.about(report.subject, section.line_in("using", name)), file, item, f"binds {name!r} to")
        if reference is not None:
            bound[name] = reference
    if sql is None:
        return None
    return _declare_expression(sql, **_common(section), **bound)


def read_checks(report: Reporter, section: Section) -> list[Check]:
    """Return the checks of a view."""
    checks: list[Check] = []
    for node in section.items("checks", "a list such as [not_null: amount_7d]"):
        at = Location(section.file, node.line)
        here = report.about(report.subject, at)
        if not isinstance(node, MappingNode) or len(node.entries) != 1:
            here.add(f"has a wrong check: expected one such as `not_null: amount_7d`, got {shown(node)}.")
            continue
        ((kind, value),) = node.entries.items()
        if kind not in KINDS:
            report_unknown(here, "has a check called", kind, KINDS)
        elif (found := _read_check(here, section.file, kind, value)) is not None:
            checks.append(msgspec.structs.replace(found, location=at))
    return checks


def _read_check(report: Reporter, file: str, kind: str, node: Node) -> Check | None:
    keys = _CHECK_KEYS[kind]
    if not isinstance(node, MappingNode):
        single = MappingNode(node.line)
        if keys[0] not in ("column", "columns") or (keys[0] == "column" and isinstance(node, ListNode)):
            report.add(f"has a wrong check {kind}: expected a mapping of {', '.join(keys)}, got {shown(node)}.")
            return None
        single.entries[keys[0]], single.lines[keys[0]] = node, node.line
        node = single
    section = Section(report, file, node, keys)
    severity = {"severity": section.text("severity")} if "severity" in section else {}
    column = section.text("column") if "column" in keys and section.require("column", "column: amount_7d") else None
    declare: Callable[..., Check] = getattr(check, kind)
    match kind:
        case "not_null":
            return declare(column, **severity) if column else None
        case "in_range":
            return declare(column, section.value("min"), section.value("max"), **severity) if column else None
        case "one_of":
            values = [_constant(item) for item in section.items("values")]
            return declare(column, values, **severity) if column else None
        case "unique":
            return declare(*section.texts("columns"), **severity)
        case _:
            return declare(section.value("min"), section.value("max"), **severity)


def _constant(node: Node) -> object:
    return scalar_value(node) if isinstance(node, ScalarNode) else node_value(node)
