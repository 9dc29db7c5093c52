"""Build the DAGs of a project from its plan.

Takes a project's directory; gives one DAG per pipeline (the views of one module that share a schedule) and the maintenance
DAG, by id. Reads the compiled plan from its cache and imports no driver. A task that parses the file again gets only the
DAG that it asks for. The same plan always gives the same DAGs, or Airflow would store a new version of them at every parse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param, TaskGroup, get_parsing_context

from fstore.airflow.assets import view_asset
from fstore.airflow.documentation import pipeline_doc, view_doc
from fstore.airflow.environment import configured_executors, refuse_local_stores, within_import_timeout
from fstore.airflow.intervals import has_short_intervals
from fstore.airflow.maintenance import maintenance_dag, maintenance_dag_id
from fstore.airflow.operators import ComputeOperator, MaterializeOperator, ValidateOperator, WaitForInputsOperator
from fstore.airflow.timetable import FeatureTimetable
from fstore.errors import DefinitionErrors
from fstore.plan.steps import Step, ViewInput
from fstore.runtime.plan_cache import load_pipeline, load_plan
from fstore.settings import Settings, find_root, load_settings

MAX_ACTIVE_RUNS = 16

_RETRIES: dict[str, Any] = {
    "retries": 3,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=15),
}


def build_dags(
    directory: Path | str, project: str | None = None, registry: str | None = None, offline: str | None = None,
    online: str | None = None, *, default_args: Mapping[str, Any] | None = None,
) -> dict[str, DAG]:  # fmt: skip
    """Return the DAGs of a project by id, for ``globals().update(…)`` in a DAG file.

    ``directory`` is the project's root or a directory of definitions in it. The name and the URLs override its settings, so
    that one Airflow can serve several projects. ``default_args`` go to every task (pools, queues, callbacks, retries).
    Broken definitions have no DAG and leave the others alone; :func:`report_problems` shows them. Raises SettingsError for
    wrong settings, and for stores on one host's disk with an executor that spans hosts.
    """
    settings = read_settings(directory, project, registry, offline, online)
    refuse_local_stores(settings, configured_executors())
    arguments = {**_RETRIES, **(default_args or {})}
    asked = get_parsing_context().dag_id
    if asked == maintenance_dag_id(settings.project):
        return {asked: maintenance_dag(settings, arguments, [])}
    if asked:
        steps = load_pipeline(within_import_timeout(settings), asked)
        return {asked: pipeline_dag(asked, steps, settings, arguments)} if steps else {}
    plan = load_plan(within_import_timeout(settings)).plan
    pipelines: dict[str, list[Step]] = {}
    for step in plan.steps:
        pipelines.setdefault(pipeline_id(step.project, step), []).append(step)
    dags = {dag_id: pipeline_dag(dag_id, steps, settings, arguments) for dag_id, steps in sorted(pipelines.items())}
    problems = [str(problem.as_error()) for problem in plan.problems]
    return {**dags, maintenance_dag_id(settings.project): maintenance_dag(settings, arguments, problems)}


def report_problems(directory: Path | str, project: str | None = None) -> None:
    """Raise DefinitionErrors when definitions are broken; for a DAG file of its own.

    Airflow then lists them, with file and line, among its import errors. In the file that makes the DAGs an error would make
    Airflow drop all of them.
    """
    problems = load_plan(within_import_timeout(read_settings(directory, project))).plan.problems
    if problems:
        raise DefinitionErrors([problem.as_error() for problem in problems])


def read_settings(
    directory: Path | str, project: str | None = None, registry: str | None = None, offline: str | None = None,
    online: str | None = None,
) -> Settings:  # fmt: skip
    """Return the settings for a project's root, or for a directory of definitions inside of one."""
    path = Path(directory).resolve()
    root = find_root(path)
    return load_settings(
        root,
        project=project or "",
        registry_url=registry or "",
        offline_url=offline or "",
        online_url=online or "",
        definitions="" if path == root else str(path.relative_to(root)),
    )


def pipeline_id(project: str, view: Step | ViewInput) -> str:
    """Return the DAG id of the pipeline that a view belongs to."""
    return f"{project}.{view.pipeline}.{view.schedule.label}"


def pipeline_dag(dag_id: str, steps: Sequence[Step], settings: Settings, default_args: Mapping[str, Any]) -> DAG:
    """Return the DAG of the steps of one pipeline, which are in dependency order and share a schedule."""
    start = min(step.start for step in steps)
    with DAG(
        dag_id,
        description=_description(steps),
        doc_md=pipeline_doc(steps),
        schedule=_timetable(steps, start),
        start_date=start,
        catchup=False,
        max_active_runs=MAX_ACTIVE_RUNS,
        is_paused_upon_creation=False,
        tags=sorted({"fstore", settings.project, *(f"{key}:{value}" for step in steps for key, value in step.tags.items())}),
        owner_links={step.owner: f"mailto:{step.owner}" for step in steps if "@" in step.owner},
        params=_range_params(steps[0], start),
        default_args=dict(default_args),
    ) as dag:
        groups: dict[str, TaskGroup] = {}
        for step in steps:
            groups[step.view] = _view_tasks(dag_id, step, settings)
            for upstream in sorted(set(step.upstream) & set(groups) - {step.view}):
                groups[upstream] >> groups[step.view]
    return dag


def _view_tasks(dag_id: str, step: Step, settings: Settings) -> TaskGroup:
    """Add the tasks of one view to the current DAG: wait (where it reads another pipeline), compute, validate, materialize.

    A view that has no interval in a run is skipped; ``none_failed`` keeps that from skipping what depends on it.
    """
    common: dict[str, Any] = {"step": step, "settings": settings}
    if step.owner:
        common["owner"] = step.owner
    with TaskGroup(step.view, tooltip=step.description) as group:
        compute = ComputeOperator(task_id="compute", trigger_rule="none_failed", doc_md=view_doc(step), **common)
        if any(pipeline_id(step.project, item) != dag_id for item in step.inputs if isinstance(item, ViewInput)):
            WaitForInputsOperator(task_id="wait_for_inputs", trigger_rule="none_failed", **common) >> compute
        validate = ValidateOperator(task_id="validate", compute_task_id=compute.task_id, **common)
        asset = view_asset(step.project, step.view)
        materialize = MaterializeOperator(task_id="materialize", compute_task_id=compute.task_id, asset=asset, **common)
        compute >> validate >> materialize
    return group


def _timetable(steps: Sequence[Step], start: datetime) -> FeatureTimetable:
    """Return the timetable over the life of all views; late data of one holds back the runs of all."""
    schedule = steps[0].schedule
    ends = [step.end for step in steps]
    end = max(end for end in ends if end is not None) if None not in ends else None
    return FeatureTimetable(schedule.cron, schedule.timezone, max(step.lag for step in steps), start, end)


def _range_params(step: Step, start: datetime) -> dict[str, Param]:
    """Return the params that make a manual run cover a range; dates where every interval lasts a day or longer."""
    kind = "date-time" if has_short_intervals(step.schedule, start) else "date"
    texts = {
        "start": "Compute all intervals that start at or after this. Leave empty in a backfill.",
        "end": "Compute all intervals that start at or before this. Leave empty in a backfill.",
    }
    return {
        name: Param(None, type=["null", "string"], format=kind, title=f"Range {name} (inclusive)", description=text)
        for name, text in texts.items()
    }


def _description(steps: Sequence[Step]) -> str:
    views = ", ".join(step.view for step in steps[:5])
    return f"Feature views {views}" + (f" and {len(steps) - 5} more" if len(steps) > 5 else "")
