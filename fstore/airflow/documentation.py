"""What Airflow shows about a pipeline and its views, as Markdown.

Takes steps; gives the same text for the same steps, because any change of it makes Airflow store a new version of the DAG.
"""

from __future__ import annotations

from collections.abc import Sequence

from fstore.interval import format_duration, format_instant
from fstore.plan.steps import AggregateStep, CompositeStep, PythonStep, SqlStep, Step, ViewInput


def pipeline_doc(steps: Sequence[Step]) -> str:
    """Return the documentation of a DAG: how to run it, then every view without its code."""
    how = (
        "Computes, checks and publishes the feature views below. Every run covers one interval. Use **Backfill** for a few "
        "intervals; to compute many at once, **Trigger** the DAG with `start` and `end` (both inclusive)."
    )
    return "\n\n".join([how, *(view_doc(step, code=False) for step in steps)])


def view_doc(step: Step, *, code: bool = True) -> str:
    """Return the documentation of one view, with the SQL or Python that computes it."""
    facts = [
        f"defined in `{step.module}:{step.line}`",
        f"keys {', '.join(f'`{key.name}`' for key in step.keys)}",
        f"from {format_instant(step.start)}" + (f" to {format_instant(step.end)}" if step.end else ""),
        f"complete {format_duration(step.lag)} after an interval's end" if step.lag else "",
        f"valid for {format_duration(step.ttl)}" if step.ttl else "",
        "" if step.online else "not online",
    ]
    parts = [f"### {step.view}", step.description, "; ".join(fact for fact in facts if fact) + ".", _features(step)]
    reads = [f"- `{item.alias}`: {_describe_input(item)}" for item in step.inputs]
    return "\n\n".join(part for part in [*parts, "\n".join(reads), _code(step) if code else ""] if part)


def _features(step: Step) -> str:
    rows = ["| feature | type | |", "|---|---|---|"]
    for feature in step.features:
        personal = " (personal data)" if feature.pii else ""
        rows.append(f"| `{feature.name}` | {feature.type or ''}{personal} | {_cell(feature.description)} |")
    return "\n".join(rows)


def _describe_input(item: object) -> str:
    if isinstance(item, ViewInput):
        return f"view `{item.view}` of pipeline `{item.pipeline}`"
    source = getattr(item, "source", None)
    return f"source `{getattr(source, 'name', '')}`"


def _code(step: Step) -> str:
    match step:
        case AggregateStep() | CompositeStep() | SqlStep():
            return f"```sql\n{step.sql.strip()}\n```"
        case PythonStep():
            return f"```python\n{step.function.source.strip()}\n```"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
