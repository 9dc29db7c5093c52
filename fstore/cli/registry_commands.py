"""The commands ``registry upgrade``, ``backup`` and ``restore``: what they take. :mod:`fstore.cli.registry` does it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fstore.cli.options import Json

registry_app = typer.Typer(help="The registry: bring its schema up to date, back it up, restore it.", no_args_is_help=True)

# Modules are imported when a command is called, as in main.
# ruff: noqa: PLC0415


@registry_app.command("upgrade")
def registry_upgrade(as_json: Json = False) -> None:
    """Bring the registry's schema up to date; stop every process of an older fstore before."""
    from fstore.cli.registry import upgrade_registry

    upgrade_registry(as_json=as_json)


@registry_app.command("backup")
def registry_backup(
    path: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")], as_json: Json = False
) -> None:
    """Write the whole registry to one file, while others go on."""
    from fstore.cli.registry import back_up_registry

    back_up_registry(path, as_json=as_json)


@registry_app.command("restore")
def registry_restore(
    path: Annotated[Path | None, typer.Argument(help="The backup; none to adopt what was restored before.")] = None,
    replace: Annotated[
        list[str] | None, typer.Option(help="A project that is in the registry now, and to be replaced.")
    ] = None,
    *,
    adopt: Annotated[
        bool,
        typer.Option("--adopt", help="Raise the registry above all that this project's stores hold, and make them its own."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Put a backup in the place of the registry, all of it or nothing. Its stores refuse to be written until --adopt."""
    from fstore.cli.registry import restore_registry

    restore_registry(path, replace or [], adopt=adopt, as_json=as_json)
