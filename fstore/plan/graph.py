"""Which views are computed before which.

Takes the views of a project and gives them in dependency order: upstream first, ties by name, so that the order depends on
nothing but the definitions. Views on a cycle are reported, drawn as a chain, and left out. Knows only names and inputs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

from fstore.definitions.expression import Expression
from fstore.definitions.feature_view import View
from fstore.definitions.problems import Reporter
from fstore.definitions.project import Problem


def upstream_views(view: View) -> list[str]:
    """Return the names of the views that a view reads, each once: those of its inputs, then those its expressions bind."""
    read = [item.name for item in view.inputs if item.kind == "view"]
    bound = [item.view for member in view.members.values() if isinstance(member, Expression)
             for item in member.features.values()]  # fmt: skip
    return list(dict.fromkeys([*read, *bound]))


def with_upstream(views: Mapping[str, View], names: Iterable[str]) -> set[str]:
    """Return the given views and everything upstream of them."""
    found: set[str] = set()
    waiting = [name for name in names if name in views]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(item for item in upstream_views(views[name]) if item in views)
    return found


def order_views(views: Mapping[str, View], problems: list[Problem]) -> tuple[list[View], set[str]]:
    """Return the views in dependency order, and the names of those that are on a cycle (not among the first).

    Every cycle that remains once the ones found before are cut is reported as a problem of its first view.
    """
    edges = {name: {item for item in upstream_views(view) if item in views} for name, view in sorted(views.items())}
    cyclic: set[str] = set()
    while cycle := _find_cycle(edges):
        cyclic.update(cycle)
        _report_cycle(cycle, views, problems)
        for name in cycle:
            edges.pop(name)
        for upstream in edges.values():
            upstream.difference_update(cycle)
    return [views[name] for name in _sorted_topologically(edges)], cyclic


def _find_cycle(edges: Mapping[str, Collection[str]]) -> list[str]:
    """Return the views of one cycle, each reading the next, starting with the first by name; empty when there is none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        chain: list[str] = error.args[1][:-1]
        chain.reverse()  # graphlib lists each node before the one that depends on it
        first = chain.index(min(chain))
        return chain[first:] + chain[:first]
    return []


def _report_cycle(cycle: list[str], views: Mapping[str, View], problems: list[Problem]) -> None:
    places = [f"{name} ({views[name].location.file}:{views[name].location.line})" for name in cycle]
    chain = " -> ".join([*places, cycle[0]])
    reporter = Reporter(problems, f"feature view {cycle[0]!r}", views[cycle[0]].location)
    reporter.add(f"reads itself: {chain}.", "Remove one of these inputs.")


def _sorted_topologically(edges: Mapping[str, Collection[str]]) -> list[str]:
    """Return names in dependency order; those that become ready together are sorted."""
    sorter = TopologicalSorter(edges)
    sorter.prepare()
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        order.extend(ready)
        sorter.done(*ready)
    return order
