"""Checks of a view's inputs: the relations that its SQL or Python function reads, by alias.

Inputs are objects, so that edges between views are Python references; events have to be bounded in time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from fstore.definitions.feature_view import FeatureReference, FeatureView, Input, ViewHistory
from fstore.definitions.location import Location
from fstore.definitions.problems import Reporter
from fstore.definitions.source import Source, WindowedSource
from fstore.definitions.validation import kind_of, read_duration

_ALIAS = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNBOUNDED = "all"


def input_source(item: object) -> Source | None:
    """Return the source that an input refers to, if it is one."""
    source = item.source if isinstance(item, WindowedSource) else item
    return source if isinstance(source, Source) else None


def input_view(item: object) -> type[FeatureView] | None:
    """Return the view that an input refers to, if it is one."""
    if isinstance(item, ViewHistory):
        return item.view
    return item if isinstance(item, type) and issubclass(item, FeatureView) else None


def read_inputs(report: Reporter, value: object, *, at: Location | None) -> tuple[Input, ...]:
    """Return the inputs of a view in the order in which they are written, or report what is wrong with them."""
    if not isinstance(value, Mapping) or not value:
        got = "an empty one" if isinstance(value, Mapping) else kind_of(value)
        report.add(f'has wrong inputs: expected a mapping such as {{"o": orders.window("30d")}}, got {got}.', at=at)
        return ()
    here = report.about(report.subject, at)
    inputs: list[Input] = []
    seen: set[str] = set()
    for alias, item in value.items():
        if not isinstance(alias, str) or not _ALIAS.fullmatch(alias):
            here.add(f"has a wrong input name: {alias!r} cannot name a table in SQL or a parameter in Python.")
            continue
        if alias.lower() in seen:
            here.add(f"has two inputs called {alias!r} (case does not count).", "Rename one.")
        seen.add(alias.lower())
        read = _read_input(here, alias, item)
        if read is not None:
            inputs.append(read)
    return tuple(inputs)


def _read_input(report: Reporter, alias: str, item: object) -> Input | None:
    match item:
        case WindowedSource():
            return _read_window(report, alias, item)
        case ViewHistory() if not item.view.__body__.abstract:
            return Input(alias=alias, kind="view", name=item.view.__body__.name, history=True)
        case type() if issubclass(item, FeatureView) and not item.__body__.abstract:
            return Input(alias=alias, kind="view", name=item.__body__.name)
        case _ if isinstance(item, Source):
            return _read_source(report, alias, item)
        case _:
            _report_input(report, alias, item)
            return None


def _read_source(report: Reporter, alias: str, source: Source) -> Input:
    if not source.is_dimension:
        report.add(
            f"reads the events of source {source.name!r} (input {alias!r}) without saying how far back.",
            f'Bound them: {{"{alias}": {source.name}.window("30d")}}, or "all" for every event there is.',
        )
    return Input(alias=alias, kind="source", name=source.name)


def _read_window(report: Reporter, alias: str, item: WindowedSource) -> Input | None:
    here = report.about(report.subject, item.location)
    if item.source.is_dimension and item.source.keys is not None:
        here.add(
            f"puts a window on source {item.source.name!r} (input {alias!r}), which is a dimension: the newest row counts.",
            f'Write {{"{alias}": {item.source.name}}}.',
        )
    elif item.window != _UNBOUNDED:
        read_duration(here, f"window of input {alias!r}", item.window)
    return Input(alias=alias, kind="source", name=item.source.name, window=item.window)


def _report_input(report: Reporter, alias: str, item: object) -> None:
    """Say why an object is no input."""
    match item:
        case str():
            report.add(
                f"gives input {alias!r} as the text {item!r}; inputs are objects, never strings.",
                f'Import the source or view and write {{"{alias}": {item}}}.',
            )
        case FeatureReference():
            report.add(
                f"gives input {alias!r} as the single feature {item!r}; inputs are whole views.",
                f'Write {{"{alias}": {item.view.__name__}}}.',
            )
        case ViewHistory() | type() if (view := input_view(item)) is not None:
            report.add(
                f"gives input {alias!r} as {view.__name__}, which is a template (abstract = True).",
                "Read a view that inherits from it.",
            )
        case _:
            report.add(f"gives input {alias!r} as {kind_of(item)}; an input is a source or a view.")
