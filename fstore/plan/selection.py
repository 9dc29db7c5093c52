"""Choose steps of a plan by name, tag, owner, module or pipeline, with what is upstream or downstream of them.

A selector is ``view``, ``tag:key=value`` (or ``tag:key``), ``owner:name``, ``module:path`` or ``pipeline:name``, where names
may hold ``*``. ``+`` in front adds everything upstream, ``+`` behind everything downstream. Several selectors add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from fstore.errors import UnknownFeature, did_you_mean, listing
from fstore.plan.steps import Step

_METHODS = ("tag", "owner", "module", "pipeline")


def select_steps(steps: Sequence[Step], selectors: Sequence[str]) -> list[Step]:
    """Return the steps that any selector chooses, in the order of the plan; all of them when there is no selector.

    Raises UnknownFeature when a selector chooses nothing.
    """
    if not selectors:
        return list(steps)
    upstream = {step.view: step.upstream for step in steps}
    downstream: dict[str, list[str]] = {step.view: [] for step in steps}
    for step in steps:
        for name in step.upstream:
            downstream.setdefault(name, []).append(step.view)
    chosen: set[str] = set()
    for selector in selectors:
        chosen |= _select(steps, selector, upstream, downstream)
    return [step for step in steps if step.view in chosen]


def _select(
    steps: Sequence[Step], selector: str, upstream: Mapping[str, Iterable[str]], downstream: Mapping[str, Iterable[str]]
) -> set[str]:
    core = selector.removeprefix("+").removesuffix("+")
    method, separator, value = core.partition(":")
    if separator and method not in _METHODS:
        raise UnknownFeature(f"selector {selector!r} begins with {method!r}, which is none of {listing(_METHODS)}")
    found = {step.view for step in steps if _matches(step, method if separator else "view", value if separator else core)}
    if not found:
        names = [step.view for step in steps]
        raise UnknownFeature(f"selector {selector!r} chooses no view.{did_you_mean(core, names)} Views: {listing(names)}")
    if selector.startswith("+"):
        found |= _reachable(found, upstream)
    if selector.endswith("+"):
        found |= _reachable(found, downstream)
    return found


def _matches(step: Step, method: str, value: str) -> bool:
    match method:
        case "tag":
            key, separator, wanted = value.partition("=")
            return any(fnmatchcase(k, key) and (not separator or fnmatchcase(v, wanted)) for k, v in step.tags.items()) or (
                not separator and any(fnmatchcase(v, value) for v in step.tags.values())
            )
        case "owner":
            return fnmatchcase(step.owner, value)
        case "module":
            return fnmatchcase(step.module, value) or fnmatchcase(step.module, f"*/{value}")
        case "pipeline":
            return fnmatchcase(step.pipeline, value)
        case _:
            return fnmatchcase(step.view, value)


def _reachable(start: Iterable[str], edges: Mapping[str, Iterable[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = list(start)
    while waiting:
        for name in edges.get(waiting.pop(), ()):
            if name not in seen:
                seen.add(name)
                waiting.append(name)
    return seen
