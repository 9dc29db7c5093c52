"""The commands ``registry upgrade | backup | restore``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from fstore.backends import Backends, open_backends
from fstore.cli.output import console, print_json
from fstore.errors import SettingsError
from fstore.registry.backups import back_up, restore
from fstore.registry.database import Database, upgrade
from fstore.runtime.incarnation import Adopted, adopt_stores
from fstore.runtime.repair import repair_online
from fstore.settings import Settings, load_settings


def upgrade_registry(*, as_json: bool) -> None:
    """Bring the schema of a registry that exists up to date."""
    database = _database(load_settings())
    before, after = upgrade(database)
    if as_json:
        print_json({"registry": database.label, "before": before, "after": after})
    elif before == after:
        console.print(f"[green]✓[/] {database.label} has schema revision {after}: nothing to do.")
    else:
        console.print(f"[green]✓[/] {database.label}: schema revision {before} became {after}.")


def back_up_registry(path: Path, *, as_json: bool) -> None:
    """Write the registry to a new file."""
    database = _database(load_settings())
    states = back_up(database, path)
    if as_json:
        print_json({"path": str(path), "bytes": path.stat().st_size, "projects": states})
        return
    for state in states:
        console.print(f"[green]✓[/] project [bold]{state.project}[/] up to sequence {state.sequence}")
    console.print(f"{path} holds all of {database.label}. The files of the offline store are not in it.")


def restore_registry(path: Path | None, replace: Sequence[str], *, adopt: bool, as_json: bool) -> None:
    """Put a backup in the place of the registry, make it the one of its stores, or both."""
    settings = load_settings()
    if path is None and not adopt:
        raise SettingsError(
            "name the backup to restore, or say --adopt to make a registry that was restored its stores' own"
        )
    database = _database(settings)
    states = [] if path is None else restore(database, path, replace=replace)
    if not as_json:
        for state in states:
            console.print(f"[green]✓[/] project [bold]{state.project}[/] up to sequence {state.sequence}")
    adopted: Adopted | None = None
    if adopt:
        with open_backends(settings) as backends:
            adopted = _adopt(backends)
    if as_json:
        print_json({"registry": database.label, "projects": states, "adopted": adopted})
    elif adopted is not None:
        _print_adopted(settings, adopted)
    else:
        console.print(
            "Nothing is written until its stores take it: `fstore registry restore --adopt`, for each of its projects."
        )


def _adopt(backends: Backends) -> Adopted:
    adopted = adopt_stores(backends)
    return msgspec.structs.replace(adopted, rows=adopted.rows + repair_online(backends).rows)


def _print_adopted(settings: Settings, adopted: Adopted) -> None:
    console.print(
        f"[green]✓[/] the stores of project [bold]{settings.project}[/] belong to this registry now: sequences go on from "
        f"{adopted.sequence}, attempts from {adopted.attempt}; {adopted.rows} rows of {len(adopted.views)} view(s) were "
        "written online."
    )
    console.print("Next: `fstore run`, or scheduled runs, publish again what was published since the backup.")


def _database(settings: Settings) -> Database:
    return Database(settings.registry_url, settings.project)
