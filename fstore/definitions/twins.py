"""Twins: the declarations of ``.yaml`` and ``.sql`` files, as the same objects that Python modules declare.

Takes the twin files and what the Python modules declare, and gives, for every file, the entities, sources, views and
services in it, as a module would have them; from there on nothing differs. Twins refer to everything by name, in whatever
file it is; Python modules cannot refer to twins. Whatever is wrong is kept with the declaration, at its line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TypeVar, get_args

import msgspec

from fstore.definitions.entity import Entity
from fstore.definitions.feature_service import FeatureService
from fstore.definitions.feature_view import AliasedView, Body, FeatureReference, FeatureView, view_of
from fstore.definitions.location import Location
from fstore.definitions.on_demand import OnDemand
from fstore.definitions.problems import Reporter
from fstore.definitions.project import Problem
from fstore.definitions.source import Source
from fstore.definitions.twin_files import Document, read_twins
from fstore.definitions.twin_members import read_checks, read_members
from fstore.definitions.twin_names import Names
from fstore.definitions.twin_sections import Section, shown
from fstore.definitions.twin_sources import read_input, read_source
from fstore.definitions.validation import report_unknown
from fstore.definitions.yaml_nodes import MappingNode, Node, ScalarNode, YamlError

Declared = TypeVar("Declared")

_SOURCES: dict[str, type[Source]] = {kind.__name__: kind for kind in get_args(Source)}
KINDS = ("FeatureView", "Entity", *_SOURCES, "FeatureService")
"""The kinds of declarations that can be twins."""

_VIEW_KEYS = ("name", "description", "entity", "source", "inputs", "sql", "schedule", "timezone", "start", "end", "ttl",
              "owner", "tags", "online", "pipeline", "features", "checks")  # fmt: skip
_SERVICE_KEYS = ("name", "features", "owner", "description", "tags")
_PYTHON_ONLY = ("compute", "uses", "abstract")
_VIEW_TEXTS = ("schedule", "timezone", "start", "end", "ttl", "pipeline", "sql")


class Twins:
    """What the twin files of a project declare.

    ``modules`` are by file. ``views`` are in an order in which each comes after those that it reads. ``problems`` are those
    of a declaration, by its identity, ``loose`` those of files that cannot be read. ``features`` says how a view's features
    are written.
    """

    def __init__(self) -> None:
        self.modules: dict[str, ModuleType] = {}
        self.views: list[type[FeatureView]] = []
        self.problems: dict[int, list[Problem]] = {}
        self.loose: list[Problem] = []
        self.features: dict[int, MappingNode] = {}


def load_twins(
    files: Mapping[str, Path], values: Sequence[object], views: Sequence[type[FeatureView]]
) -> Twins:  # fmt: skip
    """Return what twin files declare, given what the Python modules do."""
    return _Loader(Names(values, views), [value for value in values if isinstance(value, OnDemand)]).load(files)


class _Loader:
    """Holds the declarations while they are made: names first, then what refers to them."""

    def __init__(self, names: Names, on_demand: Sequence[OnDemand]) -> None:
        self.names, self.twins = names, Twins()
        self.on_demand = {str(item.name): item for item in on_demand}
        self.sources: dict[str, Document] = {}
        self.made: set[int] = set()
        self.documents: dict[int, Document] = {}
        self.building: list[type[FeatureView]] = []

    def load(self, files: Mapping[str, Path]) -> Twins:
        by_kind: dict[str, list[Document]] = {kind: [] for kind in KINDS}
        for file, path in files.items():
            self.twins.modules[file] = ModuleType(file)
            for document in self.read(file, path):
                by_kind[document.kind].append(document)
        for document in by_kind["Entity"]:
            self.declare(document, self.entity)
        sources = [document for kind in _SOURCES for document in by_kind[kind]]
        self.sources = {_name_of(document): document for document in sources}
        for document in sources:
            self.source_of(document)
        twins = [self.begin_view(document) for document in by_kind["FeatureView"]]
        for view in twins:
            self.finish_view(view)
        for document in by_kind["FeatureService"]:
            self.declare(document, self.service)
        return self.twins

    def read(self, file: str, path: Path) -> list[Document]:
        """Return the documents of a file that are of a known kind."""
        report = Reporter(self.twins.loose, "definition file", Location(file, 1))
        try:
            documents = read_twins(path, file)
        except (YamlError, OSError) as error:
            line, fix = (error.line, error.fix) if isinstance(error, YamlError) else (1, "")
            text = error.problem if isinstance(error, YamlError) else f"cannot be read: {error}."
            report.add(text, fix, at=Location(file, line))
            return []
        for document in documents:
            if document.kind not in KINDS:
                report_unknown(report, "declares a", document.kind, KINDS, at=Location(file, document.line))
        return [document for document in documents if document.kind in KINDS]

    def declare(self, document: Document, make: Callable[[Reporter, Document, str], Declared]) -> Declared:
        """Make a declaration, and keep it and its problems."""
        name = _name_of(document)
        noun = {"Entity": "entity", "FeatureService": "feature service"}.get(document.kind, "source")
        problems: list[Problem] = []
        made = make(Reporter(problems, f"{noun} {name!r}", Location(document.file, document.line)), document, name)
        self.keep(document, made, problems)
        return made

    def keep(self, document: Document, made: object, problems: list[Problem]) -> None:
        module = vars(self.twins.modules[document.file])
        module[f"{len(module)}"] = made
        self.twins.problems[id(made)] = problems
        self.names.add(made)

    # -- entities and sources -----------------------------------------------------------------------------------------

    def entity(self, report: Reporter, document: Document, name: str) -> Entity:
        section = Section(report, document.file, document.node, ("name", "join_keys", "description"))
        section.require("name", "name: user")
        keys = section.mapping_of_texts("join_keys") if section.require("join_keys", "join_keys: {user_id: string}") else {}
        return Entity(name, join_keys=keys, description=(section.text("description") or "").strip(),
                      location=Location(document.file, document.line))  # fmt: skip

    def source_of(self, document: Document) -> None:
        """Make a source, after those that it is made of."""
        if id(document) not in self.made:
            self.made.add(id(document))
            self.declare(document, self.source)

    def source(self, report: Reporter, document: Document, name: str) -> Source:
        def member(text: str, at: Location) -> Source | None:
            other = self.sources.get(text)
            if other is not None:
                self.source_of(other)
            if other is not None and text not in self.names.sources:
                report.add(f"is made of source {text!r}, which is made of this one.", "Break the circle.", at=at)
                return None
            return self.names.source(report, text, at, "is made of source")

        return read_source(report, document, _SOURCES[document.kind], name, member)

    # -- views --------------------------------------------------------------------------------------------------------

    def begin_view(self, document: Document) -> type[FeatureView]:
        """Make the class of a view, so that others can refer to it."""
        name = _name_of(document)
        view = view_of(_empty_body(document, name))
        self.documents[id(view)] = document
        self.names.views.setdefault(name, view)
        return view

    def finish_view(self, view: type[FeatureView]) -> None:
        """Fill the body of a view's class, after those of the views that it reads."""
        document = self.documents.pop(id(view), None)
        if document is None:
            return
        self.building.append(view)
        problems: list[Problem] = []
        name = view.__body__.name
        report = Reporter(problems, f"feature view {name!r}", Location(document.file, document.line))
        view.__body__ = self.body(report, document, name)
        self.building.pop()
        self.twins.problems[id(view)] = problems
        self.twins.views.append(view)
        features = document.node.entries.get("features")
        if isinstance(features, MappingNode):
            self.twins.features[id(view)] = features

    def body(self, report: Reporter, document: Document, name: str) -> Body:
        node = document.node
        aggregates = not {"sql", "compute"} & set(node.entries)
        for key in _PYTHON_ONLY:
            if key in node.entries:
                del node.entries[key]
                report.add(f"has key {key!r}, which only Python can say.", "Move the view to a Python module.",
                           at=Location(document.file, node.lines[key]))  # fmt: skip
        section = Section(report, document.file, node, _VIEW_KEYS)
        section.require("name", "name: user_purchases")
        section.require("features", "features: {n: {agg: count, over: 7d}}")
        given: dict[str, object] = {key: section.text(key) for key in _VIEW_TEXTS if key in section}
        self.read_references(report, section, given)
        if "owner" in section:
            given["owner"] = section.text("owner")
        if "online" in section:
            given["online"] = section.flag("online", default=True)
        if "tags" in section:
            given["tags"] = section.mapping_of_texts("tags")
        if "checks" in section:
            given["checks"] = read_checks(report, section)
        members, lines = read_members(report, section, name, self.bound, aggregates=aggregates)
        return msgspec.structs.replace(
            _empty_body(document, name),
            attributes={**given, **members},
            lines={**{key: section.at(key) for key in node.entries}, **lines},
            description=(section.text("description") or "").strip(),
        )

    def read_references(self, report: Reporter, section: Section, given: dict[str, object]) -> None:
        """Find the entity, the source and the inputs of a view."""
        if (entity := section.text("entity")) is not None:
            given["entity"] = self.names.entity(report, entity, section.at("entity"))
        if (source := section.text("source")) is not None:
            given["source"] = self.names.source(report, source, section.at("source"))
        if "inputs" in section:
            found: dict[str, object] = {}
            for alias, node in section.entries("inputs", "a mapping such as {u: users}").items():
                found[alias] = read_input(report, section, alias, node, self.names, self.view)
            given["inputs"] = found

    def view(self, report: Reporter, name: str, at: Location) -> type[FeatureView] | None:
        """Return a view by name, finished unless it is the one being made."""
        view = self.names.view(report, name, at)
        if view is not None and view not in self.building:
            self.finish_view(view)
        return view

    def feature(self, report: Reporter, text: str, at: Location, verb: str) -> FeatureReference | None:
        """Return a reference to a feature of another view."""

        def members(view: type[FeatureView]) -> Mapping[str, object]:
            if view not in self.building:
                self.finish_view(view)
            return view.__body__.attributes

        return self.names.feature(report, text, at, verb, members)

    def bound(self, report: Reporter, file: str, node: Node, verb: str) -> FeatureReference | None:
        """Return a reference to a feature of another view, which may be joined under an alias."""
        at = report.location or Location(file, node.line)
        if isinstance(node, ScalarNode):
            return self.feature(report, node.text, at, verb)
        if not isinstance(node, MappingNode):
            report.add(f"{verb} {shown(node)}, which is no feature.",
                       "Write the view and the feature: user_purchases:n_7d.", at=at)  # fmt: skip
            return None
        section = Section(report, file, node, ("feature", "as", "keys"))
        text = section.text("feature") if section.require("feature", "feature: user_purchases:n_7d") else None
        found = self.feature(report, text, at, verb) if text else None
        return self.under_alias(section, found) if found is not None and "as" in section else found

    def under_alias(self, section: Section, found: FeatureReference) -> FeatureReference:
        under = AliasedView(found.view, section.text("as") or "", section.mapping_of_texts("keys"))
        return FeatureReference(found.view, found.attribute, found.window, under=under)

    # -- services -----------------------------------------------------------------------------------------------------

    def service(self, report: Reporter, document: Document, name: str) -> FeatureService:
        section = Section(report, document.file, document.node, _SERVICE_KEYS)
        section.require("name", "name: churn")
        section.require("features", "features: [user_purchases:n_7d]")
        listed = [self.listed(report, document.file, node) for node in section.items("features")]
        return FeatureService(
            name,
            features=[item for item in listed if item is not None],
            owner=section.text("owner") or "",
            description=(section.text("description") or "").strip(),
            tags=section.mapping_of_texts("tags"),
            location=Location(document.file, document.line),
        )

    def listed(
        self, report: Reporter, file: str, node: Node
    ) -> FeatureReference | AliasedView | type[FeatureView] | OnDemand | None:
        at = Location(file, node.line)
        if isinstance(node, ScalarNode):
            return self.listed_text(report, node.text, at)
        if not isinstance(node, MappingNode):
            report.add(f"lists {shown(node)}.", "List views and features: user_purchases:n_7d, say.", at=at)
            return None
        section = Section(report, file, node, ("view", "feature", "as", "keys"))
        found = self.listed_text(report, section.text("feature") or section.text("view") or "", at)
        if found is None or not section.require("as", "as: dest") or isinstance(found, OnDemand | AliasedView):
            return found
        if isinstance(found, FeatureReference):
            return self.under_alias(section, found)
        return AliasedView(found, section.text("as") or "", section.mapping_of_texts("keys"))

    def listed_text(
        self, report: Reporter, text: str, at: Location
    ) -> FeatureReference | type[FeatureView] | OnDemand | None:  # fmt: skip
        if text.startswith("on_demand:"):
            name = text.removeprefix("on_demand:")
            if name not in self.on_demand:
                report_unknown(report, "lists on-demand feature", name, sorted(self.on_demand), at=at)
            return self.on_demand.get(name)
        if ":" not in text:
            return self.names.view(report, text, at, "lists view")
        return self.feature(report, text, at, "lists")


def _name_of(document: Document) -> str:
    node = document.node.entries.get("name")
    return node.text if isinstance(node, ScalarNode) else ""


def _location(document: Document) -> Location:
    return Location(document.file, document.line)


def _empty_body(document: Document, name: str) -> Body:
    return Body(name=name, module=document.file, attributes={}, lines={}, repeated=(), annotated=(), parents=(),
                description="", location=_location(document), abstract=False)  # fmt: skip
