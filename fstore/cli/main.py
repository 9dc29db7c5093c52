"""The command line: ``fstore init | check | plan | apply | run | status | show | lineage | doctor``.

Parses options, calls one function of a command module, prints its result. Exit codes: 0 done; 1 an error, or something that
was asked for did not pass; 2 wrong usage, or ``plan`` when anything would be recomputed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fstore.errors import FStoreError

app = typer.Typer(
    name="fstore",
    help="Feature definitions in; Airflow pipelines, training frames and online features out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Select = Annotated[
    list[str] | None,
    typer.Option(
        "--select", "-s",
        help="Views by name, tag:key=value, owner:x, module:x or pipeline:x; + in front adds upstream, behind downstream.",
    ),
]  # fmt: skip
Instant = Annotated[str | None, typer.Option(help="ISO date or time; UTC unless it names a zone.")]

# Each command imports its module when it is called: `fstore --help` needs none of the drivers.
# ruff: noqa: PLC0415


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="Where the project shall be.")] = Path(),
    project: Annotated[str, typer.Option(help="The project's name; the directory's name by default.")] = "",
    as_json: Json = False,
) -> None:
    """Lay out a project that runs: settings, dags, plugins, and a first module of features with data."""
    from fstore.cli.init import init_project

    init_project(directory, project, as_json=as_json)


@app.command()
def check(as_json: Json = False) -> None:
    """Check all definitions against their sources; report every problem at once. Changes nothing."""
    from fstore.cli.project import check_project

    raise typer.Exit(check_project(as_json=as_json))


@app.command()
def plan(
    select: Select = None, *, sql: Annotated[bool, typer.Option(help="Show the SQL.")] = False, as_json: Json = False
) -> None:
    """Show what applying the definitions would change and which intervals would be computed (exit code 2 if any)."""
    from fstore.cli.project import show_plan

    raise typer.Exit(show_plan(select or [], sql=sql, as_json=as_json))


@app.command()
def apply(as_json: Json = False) -> None:
    """Create what is missing of registry and stores, and record the definitions."""
    from fstore.cli.project import apply_project

    apply_project(as_json=as_json)


@app.command()
def run(
    select: Select = None, start: Instant = None, end: Instant = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Compute, validate and materialize views in dependency order.

    Without --start and --end: whatever is due and unpublished or stale. With them: every interval within [start, end).
    """
    from fstore.cli.run import run_views

    raise typer.Exit(run_views(select or [], start, end, as_json=as_json))


@app.command()
def status(select: Select = None, as_json: Json = False) -> None:
    """Show what is published, missing, blocked and stale, and whether the online store keeps up."""
    from fstore.cli.status import show_status

    show_status(select or [], as_json=as_json)


@app.command()
def show(
    view: Annotated[str, typer.Argument(help="The view's name.")],
    at: Annotated[str | None, typer.Option(help="The instant to look at; now by default.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many rows.")] = 20,
    as_json: Json = False,
) -> None:
    """Show a view: what it is, and the rows that hold at an instant."""
    from fstore.cli.status import show_view

    show_view(view, at, limit, as_json=as_json)


@app.command()
def lineage(
    target: Annotated[str, typer.Argument(help="A view, or a feature as view:feature.")], as_json: Json = False
) -> None:
    """Show what a view or feature is made from, and what is made from it."""
    from fstore.cli.lineage import show_lineage

    show_lineage(target, as_json=as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Look for what is wrong with this installation, and say how to mend it (exit code 1 if anything is)."""
    from fstore.cli.doctor import run_doctor

    raise typer.Exit(run_doctor(as_json=as_json))


def main() -> None:
    """Run the command line; errors of fstore become one message and exit code 1."""
    try:
        app()
    except FStoreError as error:
        from fstore.cli.output import print_error

        print_error(error, as_json="--json" in sys.argv)
        sys.exit(1)
