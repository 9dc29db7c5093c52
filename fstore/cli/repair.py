"""The command ``repair``: bring a project back to what its sources and its log say, as far as that takes.

Recomputes what is stale, damaged or missing between published intervals, upstream first, and brings online what the online
store has lost. Exit code 1 where something could not be repaired.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import msgspec
from rich.markup import escape
from rich.progress import Progress, TaskID

from fstore.backends import Backends, open_backends
from fstore.cli.output import console, errors, print_failure, print_json, progress_display
from fstore.interval import Interval, merge_intervals
from fstore.plan.selection import select_steps
from fstore.runtime.batches import BatchProgress
from fstore.runtime.delivery import Delivered, apply_outbox
from fstore.runtime.flipping import in_order
from fstore.runtime.plan_cache import load_plan
from fstore.runtime.recomputation import RecomputedView, Report, plan_recomputation, recompute
from fstore.runtime.repair import Repaired, lost_views, repair_online
from fstore.settings import load_settings


class Repair(msgspec.Struct, frozen=True, kw_only=True):
    """What was done, or with ``dry_run`` would be: views recomputed, outbox entries applied, views brought online."""

    dry_run: bool
    recomputed: tuple[RecomputedView, ...] = ()
    delivered: Delivered = Delivered()
    online: Repaired = Repaired(views=(), rows=0)

    @property
    def failed(self) -> bool:
        """Whether something is not repaired."""
        return bool(self.delivered.failed) or any(view.failed for view in self.recomputed)


def repair_project(selectors: Sequence[str], *, online: bool, stale: bool, dry_run: bool, as_json: bool) -> int:
    """Repair the selected views and print what was done; return the exit code.

    With neither ``online`` nor ``stale`` everything is repaired; with one or both only that is.
    """
    settings = load_settings()
    everything = not online and not stale
    with open_backends(settings) as backends, progress_display(quiet=as_json) as display:
        steps = in_order(select_steps([view.step for view in backends.registry.views()], selectors))
        recomputed: list[RecomputedView] = []
        if (everything or stale) and dry_run:
            recomputed = plan_recomputation(backends, steps, only_stale=not everything)
        elif everything or stale:
            project = load_plan(settings).project
            run_id = f"repair-{uuid.uuid4().hex[:12]}"
            recomputed = recompute(backends, project, steps, run_id, only_stale=not everything, report=_reporter(display))
        done = Repair(dry_run=dry_run, recomputed=tuple(recomputed))
        if everything or online:
            done = _repair_online(backends, done, [step.view for step in steps] if selectors else None)
    if as_json:
        print_json(done)
    else:
        _print(done)
    return 1 if done.failed and not dry_run else 0


def _repair_online(backends: Backends, done: Repair, views: Sequence[str] | None) -> Repair:
    if done.dry_run:
        pending = backends.registry.outbox.depth().pending
        found = Repaired(views=tuple(lost_views(backends, views)), rows=0)
        return msgspec.structs.replace(done, delivered=Delivered(entries=pending), online=found)
    delivered = apply_outbox(backends)
    return msgspec.structs.replace(done, delivered=delivered, online=repair_online(backends, views))


def _reporter(display: Progress) -> Report:
    tasks: dict[str, TaskID] = {}

    def report(view: str, progress: BatchProgress) -> None:
        if view not in tasks:
            tasks[view] = display.add_task(view, total=progress.total)
        chunk = f" [dim]chunk {progress.chunk} of {progress.chunks}[/]" if progress.chunks > 1 else ""
        display.update(tasks[view], description=f"{view}{chunk}", completed=progress.done, total=progress.total)

    return report


def _print(done: Repair) -> None:
    for view in done.recomputed:
        if done.dry_run:
            console.print(f"[yellow]·[/] {view.view}: would compute {_reasons(view)}: {_spans(view.needs.intervals)}")
            continue
        mark = "[red]✗[/]" if view.code else "[yellow]![/]" if view.failed else "[green]✓[/]"
        parts = [f"{_reasons(view)}", f"{view.published:,} published, {view.rows:,} rows, {view.online_rows:,} online"]
        parts += [f"{view.blocked:,} blocked by their checks"] if view.blocked else []
        parts += [f"{view.waiting:,} waiting for inputs"] if view.waiting else []
        console.print(f"{mark} {view.view}: {'; '.join(parts)}")
        if view.message:
            print_failure(view.code, view.message)
    would = "would be" if done.dry_run else "were"
    if done.delivered.entries:
        console.print(f"{_mark(done)} {done.delivered.entries:,} pending publication(s) {would} brought online")
    if done.delivered.failed:
        errors.print(f"[red]✗[/] {done.delivered.failed:,} publication(s) could not be brought online, the first because of")
        print_failure(done.delivered.code, done.delivered.message)
    if done.online.views:
        rows = "" if done.dry_run else f", {done.online.rows:,} row(s) written"
        names = escape(", ".join(done.online.views))
        console.print(f"{_mark(done)} {names} {would} brought online again from the offline store{rows}")
    if not (done.recomputed or done.delivered.entries or done.delivered.failed or done.online.views):
        console.print("[green]✓[/] nothing to repair")


def _mark(done: Repair) -> str:
    return "[yellow]·[/]" if done.dry_run else "[green]✓[/]"


def _reasons(view: RecomputedView) -> str:
    counts = {"stale": view.needs.stale, "missing": view.needs.missing, "damaged": view.needs.damaged}
    return ", ".join(f"{len(intervals):,} {reason}" for reason, intervals in counts.items() if intervals) or "nothing"


def _spans(intervals: Sequence[Interval]) -> str:
    merged = merge_intervals(intervals)
    shown = ", ".join(str(span) for span in merged[:3])
    return shown + (f" and {len(merged) - 3} more ranges" if len(merged) > 3 else "")
