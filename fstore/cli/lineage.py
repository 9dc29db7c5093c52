"""The command ``lineage``: what a view or feature is made from, and what is made from it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich.markup import escape
from rich.tree import Tree

from fstore.backends import open_backends
from fstore.cli.output import console, print_json
from fstore.errors import UnknownFeature, did_you_mean, listing
from fstore.lineage.run import view_namespace
from fstore.registry.records import Dataset, Edge
from fstore.settings import load_settings


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """Edges up and down from a view or feature, as its newest complete runs recorded them."""

    target: str
    upstream: tuple[Edge, ...]
    downstream: tuple[Edge, ...]


def show_lineage(target: str, *, as_json: bool) -> None:
    """Print the lineage of ``view`` or ``view:feature``."""
    settings = load_settings()
    view, _, feature = target.partition(":")
    with open_backends(settings) as backends:
        step = backends.registry.view(view).step
        names = [item.name for item in step.features]
        if feature and feature not in names:
            raise UnknownFeature(
                f"view {view!r} has no feature {feature!r}.{did_you_mean(feature, names)} Its features: {listing(names)}"
            )
        dataset = Dataset(view_namespace(settings.project), view)
        log = backends.registry.lineage
        lineage = Lineage(
            target=target,
            upstream=tuple(log.upstream(dataset, feature or None)),
            downstream=tuple(log.downstream(dataset, feature or None)),
        )
    if as_json:
        print_json(lineage)
        return
    if not lineage.upstream and not lineage.downstream:
        console.print(f"No run of {view!r} has completed yet, so nothing is recorded: `fstore run --select +{view}`.")
        return
    node = (dataset, feature or None)
    console.print(_tree(f"[bold]{target}[/] is made from", node, lineage.upstream, up=True))
    console.print(_tree(f"[bold]{target}[/] is read by", node, lineage.downstream, up=False))


Node = tuple[Dataset, str | None]


def _tree(title: str, root: Node, edges: Sequence[Edge], *, up: bool) -> Tree:
    """Draw the edges as a tree; a node is unfolded where it appears first."""
    tree = Tree(title)
    unfolded: set[Node] = {root}
    waiting: list[tuple[Tree, Node]] = [(tree, root)]
    while waiting:
        branch, node = waiting.pop(0)
        for edge in edges:
            near = (edge.output, edge.output_column) if up else (edge.input, edge.input_column)
            far = (edge.input, edge.input_column) if up else (edge.output, edge.output_column)
            if near != node:
                continue
            how = f" [dim]{edge.transformation.lower()}[/]" if edge.transformation else ""
            child = branch.add(f"{escape(_label(far))}{how}" + (" [dim](above)[/]" if far in unfolded else ""))
            if far not in unfolded:
                unfolded.add(far)
                waiting.append((child, far))
    if not tree.children:
        tree.add("[dim]nothing[/]")
    return tree


def _label(node: Node) -> str:
    dataset, column = node
    local = dataset.namespace.startswith("fstore.") or dataset.namespace == "file"
    name = dataset.name if local else f"{dataset.namespace}/{dataset.name}"
    return f"{name}:{column}" if column else name
