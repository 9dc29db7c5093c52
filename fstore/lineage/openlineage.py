"""Assemble an OpenLineage run event with the classes of openlineage-python.

The only entry is :func:`build_event`. Importing this module costs half a second, so :mod:`fstore.lineage.events` does it on
the first event.
"""

from __future__ import annotations

import json
from pathlib import Path

from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    JobFacet,
    RunFacet,
    documentation_job,
    error_message_run,
    job_type_job,
    nominal_time_run,
    ownership_job,
    parent_run,
    processing_engine_run,
    source_code_job,
    source_code_location_job,
    sql_job,
    tags_job,
    test_run,
)
from openlineage.client.serde import Serde

from fstore import __version__
from fstore.interval import format_instant
from fstore.lineage.datasets import input_datasets, output_dataset
from fstore.lineage.run import LineageRun, ParentRun, Quality, lineage_run_id, view_namespace
from fstore.plan.steps import PythonStep

PRODUCER = f"https://github.com/fstore/fstore/tree/v{__version__}"


def build_event(kind: str, run: LineageRun) -> str:
    """Return the event of a kind (an OpenLineage run state) as one line of JSON."""
    event = RunEvent(
        eventType=RunState[kind],
        eventTime=format_instant(run.at),
        run=Run(runId=lineage_run_id(run.step.project, run.attempt), facets=_run_facets(run)),
        job=Job(namespace=view_namespace(run.step.project), name=run.step.view, facets=_job_facets(run)),
        inputs=input_datasets(run),
        outputs=[output_dataset(run)],
    )
    return json.dumps(_signed(Serde.to_dict(event)), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _signed(node: object) -> object:
    """Put our name on the event and all its facets, leaving the library's process-wide producer to its other users."""
    if isinstance(node, dict):
        return {key: PRODUCER if key in ("producer", "_producer") else _signed(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_signed(item) for item in node]
    return node


def _run_facets(run: LineageRun) -> dict[str, RunFacet]:
    name, _, version = run.engine.partition(" ")
    facets: dict[str, RunFacet] = {
        "processing_engine": processing_engine_run.ProcessingEngineRunFacet(
            name=name, version=version or "unknown", openlineageAdapterVersion=__version__
        )
    }
    if run.intervals:
        facets["nominalTime"] = nominal_time_run.NominalTimeRunFacet(
            nominalStartTime=format_instant(min(interval.start for interval in run.intervals)),
            nominalEndTime=format_instant(max(interval.end for interval in run.intervals)),
        )
    if run.parent is not None:
        facets["parent"] = _parent(run.parent)
    if run.quality is not None and run.quality.checks:
        facets["test"] = _tests(run.quality)
    if run.error is not None:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(
            message=run.error, programmingLanguage="PYTHON", stackTrace=run.stack_trace
        )
    return facets


def _parent(parent: ParentRun) -> parent_run.ParentRunFacet:
    return parent_run.ParentRunFacet(
        run=parent_run.Run(runId=parent.run_id),
        job=parent_run.Job(namespace=parent.namespace, name=parent.job),
        root=parent_run.Root(
            run=parent_run.RootRun(runId=parent.root_run_id or parent.run_id),
            job=parent_run.RootJob(namespace=parent.root_namespace or parent.namespace, name=parent.root_job or parent.job),
        ),
    )


def _tests(quality: Quality) -> test_run.TestRunFacet:
    tests = [
        test_run.TestExecution(
            name=check.label,
            status="pass" if check.violations == 0 else "fail",
            severity=check.severity,
            type=check.kind,
            expected="0",
            actual=str(check.violations),
        )
        for check in quality.checks
    ]
    return test_run.TestRunFacet(tests=tests)


def _job_facets(run: LineageRun) -> dict[str, JobFacet]:
    step = run.step
    facets: dict[str, JobFacet] = {
        "jobType": job_type_job.JobTypeJobFacet(
            processingType="BATCH",
            integration="FSTORE",
            jobType="FEATURE_VIEW",
            emissionPattern=job_type_job.EmissionPattern(eventTrigger="EVENT_BASED", eventContentMode="ACCUMULATIVE"),
        ),
        "sourceCodeLocation": source_code_location_job.SourceCodeLocationJobFacet(
            type="file",
            url=f"{(Path(run.root) / step.module).as_uri()}#L{step.line}",
            path=step.module,
            version=step.fingerprint,
        ),
        "tags": tags_job.TagsJobFacet(
            tags=[
                tags_job.TagsJobFacetFields(key="fingerprint", value=step.fingerprint, source="FSTORE"),
                tags_job.TagsJobFacetFields(key="pipeline", value=step.pipeline, source="FSTORE"),
                *(
                    tags_job.TagsJobFacetFields(key=key, value=value, source="USER")
                    for key, value in sorted(step.tags.items())
                ),
            ]
        ),
    }
    if isinstance(step, PythonStep):
        facets["sourceCode"] = source_code_job.SourceCodeJobFacet(language="PYTHON", sourceCode=step.function.source)
    else:
        dialect = run.engine.partition(" ")[0].lower()
        facets["sql"] = sql_job.SQLJobFacet(query=step.sql, dialect=dialect)
    if step.description:
        facets["documentation"] = documentation_job.DocumentationJobFacet(description=step.description)
    if step.owner:
        facets["ownership"] = ownership_job.OwnershipJobFacet(owners=[ownership_job.Owner(name=step.owner, type="OWNER")])
    return facets
