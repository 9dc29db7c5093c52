"""A plan as Markdown, for a comment on a pull request. Takes what ``plan`` found and gives text; prints nothing."""

from __future__ import annotations

from collections.abc import Sequence

from fstore.definitions.project import Problem
from fstore.interval import Interval
from fstore.plan.diff import ChangedView, Consumer, PlanDiff
from fstore.runtime.outlook import PlannedView

_SHOWN_RANGES = 3


def markdown(
    project: str, environment: str, changes: PlanDiff, compute: Sequence[PlannedView], problems: Sequence[Problem]
) -> str:
    """Return a plan as Markdown: a sentence, the changes with whom they touch, the intervals, and the problems."""
    where = f"`{project}`" + (f", environment `{environment}`" if environment else "")
    lines = [f"### fstore plan for {where}", "", _summary(changes, compute, problems), ""]
    if problems:
        lines += ["**Problems**", "", *(f"- {_cell(str(problem))}" for problem in problems), ""]
    if not changes.is_empty:
        lines += ["| | view | change | reaches | read by |", "|---|---|---|---|---|", *_change_rows(changes), ""]
    if changes.dags:
        lines += [*(_dag_line(dag.dag, dag.views, dag.replaced_by) for dag in changes.dags), ""]
    working = [line for line in compute if line.total]
    if working:
        lines += [
            "<details><summary>Intervals to compute</summary>", "",
            "| view | missing | again | beside the live ones | intervals | rows ≈ | bytes ≈ | time ≈ |",
            "|---|--:|--:|--:|---|--:|--:|--:|",
            *(_compute_row(line) for line in working), "", "</details>", "",
        ]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def size_text(size: int | None) -> str | None:
    """Return a number of bytes for people."""
    if size is None:
        return None
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.3g} TB"


def time_text(seconds: float | None) -> str | None:
    """Return a number of seconds for people."""
    if seconds is None:
        return None
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _summary(changes: PlanDiff, compute: Sequence[PlannedView], problems: Sequence[Problem]) -> str:
    kinds = [change.kind for change in changes.changed]
    counts = [
        (len(changes.added), "added"), (kinds.count("breaking"), "breaking"), (kinds.count("additive"), "additive"),
        (kinds.count("metadata"), "metadata only"), (len(changes.removed), "removed"),
    ]  # fmt: skip
    said = ", ".join(f"{count} {what}" for count, what in counts if count) or "no view changes"
    intervals = sum(line.total for line in compute)
    seconds = [line.seconds_estimate for line in compute if line.total]
    known = [value for value in seconds if value is not None]
    cost = f"; {intervals:,} intervals to compute" if intervals else "; nothing to compute"
    if known and intervals:
        cost += f", about {time_text(sum(known))}" + ("" if len(known) == len(seconds) else " for those computed before")
    return f"**{said}**{cost}." + (f" **{len(problems)} problem(s): nothing can be applied.**" if problems else "")


def _change_rows(changes: PlanDiff) -> list[str]:
    rows = [f"| ➕ | `{item.view}` | {len(item.features)} features | | |" for item in changes.added]
    rows += [_changed_row(item) for item in changes.changed]
    rows += [
        f"| ➖ | `{item.view}` | removed | {_names(item.downstream)} | {_readers(item.consumers)} |"
        for item in changes.removed
    ]
    signs = {"added": "➕", "changed": "✏️", "removed": "➖"}
    rows += [
        f"| {signs[item.kind]} | {item.subject} `{item.name}` | {_cell(item.detail or item.kind)} | | |"
        for item in changes.readings
    ]
    return rows


def _changed_row(item: ChangedView) -> str:
    sign = {"breaking": "⚠️", "additive": "🔹", "metadata": "✏️"}[item.kind]
    reach = _names(item.downstream) if item.kind == "breaking" else ""
    what = f"**{item.kind}**: {_cell('; '.join(item.reasons))}"
    return f"| {sign} | `{item.view}` | {what} | {reach} | {_readers(item.consumers)} |"


def _readers(consumers: Sequence[Consumer]) -> str:
    return ", ".join(f"`{item.service}`" + (f" ({_cell(item.owner)})" if item.owner else "") for item in consumers)


def _dag_line(dag: str, views: Sequence[str], replaced_by: Sequence[str]) -> str:
    now = f"is replaced by {_names(replaced_by)}" if replaced_by else "is gone"
    return f"- DAG `{dag}` {now} ({_names(views)})"


def _compute_row(line: PlannedView) -> str:
    ranges = [*line.ranges, *line.beside_ranges]
    shown = "<br>".join(_range(item) for item in ranges[:_SHOWN_RANGES])
    shown += f"<br>and {len(ranges) - _SHOWN_RANGES} more" if len(ranges) > _SHOWN_RANGES else ""
    cells = (
        f"`{line.view}`", f"{line.missing:,}", f"{line.again:,}", f"{line.beside:,}", shown,
        "" if line.rows_estimate is None else f"{line.rows_estimate:,}",
        size_text(line.bytes_estimate) or "", time_text(line.seconds_estimate) or "",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _range(item: Interval) -> str:
    return f"{item.start:%Y-%m-%d %H:%M} to {item.end:%Y-%m-%d %H:%M}"


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
