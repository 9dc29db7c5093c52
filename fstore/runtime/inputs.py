"""What a step may read for an interval: which upstream publications it pins, and the relations cut to its instants.

Goes from a step and its intervals to pinned publications (recorded when the attempt begins, checked again when it is
published) and to the engine's relations. Waits for nothing: intervals whose upstream is not published are named as missing.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain

import msgspec

from fstore.arrow import arrow_schema
from fstore.backends import Backends
from fstore.definitions.source import PostgresSource, Source, physical_sources
from fstore.engines.engine import ArrowRelation, DimensionRelation, EventRelation, Relation
from fstore.errors import FStoreError, UnknownFeature
from fstore.interval import Interval
from fstore.plan.steps import (
    EVENT_TIMESTAMP,
    DimensionInput,
    EventInput,
    HistoryInput,
    SnapshotInput,
    Step,
    ViewInput,
)
from fstore.registry.records import Head, Pin
from fstore.registry.registry import Registry
from fstore.runtime.sources import observe_sources
from fstore.types import Column


class MissingInput(msgspec.Struct, frozen=True, kw_only=True):
    """An upstream interval that an interval needs and that is not published."""

    interval: Interval
    view: str
    upstream: Interval


class ResolvedInputs(msgspec.Struct, frozen=True, kw_only=True):
    """Which intervals can be computed now, what the others lack, and the publications that the former read.

    ``heads`` holds, for each upstream view, the heads over the whole range, ascending; ``pins`` the parts of them that the
    ready intervals read.
    """

    ready: tuple[Interval, ...]
    missing: tuple[MissingInput, ...]
    heads: Mapping[str, tuple[Head, ...]]
    pins: tuple[Pin, ...]


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether all inputs of some intervals are published; ``impossible`` says which can never be, and why."""

    ready: bool
    waiting: tuple[MissingInput, ...] = ()
    impossible: tuple[str, ...] = ()


def required_upstream(item: ViewInput, interval: Interval) -> list[Interval]:
    """Return the intervals of an upstream view that an interval reads; none before the upstream's start."""
    until = interval.end if item.end is None else min(interval.end, item.end)
    if isinstance(item, HistoryInput):
        return item.schedule.intervals(max(interval.start, item.start), until)
    newest = item.schedule.interval_ending_by(until)
    return [newest] if newest.start >= item.start else []


def resolve_inputs(registry: Registry, step: Step, intervals: Sequence[Interval]) -> ResolvedInputs:
    """Match every interval with the upstream publications that it reads."""
    upstream = [item for item in step.inputs if isinstance(item, ViewInput)]
    needs: dict[Interval, list[tuple[str, Interval]]] = {interval: [] for interval in intervals}
    read: dict[str, list[Interval]] = {item.view: [] for item in upstream}  # a view may be read in more than one way
    for item in upstream:
        for interval, needed_by in needs.items():
            upstream_intervals = required_upstream(item, interval)
            read[item.view].extend(upstream_intervals)
            needed_by.extend((item.view, needed) for needed in upstream_intervals)
    heads = {view: _heads(registry, view, every) for view, every in read.items()}
    missing: list[MissingInput] = []
    ready: list[Interval] = []
    pinned: dict[tuple[str, Interval], Head] = {}
    for interval in intervals:
        found = {(view, needed): head_of(heads[view], needed) for view, needed in needs[interval]}
        lacking = [key for key, head in found.items() if head is None]
        if lacking:
            missing.extend(MissingInput(interval=interval, view=view, upstream=needed) for view, needed in lacking)
        else:
            ready.append(interval)
            pinned.update({key: head for key, head in found.items() if head is not None})
    return ResolvedInputs(ready=tuple(ready), missing=tuple(missing), heads=heads, pins=_merge_pins(pinned))


def observe_step(backends: Backends, step: Step) -> dict[str, int]:
    """Look at the sources that a step reads and log what changed; return the newest change of each by its identity.

    To be called before anything is read: whatever changes later is a later change.
    """
    sources = [item.source for item in step.inputs if isinstance(item, EventInput | DimensionInput)]
    return observe_sources(backends, sources) if sources else {}


