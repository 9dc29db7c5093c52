"""The commands ``status`` and ``show``: what is published, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from rich.markup import escape

from fstore.backends import Backends, open_backends
from fstore.cli.output import console, print_json, print_rows, print_table, text_of
from fstore.engines.engine import Query
from fstore.errors import FStoreError, SettingsError
from fstore.interval import Interval, format_duration, parse_instant
from fstore.plan.selection import select_steps
from fstore.plan.steps import EVENT_TIMESTAMP, Step
from fstore.registry.overlays import NEXT
from fstore.registry.records import Head
from fstore.runtime.due import due_range, subtract
from fstore.runtime.inputs import look_at_files
from fstore.runtime.versions import is_borrowed
from fstore.settings import load_settings
from fstore.stores.online import OnlineView


class ViewStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How one view stands. ``behind`` is the time between the newest due interval's end and the newest published one."""

    view: str
    pipeline: str
    published: int
    newest_end: datetime | None
    missing: int
    blocked: int
    stale: int
    behind: timedelta | None
    landing_p95: timedelta | None
    lag: timedelta
    online: str
    last_state: str
    last_message: str


class Filling(msgspec.Struct, frozen=True, kw_only=True):
    """How far the new generation of a view is: how many of the intervals that are live it has."""

    view: str
    generation: int
    filled: int
    required: int
    held: bool


class ProjectStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a project stands."""

    project: str
    registry_version: int
    sequence: int
    outbox_pending: int
    outbox_failing: int
    views: tuple[ViewStatus, ...]
    filling: tuple[Filling, ...]
    warnings: tuple[str, ...]


def show_status(selectors: Sequence[str], *, as_json: bool) -> None:
    """Print how the views of a project stand."""
    with open_backends(load_settings()) as backends:
        report = project_status(backends, selectors, datetime.now(UTC))
    if as_json:
        print_json(report)
        return
    print_table(
        f"{report.project}: registry version {report.registry_version}, {report.sequence:,} publications",
        ("view", "pipeline", "published", "newest", "missing", "blocked", "stale", "online", "last attempt"),
        [
            (v.view, v.pipeline, v.published, v.newest_end, v.missing, v.blocked, v.stale, v.online, v.last_state)
            for v in report.views
        ],
        numbers=("published", "missing", "blocked", "stale"),
        optional=("pipeline", "last attempt", "online"),
    )
    for item in report.filling:
        state = "complete, `fstore flip` makes it live" if item.held and item.filled == item.required else "being filled"
        console.print(
            f"{item.view}: generation {item.generation} has {item.filled:,} of {item.required:,} intervals that are live; "
            f"{state}"
        )
    for warning in report.warnings:
        console.print(f"[yellow]warning[/] {escape(warning)}")
    if report.outbox_pending:
        console.print(
            f"{report.outbox_pending} publication(s) wait to go online, {report.outbox_failing} of them have failed before; "
            "the maintenance DAG or the next run applies them"
        )


def project_status(backends: Backends, selectors: Sequence[str], now: datetime) -> ProjectStatus:
    """Return how the selected views stand at an instant."""
    registry = backends.registry
    steps = select_steps([view.step for view in registry.views()], selectors)
    unseen = look_at_files(backends, steps)
    state, depth = registry.state(), registry.outbox.depth()
    views = tuple(_view_status(backends, step, now) for step in steps)
    return ProjectStatus(
        project=backends.settings.project,
        registry_version=state.version,
        sequence=state.sequence,
        outbox_pending=depth.pending,
        outbox_failing=depth.failing,
        views=views,
        filling=_filling(backends),
        warnings=(*(warning for view in views for warning in _warnings(view)), *unseen),
    )


def _filling(backends: Backends) -> tuple[Filling, ...]:
    """Return the new generations that are filled beside the live ones."""
    overlays = backends.registry.overlays
    overlay = overlays.get(NEXT)
    if overlay is None:
        return ()
    lacking = overlays.lacking()
    return tuple(
        Filling(
            view=view.name, generation=view.generation, required=lacking[view.name].required, held=overlay.held,
            filled=lacking[view.name].required - len(lacking[view.name].intervals),
        )
        for view in overlay.views
        if view.name in lacking
    )  # fmt: skip


def _view_status(backends: Backends, step: Step, now: datetime) -> ViewStatus:
    ledger = backends.registry.ledger
    heads = ledger.heads(step.view)
    due = due_range(step, now)
    gaps = subtract(due, [Interval(head.start, head.end) for head in heads]) if due else []
    newest = heads[-1].end if heads else None
    history = ledger.history(step.view, limit=1)
    return ViewStatus(
        view=step.view,
        pipeline=f"{step.project}.{step.pipeline}.{step.schedule.label}",
        published=sum(len(step.schedule.intervals(head.start, head.end)) for head in heads),
        newest_end=newest,
        missing=sum(len(step.schedule.intervals(gap.start, gap.end)) for gap in gaps),
        blocked=len(ledger.blocked(step.view)),
        stale=0 if is_borrowed(backends.registry, step.view) else len(_stale(backends, step, heads)),
        behind=due.end - newest if due and newest else None,
        landing_p95=_landing_p95(heads, step),
        lag=step.lag,
        online=_online_state(backends, step, newest),
        last_state=history[0].state if history else "",
        last_message=history[0].message if history else "",
    )


def _stale(backends: Backends, step: Step, heads: Sequence[Head]) -> set[Interval]:
    """Return the intervals whose inputs were republished, or that an earlier definition with other values has published."""
    stale = set(backends.registry.ledger.stale(step.view))
    old = [head for head in heads if head.fingerprint != step.fingerprint]
    serving = backends.registry.serving_fingerprints(step) if old else frozenset[str]()
    old = [head for head in old if head.fingerprint not in serving]
    return stale | {interval for head in old for interval in step.schedule.intervals(head.start, head.end)}


def _landing_p95(heads: Sequence[Head], step: Step) -> timedelta | None:
    """Return the 95th percentile of ``published - end`` over recent single-interval publications; None for backfills."""
    recent = [
        head.published_at - head.end
        for head in heads[-100:]
        if len(step.schedule.intervals(head.start, head.end)) == 1 and head.published_at - head.end < timedelta(days=30)
    ]
    return sorted(recent)[int(len(recent) * 0.95)] if recent else None


def _online_state(backends: Backends, step: Step, newest: datetime | None) -> str:
    if not step.online:
        return "off"
    if step.kind == "event" or newest is None:
        return "on" if newest else "empty"
    generation = backends.registry.view(step.view).generation
    try:
        floor = backends.online.floor(OnlineView(project=backends.settings.project, view=step.view, generation=generation))
    except FStoreError as error:
        return error.code
    if floor is None:
        return "lost"
    return "current" if floor.end >= newest else f"at {text_of(floor.end)}"


def _warnings(view: ViewStatus) -> list[str]:
    found: list[str] = []
    if view.landing_p95 is not None and view.landing_p95 > view.lag:
        found.append(
            f"{view.view}: publications land {text_of(view.landing_p95)} after their interval's end (95th percentile), "
            f"more than the lag of {format_duration(view.lag)}: training frames see values that serving did not have yet"
        )
    if view.online == "lost":
        found.append(
            f"{view.view}: the online store has lost it; `fstore run --select {view.view}` or maintenance refills it"
        )
    if view.blocked:
        found.append(f"{view.view}: {view.blocked} interval(s) are blocked by their checks (registry table check_results)")
    return found


def show_view(name: str, at: str | None, limit: int, *, as_json: bool) -> None:
    """Print a view and the rows that hold at an instant."""
    try:
        instant = datetime.now(UTC) if at is None else parse_instant(at)
    except ValueError as error:
        raise SettingsError(f"--at is an ISO date or time such as 2026-01-31T06:00Z: {error}") from None
    with open_backends(load_settings()) as backends:
        step = backends.registry.view(name).step
        held = _holding_at(backends, step, instant)
        rows = _rows(backends, step, held, instant, limit) if held else []
    if as_json:
        print_json({"view": step, "at": instant, "interval": held, "rows": rows})
        return
    console.print(f"[bold]{step.view}[/]  {escape(step.description)}")
    ttl = format_duration(step.ttl) if step.ttl else "none"
    console.print(
        f"[dim]{step.kind} view of {step.entity}, {step.schedule.label} from {text_of(step.start)}, "
        f"lag {format_duration(step.lag)}, ttl {ttl}, owner {step.owner or 'nobody'}, {step.module}:{step.line}[/]\n"
    )
    print_table(
        "",
        ("feature", "type", "empty", "description"),
        [(feature.name, feature.type, text_of(feature.empty), feature.description) for feature in step.features],
    )
    if held is None:
        console.print(f"\nNothing is published that held at {text_of(instant)}.")
        return
    columns = [column.name for column in step.columns()]
    print_rows(f"\n{held}, published as {held.sequence}", columns, [[row[column] for column in columns] for row in rows])


class Holding(Interval, frozen=True, kw_only=True):
    """A published range and its sequence."""

    sequence: int


def _holding_at(backends: Backends, step: Step, instant: datetime) -> Holding | None:
    """Return the newest published interval that had landed by an instant (event views: everything up to it)."""
    heads = [head for head in backends.registry.ledger.heads(step.view) if head.start + step.lag < instant]
    if not heads:
        return None
    newest = heads[-1]
    if step.kind == "event":
        return Holding(heads[0].start, newest.end, sequence=newest.sequence)
    end = step.schedule.floor(min(newest.end, instant - step.lag))
    if end <= newest.start:
        return _holding_at(backends, step, newest.start + step.lag) if len(heads) > 1 else None
    last = step.schedule.interval_ending_by(end)
    return Holding(last.start, last.end, sequence=newest.sequence)


def _rows(backends: Backends, step: Step, held: Holding, instant: datetime, limit: int) -> list[dict[str, object]]:
    heads = backends.registry.ledger.heads(step.view, start=held.start, end=held.end)
    keys = ", ".join(f'"{key.name}"' for key in step.keys)
    newest_first = f"ORDER BY {EVENT_TIMESTAMP} DESC, {keys} LIMIT {int(limit)}"
    sql = f"SELECT * FROM published WHERE {EVENT_TIMESTAMP} <= $instant {newest_first}"
    query = Query(sql=sql, relations={"published": backends.published(step, heads)}, parameters={"instant": instant})
    with backends.engine.read(query) as reader:
        rows: list[dict[str, object]] = reader.read_all().to_pylist(maps_as_pydicts="strict")
    return rows
