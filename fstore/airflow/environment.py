"""Everything that fstore knows of Airflow beyond its documented interface for DAG authors.

One place, with tests, so that an upgrade of Airflow is checked by looking here: how the configured executor is read, and
how the ids of a task's OpenLineage runs are built so that our events name the same parents as Airflow's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from airflow.sdk import Context
from airflow.sdk.configuration import conf

from fstore.airflow.intervals import RunFacts, range_of
from fstore.airflow.timetable import plain
from fstore.errors import SettingsError
from fstore.interval import Interval
from fstore.lineage.run import ParentRun
from fstore.settings import Settings

if TYPE_CHECKING:
    from fstore.backends import Backends

_ONE_HOST = ("LocalExecutor", "SequentialExecutor", "DebugExecutor")
_LOCAL_SCHEMES = ("sqlite", "lmdb", "file")


def configured_executors() -> list[str]:
    """Return the executors that Airflow is configured with, without team and alias prefixes."""
    names = str(conf.get("core", "executor", fallback="LocalExecutor")).split(",")
    return [name.strip().rpartition(":")[2] for name in names if name.strip()]


def refuse_local_stores(settings: Settings, executors: Sequence[str]) -> None:
    """Raise SettingsError when tasks can run on several hosts and a store is on the disk of one."""
    spanning = [name for name in executors if name.rpartition(".")[2] not in _ONE_HOST]
    urls = {"registry": settings.registry_url, "offline": settings.offline_url, "online": settings.online_url}
    local = [f"{kind} ({url})" for kind, url in urls.items() if url.partition(":")[0] in _LOCAL_SCHEMES]
    if spanning and local:
        raise SettingsError(
            f"project {settings.project!r} keeps its {' and '.join(local)} on the disk of one host, but tasks of "
            f"{', '.join(spanning)} run on several hosts: each would read and write its own copy. Use postgresql://, "
            "s3:// and redis:// URLs (FSTORE_REGISTRY_URL, FSTORE_OFFLINE_URL, FSTORE_ONLINE_URL), or the LocalExecutor."
        )


def within_import_timeout(settings: Settings) -> Settings:
    """Return settings whose definitions load before Airflow stops the parse.

    A module that hangs would otherwise cost all DAGs of the file. A load may take five times the timeout of one module, and
    needs some seconds of its own.
    """
    allowed = float(conf.getfloat("core", "dagbag_import_timeout", fallback=30.0))
    if allowed <= 0:
        return settings
    return msgspec.structs.replace(settings, load_timeout=min(settings.load_timeout, max(allowed - 5, 1) / 5))


def run_facts(context: Context) -> RunFacts:
    """Return what the running task's DAG run says about itself."""
    run = context["dag_run"]
    first, last = run.data_interval_start, run.data_interval_end
    start, end = range_of(context["params"])
    return RunFacts(
        dag_id=run.dag_id,
        run_id=run.run_id,
        run_type=str(getattr(run.run_type, "value", run.run_type)),
        run_after=plain(run.run_after),
        interval=Interval(plain(first), plain(last)) if first and last and first < last else None,
        partition_key=run.partition_key,
        start=start,
        end=end,
    )


def parent_run(context: Context) -> ParentRun | None:
    """Return the running task as a lineage parent, with the DAG run as root; None without Airflow's OpenLineage provider.

    The ids are those of the events that the provider itself sends.
    """
    try:
        # Imported here: it costs half a second and only tasks that record lineage need it.
        from airflow.providers.openlineage.plugins import macros  # noqa: PLC0415
    except ImportError:
        return None
    task = context["ti"]
    return ParentRun(
        namespace=macros.lineage_job_namespace(),  # type: ignore[no-untyped-call]
        job=macros.lineage_job_name(task),
        run_id=macros.lineage_run_id(task),
        root_namespace=macros.lineage_root_job_namespace(task),
        root_job=macros.lineage_root_job_name(task),
        root_run_id=macros.lineage_root_run_id(task),
    )


def open_project(settings: Settings) -> Backends:
    """Return a project's parts for a running task, ``airflow://`` URLs looked up; a context manager."""
    # Imported here: only running tasks open anything, and this module is read at every parse.
    from fstore.airflow.connections import resolve_settings, source_connection  # noqa: PLC0415
    from fstore.backends import open_backends  # noqa: PLC0415

    return open_backends(resolve_settings(settings), source_connection)