def look_at_files(backends: Backends, steps: Iterable[Step]) -> list[str]:
    """Log what changed in the files that some steps read, and return what could not be looked at, and why.

    Tables are left alone: looking at one means to copy what is new in it.
    """
    sources: dict[str, list[Source]] = {}
    for step in steps:
        for item in step.inputs:
            if isinstance(item, EventInput | DimensionInput):
                same_name = sources.setdefault(item.source.name, [])
                if item.source not in same_name:
                    same_name.append(item.source)
    problems: dict[str, str] = {}
    for source in chain.from_iterable(sources.values()):
        if any(isinstance(physical, PostgresSource) for physical in physical_sources(source)):
            continue
        try:
            observe_sources(backends, [source])
        except FStoreError as error:
            problems[source.name] = str(error)
    return [f"source {name!r} could not be looked at for changes: {problem}" for name, problem in problems.items()]


def input_readiness(registry: Registry, step: Step, intervals: Sequence[Interval]) -> Readiness:
    """Say whether all that the intervals read is published, what is awaited, and what can never come.

    An upstream interval that its checks have blocked is not awaited, because nothing will publish it by itself: the
    intervals that read it are left out when the others are computed.
    """
    resolved = resolve_inputs(registry, step, intervals)
    blocked = {view: _blocked(registry, view) for view in {missing.view for missing in resolved.missing}}
    waiting = tuple(missing for missing in resolved.missing if missing.upstream not in blocked[missing.view])
    impossible = tuple(
        f"view {item.view!r} was removed from the definitions; {step.view!r} ({step.module}:{step.line}) still reads it"
        for item in step.inputs
        if isinstance(item, ViewInput) and registry.is_retired(item.view)
    )
    return Readiness(ready=not waiting, waiting=waiting, impossible=impossible)


def relations_for(backends: Backends, step: Step, resolved: ResolvedInputs, interval: Interval) -> dict[str, Relation]:
    """Return the relations of all inputs, by alias, cut to what existed before the end of one interval."""
    return {item.alias: _relation(backends, item, resolved, interval, interval.end) for item in step.inputs}


def event_relation(item: EventInput, first_end: datetime, last_end: datetime, keys: Sequence[str] = ()) -> EventRelation:
    """Return the events that intervals ending between the two instants may see."""
    start = None if item.window is None else first_end - item.window
    return EventRelation(source=item.source, start=start, end=last_end, columns=item.columns, keys=tuple(keys))


def head_of(heads: Sequence[Head], interval: Interval) -> Head | None:
    """Return the head that holds an interval, from heads in ascending order, or None."""
    index = bisect.bisect_right(heads, interval.start, key=lambda head: head.start) - 1
    if index >= 0 and interval.end <= heads[index].end:
        return heads[index]
    return None


def _relation(backends: Backends, item: object, resolved: ResolvedInputs, interval: Interval, end: datetime) -> Relation:
    match item:
        case EventInput():
            return event_relation(item, end, end)
        case DimensionInput():
            return DimensionRelation(source=item.source, end=end)
        case SnapshotInput() | HistoryInput():
            parts = [
                msgspec.structs.replace(head, start=needed.start, end=needed.end)
                for needed in required_upstream(item, interval)
                if (head := head_of(resolved.heads[item.view], needed)) is not None
            ]
            if not parts:
                columns = (*item.keys, Column(name=EVENT_TIMESTAMP, type="timestamp"), *item.features)
                return ArrowRelation(table=arrow_schema(columns).empty_table())
            return backends.published(backends.registry.view(item.view).step, parts)
        case _:
            raise TypeError(f"not an input of a step: {item!r}")


def _heads(registry: Registry, view: str, intervals: Sequence[Interval]) -> tuple[Head, ...]:
    if not intervals:
        return ()
    start, end = min(i.start for i in intervals), max(i.end for i in intervals)
    try:
        return tuple(registry.ledger.heads(view, start=start, end=end))
    except UnknownFeature:  # never registered, so nothing of it was published yet
        return ()


def _blocked(registry: Registry, view: str) -> set[Interval]:
    try:
        return set(registry.ledger.blocked(view))
    except UnknownFeature:  # never registered
        return set()


def _merge_pins(pinned: Mapping[tuple[str, Interval], Head]) -> tuple[Pin, ...]:
    """Return the pinned intervals as few ranges: neighbours of the same view and publication become one."""
    pins: list[Pin] = []
    for (view, interval), head in sorted(pinned.items(), key=lambda item: item[0]):
        last = pins[-1] if pins else None
        if last is not None and (last.view, last.sequence, last.end) == (view, head.sequence, interval.start):
            pins[-1] = Pin(view=view, start=last.start, end=interval.end, sequence=head.sequence)
        else:
            pins.append(Pin(view=view, start=interval.start, end=interval.end, sequence=head.sequence))
    return tuple(pins)
