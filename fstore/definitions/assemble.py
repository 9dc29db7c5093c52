"""Put together what the imported modules declare: one :class:`Project` out of many modules.

Takes the modules and the view classes made while they were imported, and gives everything without a problem, and every
problem. What refers to a declaration with a problem is left out too, and told which file blocks it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import TypeVar

from fstore.definitions.collect import collect_view, view_references
from fstore.definitions.declarations import entity_problems
from fstore.definitions.entity import Entity
from fstore.definitions.feature_service import FeatureService
from fstore.definitions.feature_view import FeatureView, View
from fstore.definitions.location import Location
from fstore.definitions.on_demand import OnDemand, OnDemandFeature
from fstore.definitions.on_demand_rules import collect_on_demand, on_demand_views
from fstore.definitions.problems import Reporter
from fstore.definitions.project import Problem, Project, Service
from fstore.definitions.services import collect_service, service_views
from fstore.definitions.source import Source, member_sources, with_members
from fstore.definitions.source_rules import source_problems
from fstore.definitions.twin_wording import in_yaml
from fstore.definitions.twins import Twins

Declared = TypeVar("Declared", bound=Entity | Source | FeatureService | OnDemand)


def assemble_project(
    project: str,
    directory: str,
    modules: Mapping[str, ModuleType],
    views: Sequence[type[FeatureView]],
    failed: Collection[str],
    *,
    twins: Twins | None = None,
) -> Project:
    """Return the project that imported modules, and twins of modules, declare.

    ``modules`` are by file, ``views`` in the order of their making (so that a view comes after those it reads), ``failed``
    the files whose import failed: their views do not count.
    """
    twins = twins or Twins()
    concrete = [view for view in (*views, *twins.views) if not view.__body__.abstract]
    values = module_values({**modules, **twins.modules})
    references = [view_references(view) for view in concrete]
    entities = [value for value in values if isinstance(value, Entity)] + [
        item for found, _, _ in references for item in found
    ]
    named = [value for value in values if isinstance(value, Source)] + [item for _, found, _ in references for item in found]
    sources = [item for source in named for item in with_members(source)]
    services = [value for value in values if isinstance(value, FeatureService)]
    on_demand = [value for value in values if isinstance(value, OnDemand)]
    assembly = _Assembly(twins)
    sound_entities = assembly.sound("entity", entities, entity_problems)
    sound_sources = assembly.sound_sources(sources)
    sound_views = assembly.sound_views(concrete, failed)
    sound_on_demand = assembly.sound_on_demand([*on_demand, *_listed_on_demand(services)])
    sound_services = assembly.sound_services(services)
    return Project(
        project=project,
        directory=directory,
        entities=sound_entities,
        sources=sound_sources,
        views={view.name: view for view in sorted(sound_views, key=lambda view: view.module)},
        services=sound_services,
        on_demand=sound_on_demand,
        problems=tuple(assembly.problems),
        broken={body.name: body.location for view in concrete if (body := view.__body__) and id(view) in assembly.broken},
    )


class _Assembly:
    """The problems found so far, and the declarations that have one, by identity, with their place and name."""

    def __init__(self, twins: Twins) -> None:
        self.twins = twins
        self.problems: list[Problem] = list(twins.loose)
        self.broken: dict[int, tuple[Location, str]] = {}

    def sound(
        self, noun: str, items: Iterable[Declared], problems_of: Callable[[Declared], list[Problem]]
    ) -> dict[str, Declared]:
        """Return the declarations without a problem by name, in the order of files and lines."""
        unique = {id(item): item for item in items}
        ordered = sorted(unique.values(), key=lambda item: (_place(item).file, _place(item).line))
        for item in ordered:
            self.record(item, f"{noun} {item.name!r}", _place(item), problems_of(item))
        self.report_duplicates(noun, [(item, str(item.name), _place(item)) for item in ordered])
        return {item.name: item for item in ordered if id(item) not in self.broken}

    def sound_sources(self, sources: Iterable[Source]) -> dict[str, Source]:
        """Return the sources without a problem by name; one that is made of a broken one is told so."""

        def problems_of(source: Source) -> list[Problem]:
            members = member_sources(source)
            for member in members:
                self.broken.update({} if id(member) in self.broken else _broken(member))
            blocked = self.blocked(f"source {source.name!r}", _place(source), members)
            return [*source_problems(source), *blocked]

        return self.sound("source", sources, problems_of)

    def sound_views(self, views: Sequence[type[FeatureView]], failed: Collection[str]) -> list[View]:
        """Return the values of the views without a problem, in the order given."""
        self.report_duplicates(
            "feature view",
            [(view, view.__body__.name, view.__body__.location) for view in views if view.__body__.module not in failed],
        )
        collected: list[View] = []
        for view in views:
            body = view.__body__
            subject = f"feature view {body.name!r}"
            if body.module in failed:
                self.broken[id(view)] = (body.location, subject)
                continue
            value, problems = collect_view(view)
            entities, sources, upstream = view_references(view)
            blocked = self.blocked(subject, body.location, [*entities, *sources, *upstream])
            self.record(view, subject, body.location, [*problems, *blocked])
            if value is not None and id(view) not in self.broken:
                collected.append(value)
        return collected

    def sound_on_demand(self, items: Iterable[OnDemand]) -> dict[str, OnDemandFeature]:
        """Return the on-demand features without a problem by name."""
        values: dict[str, OnDemandFeature] = {}

        def problems_of(item: OnDemand) -> list[Problem]:
            value, problems = collect_on_demand(item)
            if value is not None:
                values[value.name] = value
            subject = f"on-demand feature {item.name!r}"
            return [*problems, *self.blocked(subject, _place(item), on_demand_views(item))]

        return {name: values[name] for name in self.sound("on-demand feature", items, problems_of)}

    def sound_services(self, services: Iterable[FeatureService]) -> dict[str, Service]:
        """Return the services without a problem by name."""
        values: dict[str, Service] = {}

        def problems_of(service: FeatureService) -> list[Problem]:
            value, problems = collect_service(service)
            if value is not None:
                values[value.name] = value
            subject = f"feature service {service.name!r}"
            return [*problems, *self.blocked(subject, _place(service), service_views(service))]

        return {name: values[name] for name in self.sound("feature service", services, problems_of)}

    def record(self, item: object, subject: str, place: Location, problems: Sequence[Problem]) -> None:
        """Keep the problems of a declaration; of a twin, those of its structure before those of its values."""
        found = self.twins.problems.get(id(item)) or [
            in_yaml(problem, self.twins.features.get(id(item))) if id(item) in self.twins.problems else problem
            for problem in problems
        ]
        self.problems.extend(found)
        if found:
            self.broken.setdefault(id(item), (place, subject))

    def blocked(self, subject: str, place: Location, references: Iterable[object]) -> list[Problem]:
        """Return a problem for each declaration with a problem that another one refers to."""
        report = Reporter([], subject, place)
        for number in dict.fromkeys(id(item) for item in references):
            if number in self.broken:
                location, name = self.broken[number]
                report.add(f"is blocked by {location}: {name} has a problem.", "Solve that one first.")
        return report.problems

    def report_duplicates(self, noun: str, items: Sequence[tuple[object, str, Location]]) -> None:
        """Report every declaration with the name of an earlier one; none of them counts."""
        first: dict[str, tuple[object, Location]] = {}
        for item, name, place in items:
            if name not in first:
                first[name] = (item, place)
                continue
            subject = f"{noun} {name!r}"
            other, where = first[name]
            report = Reporter(self.problems, subject, place)
            report.add(f"is declared at {where} as well.", "Rename one of them.")
            self.broken.setdefault(id(item), (place, subject))
            self.broken.setdefault(id(other), (where, subject))


def _broken(source: Source) -> dict[int, tuple[Location, str]]:
    """Return the entry of a source that has a problem; nothing for a sound one."""
    wrong = source_problems(source) or any(_broken(member) for member in member_sources(source))
    return {id(source): (_place(source), f"source {source.name!r}")} if wrong else {}


def _listed_on_demand(services: Iterable[FeatureService]) -> list[OnDemand]:
    """Return the on-demand features that services list, which need not have a name in a module."""
    return [item for service in services for item in service_views(service) if isinstance(item, OnDemand)]


def _place(item: Entity | Source | FeatureService | OnDemand) -> Location:
    return item.location or Location("", 0)


def module_values(modules: Mapping[str, ModuleType]) -> list[object]:
    """Return what modules have at their top level, by file in order."""
    return [value for file in sorted(modules) for value in _module_values(modules[file])]


def _module_values(module: ModuleType) -> Iterator[object]:
    """Yield what a module has at its top level, looking into lists, tuples and mappings."""
    for value in list(vars(module).values()):
        if isinstance(value, Mapping):
            yield from value.values()
        elif isinstance(value, list | tuple):
            yield from value
        else:
            yield value
