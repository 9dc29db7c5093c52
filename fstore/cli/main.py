"""The command line: ``fstore init | check | plan | apply | run | diff | flip | rollback | env | status | show | …``.

Parses options, calls one function of a command module, prints its result. Exit codes: 0 done; 1 an error, or something that
was asked for did not pass; 2 wrong usage, or ``plan`` when anything would be recomputed.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from fstore.cli.options import Environment, Instant, Json, Select
from fstore.cli.registry_commands import registry_app
from fstore.errors import FStoreError

app = typer.Typer(
    name="fstore",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

environments = typer.Typer(help="Development environments: list them, or drop one.", no_args_is_help=True)
app.add_typer(environments, name="env")

app.add_typer(registry_app, name="registry")

pins = typer.Typer(help="Moments that stay readable: pin one, list them, drop one.", no_args_is_help=True)
app.add_typer(pins, name="pin")


def _print_version(wanted: bool) -> None:  # noqa: FBT001  (typer calls it)
    if wanted:
        typer.echo(f"fstore {version('fstore')}")
        raise typer.Exit


@app.callback()
def fstore(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Feature definitions in; Airflow pipelines, training frames and online features out."""


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
    select: Select = None, *, sql: Annotated[bool, typer.Option("--sql", help="Show the SQL.")] = False,
    as_json: Json = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, for a pull request.")] = False,
    environment: Environment = None,
) -> None:  # fmt: skip
    """Show what applying the definitions would change, and which intervals would be computed.

    Exit code 0: nothing would be computed; 2: something would; 1: there are problems.
    """
    from fstore.cli.plan import show_plan

    _use(environment)
    raise typer.Exit(show_plan(select or [], sql=sql, as_json=as_json, as_markdown=as_markdown))


@app.command()
def apply(
    hold: Annotated[
        bool, typer.Option("--hold", help="Do not make new generations live by themselves: `fstore flip` does.")
    ] = False,
    rebuild: Annotated[
        list[str] | None, typer.Option(help="Fill a new generation of this view although its definition is the same.")
    ] = None,
    as_json: Json = False,
    environment: Environment = None,
) -> None:
    """Create what is missing of registry and stores, and record the definitions.

    A breaking change of something that is live fills a new generation beside it, which takes its place when complete.
    """
    from fstore.cli.versions import apply_project

    _use(environment)
    apply_project(hold=hold, renewed=rebuild or [], as_json=as_json)


@app.command()
def run(
    select: Select = None,
    start: Instant = None,
    end: Instant = None,
    as_json: Json = False,
    environment: Environment = None,
) -> None:
    """Compute, validate and materialize views in dependency order.

    Without --start and --end: whatever is due and unpublished or stale, and what new generations still lack. With them:
    every interval within [start, end).
    """
    from fstore.cli.run import run_views

    _use(environment)
    raise typer.Exit(run_views(select or [], start, end, as_json=as_json))


@app.command()
def diff(
    view: Annotated[str | None, typer.Argument(help="The view's name; every view with a new generation by default.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with the distributions to this file as well.")] = None,
    as_json: Json = False,
    environment: Environment = None,
) -> None:
    """Compare new generations with the live ones: changed keys, largest relative change, shift of the distribution."""
    from fstore.cli.versions import show_diff

    _use(environment)
    show_diff(view, html, as_json=as_json)


@app.command()
def flip(as_json: Json = False) -> None:
    """Make the new generations live, all of them at once; they have to hold every interval that is live."""
    from fstore.cli.versions import flip_project

    flip_project(as_json=as_json)


@app.command()
def rollback(
    view: Annotated[str, typer.Argument(help="The view, or all: everything that was made live last.")], as_json: Json = False
) -> None:
    """Make live again what was live before the latest flip, together with the views of that flip that hang on it."""
    from fstore.cli.versions import rollback_project

    rollback_project(view, as_json=as_json)


@environments.command("list")
def env_list(as_json: Json = False) -> None:
    """List the development environments and the views that they have of their own."""
    from fstore.cli.versions import list_environments

    list_environments(as_json=as_json)


@environments.command("drop")
def env_drop(name: Annotated[str, typer.Argument(help="The environment's name.")], as_json: Json = False) -> None:
    """Remove a development environment."""
    from fstore.cli.versions import drop_environment

    drop_environment(name, as_json=as_json)


@app.command()
def status(select: Select = None, as_json: Json = False, environment: Environment = None) -> None:
    """Show what is published, missing, blocked and stale, and whether the online store keeps up."""
    from fstore.cli.status import show_status

    _use(environment)
    show_status(select or [], as_json=as_json)


