"""The command ``doctor``: look for what is wrong with an installation, and say how to mend it."""

from __future__ import annotations

import difflib
import os
import platform
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import msgspec
from rich.markup import escape

from fstore.backends import Backends, open_backends
from fstore.cli.output import console, print_json
from fstore.cli.project import compile_project
from fstore.connections import masked_url
from fstore.errors import FStoreError
from fstore.plan.service_diff import diff_on_demand, diff_services
from fstore.runtime.incarnation import find_restored
from fstore.settings import Settings, load_settings, setting_variable

Verdict = Literal["ok", "warning", "wrong"]
MARKS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "wrong": "[red]✗[/]"}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one examination found."""

    subject: str
    verdict: Verdict
    detail: str


def run_doctor(*, as_json: bool) -> int:
    """Examine everything, print the findings, and return 1 if anything is wrong."""
    findings = list(_examine())
    if as_json:
        print_json(findings)
    else:
        for finding in findings:
            console.print(f"{MARKS[finding.verdict]} [bold]{finding.subject}[/] {escape(finding.detail)}")
    return 1 if any(finding.verdict == "wrong" for finding in findings) else 0


def _examine() -> list[Finding]:
    found = [_guard("packages", _packages)]
    try:
        settings = load_settings()
    except FStoreError as error:
        return [*found, Finding(subject="settings", verdict="wrong", detail=str(error))]
    found.append(Finding(subject="settings", verdict="ok", detail=f"project {settings.project} at {settings.root}"))
    found.extend(_misspelt(os.environ))
    with open_backends(settings) as backends:
        examinations: dict[str, Callable[[], Finding]] = {
            "registry": lambda: _registry(backends),
            "offline store": lambda: _store("offline store", settings.offline_url, backends.offline.store_id()),
            "online store": lambda: _store("online store", settings.online_url, backends.online.store_id()),
            "spill directory": lambda: _spill(settings),
            "definitions": lambda: _definitions(settings, backends),
            "outbox": lambda: _outbox(backends),
            "Airflow": lambda: _airflow(settings),
        }
        found.extend(_guard(subject, examination) for subject, examination in examinations.items())
    return found


def _guard(subject: str, examination: Callable[[], Finding]) -> Finding:
    """Run an examination; an error of fstore is its finding."""
    try:
        return examination()
    except FStoreError as error:
        return Finding(subject=subject, verdict="wrong", detail=str(error))


def _packages() -> Finding:
    names = ("fstore", "duckdb", "pyarrow", "sqlalchemy", "lmdb", "redis", "psycopg", "apache-airflow")
    installed = ", ".join(f"{name} {found}" for name in names if (found := _version(name)))
    return Finding(subject="packages", verdict="ok", detail=f"Python {platform.python_version()}, {installed}")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _misspelt(environ: Mapping[str, str]) -> list[Finding]:
    """Return a warning for every variable that nearly has the name of a setting."""
    known = {setting_variable(name): name for name in Settings.__struct_fields__}
    found: list[Finding] = []
    for variable in sorted(environ):
        prefix, _, name = variable.partition("_")
        if prefix == "FSTORE" and variable not in known:
            close = difflib.get_close_matches(name.lower(), known.values(), n=1, cutoff=0.8)
            found += [_misspelling(variable, setting_variable(each)) for each in close]
    return found


def _misspelling(variable: str, meant: str) -> Finding:
    detail = f"{variable} is no setting, and does nothing. Did you mean {meant}?"
    return Finding(subject="settings", verdict="warning", detail=detail)


def _registry(backends: Backends) -> Finding:
    state = backends.registry.state()
    if (restored := find_restored(backends)) is not None:
        return Finding(subject="registry", verdict="wrong", detail=str(restored))
    detail = f"{masked_url(backends.settings.registry_url)}: version {state.version}, up to sequence {state.sequence:,}"
    return Finding(subject="registry", verdict="ok", detail=detail)


def _store(subject: str, url: str, store_id: str | None) -> Finding:
    return Finding(subject=subject, verdict="ok", detail=f"{masked_url(url)}: id {store_id}")


def _spill(settings: Settings) -> Finding:
    directory = Path(settings.spill_dir)
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        return Finding(
            subject="spill directory", verdict="wrong", detail=f"{existing} cannot be written: set FSTORE_SPILL_DIR"
        )
    status = os.statvfs(existing)
    free = status.f_bavail * status.f_frsize / 2**30
    verdict: Verdict = "warning" if free < 5 else "ok"
    return Finding(subject="spill directory", verdict=verdict, detail=f"{directory}: {free:.0f} GiB free")


def _definitions(settings: Settings, backends: Backends) -> Finding:
    checked = compile_project(settings, backends.engine, backends.registry.source_schemas())
    if checked.problems:
        detail = "\n".join(str(problem) for problem in checked.problems)
        return Finding(subject="definitions", verdict="wrong", detail=detail)
    registered = {view.name: view.fingerprint for view in backends.registry.views()}
    pending = [step.view for step in checked.plan.steps if registered.get(step.view) != step.fingerprint]
    readings = (
        *diff_services(backends.registry.services(), checked.plan.services),
        *diff_on_demand(backends.registry.on_demand_features(), checked.plan.on_demand),
    )
    pending += [f"{item.subject} {item.name}" for item in readings]
    if pending:
        detail = f"{len(pending)} definition(s) differ from what is registered: {', '.join(pending)}; see `fstore plan`"
        return Finding(subject="definitions", verdict="warning", detail=detail)
    detail = f"{len(checked.plan.steps)} views and {len(checked.plan.services)} services, all registered"
    return Finding(subject="definitions", verdict="ok", detail=detail)


def _outbox(backends: Backends) -> Finding:
    depth = backends.registry.outbox.depth()
    if depth.oldest_at is None:
        return Finding(subject="outbox", verdict="ok", detail="empty")
    age = datetime.now(UTC) - depth.oldest_at
    verdict: Verdict = "wrong" if depth.failing else "warning"
    return Finding(
        subject="outbox", verdict=verdict,
        detail=f"{depth.pending} publication(s) wait to go online, the oldest for {age}; {depth.failing} have failed before",
    )  # fmt: skip


def _airflow(settings: Settings) -> Finding:
    if _version("apache-airflow") is None:
        return Finding(subject="Airflow", verdict="warning", detail="not installed here: pip install 'fstore[airflow]'")
    local = [url.partition(":")[0] for url in (settings.registry_url, settings.offline_url, settings.online_url)
             if url.startswith(("sqlite:", "file:", "lmdb:"))]  # fmt: skip
    executor = os.environ.get("AIRFLOW__CORE__EXECUTOR", "LocalExecutor")
    if local and executor not in ("LocalExecutor", "SequentialExecutor"):
        return Finding(
            subject="Airflow", verdict="wrong",
            detail=f"{executor} runs tasks on other hosts, which cannot reach {', '.join(local)}: use postgresql, s3, redis",
        )  # fmt: skip
    return Finding(subject="Airflow", verdict="ok", detail=f"executor {executor}")
