"""What lineage says about one attempt: plain values, free of any OpenLineage type.

The runtime fills a :class:`LineageRun` from what it knows at the moment of an event; :mod:`fstore.lineage.events` turns it
into JSON. Nothing here reads a clock, a file or a registry.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime

import msgspec

from fstore.definitions.checks import CheckKind, Severity
from fstore.interval import Interval
from fstore.plan.steps import Step
from fstore.types import Column, DataFile

_RUNS = uuid.UUID("7b0b6a0e-6a0c-5d53-9d0b-0c1f6f0b8a51")
"""The name space of run ids (a constant of this project, so that an attempt has the same id in every process)."""


class ParentRun(msgspec.Struct, frozen=True, kw_only=True):
    """The run that started the attempt, such as an Airflow task, and the root of its chain, such as the DAG run.

    Ids are UUIDs as OpenLineage wants them. The root may be unknown (None): the parent then counts as the root.
    """

    namespace: str
    job: str
    run_id: str
    root_namespace: str | None = None
    root_job: str | None = None
    root_run_id: str | None = None


class CheckOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How one check went over all intervals of an attempt; ``violations`` counts rows (intervals for ``row_count``)."""

    label: str
    kind: CheckKind
    severity: Severity
    columns: tuple[str, ...]
    violations: int


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """What validation found: rows looked at, nulls per feature where counted, and the checks in order."""

    rows: int
    checks: tuple[CheckOutcome, ...] = ()
    null_counts: dict[str, int] = {}


class LineageRun(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of a step at an instant of its life.

    ``at`` is the event's time. ``root`` is the project's directory, from which relative source paths and module paths
    resolve. ``engine`` is the engine's name and version (``DuckDB 2.0.0``). ``versions`` are the pinned publication
    sequences of upstream views, ``sequence`` that of the attempt's own publication. ``location`` is the URL of the
    directory that holds the view's files. ``source_columns`` are the columns of sources by name, as far as recorded,
    ``table_addresses`` the name space and name of those that are tables of a database.
    """

    step: Step
    attempt: int
    intervals: tuple[Interval, ...]
    at: datetime
    root: str
    engine: str
    parent: ParentRun | None = None
    versions: Mapping[str, int] = {}
    source_columns: Mapping[str, tuple[Column, ...]] = {}
    table_addresses: Mapping[str, tuple[str, str]] = {}
    location: str = ""
    files: tuple[DataFile, ...] | None = None
    quality: Quality | None = None
    sequence: int | None = None
    error: str | None = None
    stack_trace: str | None = None


def lineage_run_id(project: str, attempt: int) -> str:
    """Return the UUID of an attempt's run: the same for every event, process and host."""
    return str(uuid.uuid5(_RUNS, f"{project}/{attempt}"))


def view_namespace(project: str) -> str:
    """Return the namespace of a project's jobs and of its views as datasets."""
    return f"fstore.{project}"