@app.command()
def repair(
    views: Annotated[list[str] | None, typer.Argument(help="Views, as --select names them; all by default.")] = None,
    online: Annotated[bool, typer.Option("--online", help="Only bring online again what was lost there.")] = False,
    stale: Annotated[bool, typer.Option("--stale", help="Only compute stale intervals.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    as_json: Json = False,
    environment: Environment = None,
) -> None:  # fmt: skip
    """Compute again what is stale, damaged or missing in between, upstream first, and bring online what was lost there.

    Exit code 1 when something could not be repaired.
    """
    from fstore.cli.repair import repair_project

    _use(environment)
    raise typer.Exit(repair_project(views or [], online=online, stale=stale, dry_run=dry_run, as_json=as_json))


@app.command()
def verify(
    views: Annotated[list[str] | None, typer.Argument(help="Views by name; all, and their tiles, by default.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also what is superseded and not deleted yet.")] = False,
    as_json: Json = False,
) -> None:
    """Compare published files with their checksums, and record which are damaged, so that repair computes them again.

    Exit code 1 when a file is damaged or missing.
    """
    from fstore.cli.verify import verify_project

    raise typer.Exit(verify_project(views or [], everything=everything, as_json=as_json))


@pins.command("add")
def pin_add(
    name: Annotated[str, typer.Argument(help="What it is called; a pin of that name is replaced.")],
    until: Annotated[str, typer.Option(help="An instant, or a duration from now such as 90d.")],
    as_of: Annotated[str | None, typer.Option(help="A sequence or an instant; now by default.")] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="What a training frame needs: its Parquet file, or its manifest as JSON.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Keep everything readable as of a moment, until an instant."""
    from fstore.cli.pins import add_pin

    add_pin(name, until, as_of, manifest, as_json=as_json)


@pins.command("list")
def pin_list(as_json: Json = False) -> None:
    """Show all pins."""
    from fstore.cli.pins import list_pins

    list_pins(as_json=as_json)


@pins.command("drop")
def pin_drop(
    name: Annotated[str, typer.Argument(help="The pin's name.")],
    as_json: Json = False,
) -> None:
    """Drop a pin; the next sweep deletes what it alone kept."""
    from fstore.cli.pins import drop_pin

    drop_pin(name, as_json=as_json)


@app.command()
def maintain(
    resend: Annotated[
        bool, typer.Option("--resend", help="Send lineage events again that the OpenLineage backend had refused.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Do once what the maintenance DAG does: apply the outbox, repair online, sweep, forward lineage, fill generations.

    Exit code 1 when a part of it could not be done; the others are.
    """
    from fstore.cli.maintain import maintain_project

    raise typer.Exit(maintain_project(resend=resend, as_json=as_json))


@app.command()
def show(
    view: Annotated[str, typer.Argument(help="The view's name.")],
    at: Annotated[str | None, typer.Option(help="The instant to look at; now by default.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many rows.")] = 20,
    as_json: Json = False,
    environment: Environment = None,
) -> None:
    """Show a view: what it is, and the rows that hold at an instant."""
    from fstore.cli.status import show_view

    _use(environment)
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


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="The address to listen on (serve_host).")] = None,
    port: Annotated[int | None, typer.Option(help="The port; 0 takes a free one (serve_port).")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes (serve_workers).")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds until a request is given up (serve_timeout).")] = None,
    max_body: Annotated[int | None, typer.Option(help="The largest body in bytes (serve_max_body_bytes).")] = None,
    max_keys: Annotated[int | None, typer.Option(help="The most entities of an online read (serve_max_keys).")] = None,
    max_rows: Annotated[int | None, typer.Option(help="The most rows of a historical read (serve_max_rows).")] = None,
    historical_reads: Annotated[
        int | None, typer.Option(help="Historical reads at once, in each worker (serve_historical_reads).")
    ] = None,
    drain: Annotated[
        float | None, typer.Option(help="Seconds from SIGTERM to the end of accepting requests (serve_drain).")
    ] = None,
    access_log: Annotated[
        bool | None, typer.Option(help="Write a line of JSON for every request (serve_access_log).")
    ] = None,
    environment: Environment = None,
) -> None:  # fmt: skip
    """Serve features over HTTP, as JSON or Arrow, until SIGTERM. Each option wins over the setting it names."""
    from fstore.cli.serve import serve_project

    _use(environment)
    serve_project(
        {
            "serve_host": host, "serve_port": port, "serve_workers": workers, "serve_timeout": timeout,
            "serve_max_body_bytes": max_body, "serve_max_keys": max_keys, "serve_max_rows": max_rows,
            "serve_historical_reads": historical_reads, "serve_drain": drain, "serve_access_log": access_log,
        }
    )  # fmt: skip


def _use(environment: str | None) -> None:
    """Make the rest of this process see a development environment."""
    if environment:
        os.environ["FSTORE_ENVIRONMENT"] = environment


def main() -> None:
    """Run the command line; errors of fstore become one message and exit code 1."""
    try:
        app()
    except FStoreError as error:
        from fstore.cli.output import print_error

        print_error(error, as_json="--json" in sys.argv)
        sys.exit(1)
