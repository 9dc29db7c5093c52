"""The commands ``status`` and ``show``: what is published, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.markup import escape

from fstore.backends import Backends, open_backends
from fstore.cli.output import console, errors, print_json, print_rows, print_table, text_of
from fstore.engines.engine import Query
from fstore.errors import SettingsError
from fstore.interval import Interval, format_duration, parse_instant
from fstore.plan.steps import EVENT_TIMESTAMP, Step
from fstore.runtime.advice import joined
from fstore.runtime.standing import project_status, unknown_environment
from fstore.settings import load_settings


def show_status(selectors: Sequence[str], *, as_json: bool) -> None:
    """Print how the views of a project stand, and what to do next."""
    with open_backends(load_settings()) as backends:
        report = project_status(backends, selectors, datetime.now(UTC))
    if as_json:
        print_json(report)
        return
    print_table(
        f"{report.project}: registry version {report.registry_version}, up to sequence {report.sequence:,}",
        ("view", "pipeline", "published", "newest", "missing", "blocked", "stale", "damaged", "online", "last attempt"),
        [
            (
                v.view, v.pipeline, v.published, v.newest_end, v.missing, v.blocked, v.stale, v.damaged, v.online,
                v.last_state,
            )
            for v in report.views
        ],
        numbers=("published", "missing", "blocked", "stale", "damaged"),
        optional=("pipeline", "last attempt", "online"),
    )  # fmt: skip
    for item in report.filling:
        state = "complete, `fstore flip` makes it live" if item.held and item.filled == item.required else "being filled"
        console.print(
            f"{item.view}: generation {item.generation} has {item.filled:,} of {item.required:,} intervals that are live; "
            f"{state}"
        )
    for warning in report.warnings:
        console.print(f"[yellow]warning[/] {escape(warning)}")
    for advice in joined(report.advice):
        about = f"{advice.view}: " if advice.view else ""
        console.print(f"[yellow]next[/] {escape(about + advice.problem)}: `{escape(advice.command)}`")


def show_view(name: str, at: str | None, limit: int, *, as_json: bool) -> None:
    """Print a view and the rows that hold at an instant."""
    try:
        instant = datetime.now(UTC) if at is None else parse_instant(at)
    except ValueError as error:
        raise SettingsError(f"--at is an ISO date or time such as 2026-01-31T06:00Z: {error}") from None
    with open_backends(load_settings()) as backends:
        step = backends.registry.view(name).step
        notices = unknown_environment(backends)
        held = _holding_at(backends, step, instant)
        rows = _rows(backends, step, held, instant, limit) if held else []
    if as_json:
        print_json({"view": step, "at": instant, "interval": held, "rows": rows})
        return
    for notice in notices:
        errors.print(f"[yellow]warning[/] {escape(notice)}")
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
        console.print(
            f"\nNothing is published that held at {text_of(instant)}: `fstore status --select {step.view}` says what is."
        )
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
