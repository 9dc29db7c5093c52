"""Sources in YAML, and what views and sources read.

The keys of a source are the fields of its class, so every kind of source that Python has can be written. Structure is
checked here, and values by the rules that Python's are checked by.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import msgspec

from fstore.definitions.feature_view import FeatureView, ViewHistory
from fstore.definitions.location import Location
from fstore.definitions.problems import Reporter
from fstore.definitions.source import Source, WindowedSource
from fstore.definitions.twin_files import Document
from fstore.definitions.twin_names import Names
from fstore.definitions.twin_sections import Section
from fstore.definitions.yaml_nodes import ListNode, MappingNode, Node, ScalarNode, is_null, node_value

FindSource = Callable[[str, Location], Source | None]
FindView = Callable[[Reporter, str, Location], type[FeatureView] | None]

_EXAMPLES = {"path": "data/orders/", "connection": "shop", "inputs": "{o: orders}", "sources": "[web, app]",
             "sql": "SELECT * FROM o", "event_time": "created_at"}  # fmt: skip
_INPUT = "a name, or a mapping such as {source: orders, window: 30d}"


def read_source(report: Reporter, document: Document, kind: type[Source], name: str, find: FindSource) -> Source:
    """Return a source; what is missing is reported, and empty in it."""
    fields = [field for field in msgspec.structs.fields(kind) if field.name != "location"]
    section = Section(report, document.file, document.node, [field.name for field in fields])
    given: dict[str, object] = {"name": name}
    section.require("name", "name: orders")
    for field in fields:
        if field.name == "name":
            continue
        if field.name in section:
            given[field.name] = _field(report, section, field.name, find)
        elif field.required:
            section.require(field.name, f"{field.name}: {_EXAMPLES.get(field.name, '…')}")
            given[field.name] = {} if field.name == "inputs" else [] if field.name == "sources" else ""
    make = cast("Callable[..., Source]", kind)
    return make(**given, location=Location(document.file, document.line))


def _field(report: Reporter, section: Section, key: str, find: FindSource) -> object:
    """Return the value of a source's key, as the class wants it."""
    node = section.node.entries[key]
    match key:
        case "static":
            return section.flag(key, default=False)
        case "schema":
            return section.mapping_of_texts(key)
        case "keys":
            return section.mapping_of_texts(key) if isinstance(node, MappingNode) else section.texts(key)
        case "unique_key":
            return section.texts(key)
        case "overlap" | "columns":
            return node_value(node)
        case "description":
            return (section.text(key) or "").strip()
        case "inputs":
            entries = section.entries(key, "a mapping such as {o: orders}")
            members = {alias: _member(report, section, key, item, find) for alias, item in entries.items()}
            return {alias: member for alias, member in members.items() if member is not None}
        case "sources":
            listed = node.items if isinstance(node, ListNode) else [node]
            found = [_member(report, section, key, item, find) for item in listed]
            return [member for member in found if member is not None]
        case _:
            return section.text(key)


def _member(report: Reporter, section: Section, key: str, node: Node, find: FindSource) -> Source | WindowedSource | None:
    """Return a source that another one is made of."""
    at = Location(section.file, node.line)
    if isinstance(node, ScalarNode) and not is_null(node):
        return find(node.text, at)
    if not isinstance(node, MappingNode) or key == "sources":
        section.wrong(key, _INPUT if key == "inputs" else "the name of a source", node)
        return None
    part = Section(report, section.file, node, ("source", "window"))
    name = part.text("source") if part.require("source", "source: orders") else None
    found = find(name, part.at("source")) if name else None
    window = part.text("window")
    return found if found is None or window is None else WindowedSource(source=found, window=window, location=at)


def read_input(
    report: Reporter, section: Section, alias: str, node: Node, names: Names, find_view: FindView
) -> object:  # fmt: skip
    """Return what a view reads under an alias: a source, a source's window, a view or a view's history."""
    at = section.line_in("inputs", alias)
    if isinstance(node, ScalarNode) and not is_null(node):
        if node.text in names.views and node.text not in names.sources:
            return find_view(report, node.text, at)
        return names.input(report, node.text, at)
    if not isinstance(node, MappingNode):
        section.wrong("inputs", f"{_INPUT} for {alias!r}", node)
        return None
    part = Section(report, section.file, node, ("source", "view", "window", "history"))
    history = part.flag("history", default=False)
    window = part.text("window")
    if ("source" in part) == ("view" in part):
        report.add(f"has input {alias!r} with {'both' if 'view' in part else 'neither'} source and view."
                   .replace("neither source and", "neither source nor"),
                   f"Write {{{alias}: {{source: orders, window: 30d}}}}, say.", at=at)  # fmt: skip
        return None
    if "view" in part:
        if window is not None:
            report.add(f"puts a window on a view (input {alias!r}); windows bound the events of sources.",
                       "Write history: true for every interval of the view within the own one.", at=at)  # fmt: skip
        view = find_view(report, part.text("view") or "", at)
        return ViewHistory(view) if view is not None and history else view
    if history:
        report.add(f"asks for the history of a source (input {alias!r}); only views have one.",
                   "Write window: 30d, say.", at=at)  # fmt: skip
    source = names.source(report, part.text("source") or "", at)
    return source if source is None or window is None else WindowedSource(source=source, window=window, location=at)
