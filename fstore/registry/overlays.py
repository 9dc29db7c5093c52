"""Versions of views beside the live ones: staged, filled, flipped and rolled back.

An overlay is a named set of views with steps and generations of their own; a registry that is opened on it resolves every
view through it. ``next`` takes the place of the live versions once it holds every interval that they hold, in one
transaction for all of its views; any other overlay is a development environment, which never does. Decides nothing about
definitions, computes nothing and moves no rows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fstore.decoding import decode_json
from fstore.errors import NotComplete, UnknownFeature, did_you_mean
from fstore.plan.diff import compare_steps
from fstore.plan.steps import PlannedOnDemand, PlannedService, Step, encode_step
from fstore.registry.completeness import Lacking, lacking_intervals, lacking_of
from fstore.registry.database import Database, repeated
from fstore.registry.generations import (
    adoptable_generation,
    foreign_generations,
    next_generation,
    overlay_of,
    refuse_deleted,
)
from fstore.registry.heads import read_newest
from fstore.registry.on_demand import clear_on_demand, read_on_demand, register_on_demand
from fstore.registry.overlay_records import Flip, Overlay, StagedView
from fstore.registry.publishing import lock_project, take_sequence
from fstore.registry.records import RegisteredView
from fstore.registry.registration import (
    make_live,
    register_services,
    remove_services,
    retire_view,
    set_version,
)
from fstore.registry.tables import flips, overlay_views, overlays
from fstore.registry.views import (
    batches,
    read_overlay_services,
    read_overlay_views,
    read_services,
    read_step,
    read_views,
)

NEXT = "next"
"""The overlay whose views take the place of the live ones."""


class Overlays:
    """The overlays of one project. Safe to share between threads and over a fork."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str = NEXT) -> Overlay | None:
        """Return an overlay, or None when there is none of that name."""
        return next((overlay for overlay in self.all() if overlay.name == name), None)

    def all(self) -> list[Overlay]:
        """Return every overlay with its views, by name."""
        database = self._database
        with database.reading() as connection:
            rows = connection.execute(
                sa.select(overlays).where(overlays.c.project == database.project).order_by(overlays.c.name)
            ).all()
            return [_overlay(database, connection, row) for row in rows]

    @repeated
    def stage(
        self, name: str, steps: Sequence[Step], *, services: Sequence[PlannedService] = (), held: bool = False,
        renewed: Collection[str] = (), expected: int | None = None, on_demand: Sequence[PlannedOnDemand] = (),
        among: Collection[str] | None = None,
    ) -> list[StagedView]:  # fmt: skip
        """Make an overlay hold exactly these steps and services; without any, and without on-demand features, it is removed.

        With ``among`` that is said of these views only: the overlay's others stay, also those that somebody adds meanwhile.

        A step goes on with the generation that the overlay has for its view if what is there still fits, else with one that
        holds the same definition already (an environment's, or what was live before), else with a new one; views in
        ``renewed`` always get a new one. ``held`` keeps it from being flipped by itself. Raises DefinitionChanged when the
        project's version is not the ``expected`` one any more.
        """
        database = self._database
        with database.writing() as connection:
            lock_project(database, connection, expected)
            known = {view.name: view for view in read_overlay_views(database, connection, name)}
            if among is not None:
                steps = [*(view.step for view in known.values() if view.name not in among), *steps]
            staged = [
                _choose(database, connection, name, step, None if step.view in renewed else known.get(step.view),
                        renew=step.view in renewed)
                for step in steps
            ]  # fmt: skip
            _write(database, connection, name, steps, staged, known)
            _write_overlay(database, connection, name, services, held=held, keep=bool(steps or services or on_demand))
            clear_on_demand(database, connection, name)
            register_on_demand(database, connection, on_demand, overlay=name)
        return staged

    @repeated
    def hold(self, name: str = NEXT, *, held: bool) -> None:
        """Say whether an overlay waits to be flipped by hand."""
        o = overlays.c
        with self._database.writing() as connection:
            connection.execute(
                sa.update(overlays).where(o.project == self._database.project, o.name == name).values(held=held)
            )

    @repeated
    def drop(self, name: str) -> Overlay:
        """Remove an overlay; what it published stays in the log, seen by nobody. Raises UnknownFeature."""
        database = self._database
        with database.writing() as connection:
            lock_project(database, connection)
            found = connection.execute(
                sa.select(overlays).where(overlays.c.project == database.project, overlays.c.name == name)
            ).first()
            if found is None:
                known = connection.scalars(
                    sa.select(overlays.c.name).where(overlays.c.project == database.project).order_by(overlays.c.name)
                ).all()
                raise UnknownFeature(
                    f"project {database.project!r} has no environment {name!r}.{did_you_mean(name, known)}"
                    + (f" There are: {', '.join(known)}." if known else "")
                )
            overlay = _overlay(database, connection, found)
            _remove(database, connection, name)
        return overlay

    # -- taking the place of what is live -----------------------------------------------------------------------------

    def lacking(self, name: str = NEXT, *, views: Collection[str] | None = None) -> dict[str, Lacking]:
        """Return, for every view of an overlay, the live intervals that its generation lacks or holds out of date.

        With ``views`` only for those of them that the overlay has.
        """
        with self._database.reading() as connection:
            return lacking_intervals(self._database, connection, name, views)

    def adoptable(self, step: Step) -> Lacking | None:
        """Return what the generation lacks that staging a step takes up again; None when nothing holds rows of the step."""
        database = self._database
        with database.reading() as connection:
            generation = adoptable_generation(database, connection, step, NEXT)
            if generation is None:
                return None
            overlay = overlay_of(database, connection, step.view, generation)
            return lacking_of(database, connection, step, generation, overlay=overlay)

    @repeated
    def flip(self, online: Mapping[str, int], name: str = NEXT) -> tuple[Flip, ...]:
        """Put the views of an overlay in the place of the live ones, all of them in this one transaction.

        ``online`` says, by view, up to which publication the online store has it. Raises NotComplete when an interval that
        is live is missing, or a newer publication is not online yet; then nothing changes.
        """
        database = self._database
        with database.writing() as connection:
            project = lock_project(database, connection)
            views = read_overlay_views(database, connection, name)
            services = read_overlay_services(database, connection, name)
            if not views and not services:
                raise NotComplete(f"project {database.project!r} has nothing to flip: no changes wait")
            _refuse_incomplete(lacking_intervals(database, connection, name))
            _refuse_offline(database, connection, views, online)
            version = project.version + 1
            sequence, now = take_sequence(database, connection, project)
            done = _flips_of(database.on_overlay(""), connection, views, version, sequence, now)
            replaced = {service.name: service for service in read_services(database.on_overlay(""), connection)}
            old = [replaced[service.name] for service in services if service.name in replaced]
            make_live(database, connection, [(view.step, view.generation) for view in views], version=version)
            register_services(database, connection, services)
            _write_flips(database, connection, done, old)
            _remove(database, connection, name)
            set_version(database, connection, version)
        return tuple(done)

    def flips(self, limit: int = 1000) -> list[Flip]:
        """Return what was flipped, newest first."""
        f = flips.c
        with self._database.reading() as connection:
            rows = connection.execute(
                sa.select(flips).where(f.project == self._database.project).order_by(f.version.desc(), f.view).limit(limit)
            )
            return [_flip(row) for row in rows]

    @repeated
    def roll_back(self, views: Collection[str], version: int) -> int:
        """Make live again what a flip replaced of some views, in one transaction; return the project's new version.

        Views that the flip brought are retired. Services that it replaced come back when all of its views do.
        """
        database, f = self._database, flips.c
        with database.writing() as connection:
            project = lock_project(database, connection)
            new_version: int = project.version + 1
            chosen = (f.project == database.project, f.version == version)
            rows = connection.execute(sa.select(flips).where(*chosen).order_by(f.view)).all()
            undone = [row for row in rows if row.view in views and row.rolled_back_at is None]
            if not undone:
                raise UnknownFeature(f"nothing of version {version} of project {database.project!r} is left to roll back")
            back: list[tuple[Step, int]] = []
            for row in undone:
                if row.old_version:
                    refuse_deleted(database, connection, row.view, row.old_generation)
                    back.append((read_step(database, connection, row.view, row.old_version), row.old_generation))
                else:
                    retire_view(database, connection, row.view)
            versions = {row.view: row.old_version for row in undone if row.old_version}
            make_live(database, connection, back, version=new_version, versions=versions)
            if len(undone) == len(rows):
                old = [service for row in rows for service in decode_json(row.old_services, list[PlannedService])]
                register_services(database, connection, old)
            sequence, now = take_sequence(database, connection, project)
            connection.execute(
                sa.update(flips)
                .where(*chosen, f.view.in_([row.view for row in undone]))
                .values(rolled_back_at=now, rolled_back_sequence=sequence)
            )
            _drop_broken_services(database, connection)
            set_version(database, connection, new_version)
        return new_version


def _flips_of(
    database: Database, connection: Connection, views: Sequence[RegisteredView], version: int, sequence: int, now: datetime
) -> list[Flip]:
    before = {view.name: view for view in read_views(database, connection, [view.name for view in views])}
    return [
        Flip(
            version=version,
            view=view.name,
            old_version=before[view.name].version if view.name in before else 0,
            old_generation=before[view.name].generation if view.name in before else 0,
            new_generation=view.generation,
            fingerprint=view.fingerprint,
            sequence=sequence,
            flipped_at=now,
        )
        for view in views
    ]


def _write_flips(database: Database, connection: Connection, done: Sequence[Flip], old: Sequence[PlannedService]) -> None:
    """Record flips; the services that they replaced go with the first of them."""
    rows: list[dict[str, object]] = []
    for number, flip in enumerate(done):
        row = {**msgspec.structs.asdict(flip), "old_services": msgspec.json.encode([] if number else list(old)).decode()}
        rows.append(row)
    database.insert(connection, flips, rows)


def _overlay(database: Database, connection: Connection, row: sa.Row[*tuple[Any, ...]]) -> Overlay:
    return Overlay(
        name=row.name,
        held=row.held,
        views=tuple(read_overlay_views(database, connection, row.name)),
        services=tuple(read_overlay_services(database, connection, row.name)),
        created_at=row.created_at,
    )


def _choose(
    database: Database, connection: Connection, overlay: str, step: Step, known: RegisteredView | None, *, renew: bool
) -> StagedView:
    """Return the generation in which a step goes on."""
    foreign = foreign_generations(database, connection, step, overlay)
    if known is not None and known.generation not in foreign and _goes_on(known.step, step):
        return StagedView(view=step.view, generation=known.generation)
    adopted = None if renew else adoptable_generation(database, connection, step, overlay)
    if adopted is not None:
        return StagedView(view=step.view, generation=adopted, adopted=True)
    return StagedView(view=step.view, generation=next_generation(database, connection, step.view))


def _goes_on(old: Step, new: Step) -> bool:
    """Whether what an overlay has published for an older definition can stay where it is."""
    change = compare_steps(old, new)
    return change is None or not change.renews


def _write(
    database: Database,
    connection: Connection,
    overlay: str,
    steps: Sequence[Step],
    staged: Sequence[StagedView],
    known: Mapping[str, RegisteredView],
) -> None:
    """Make the rows of an overlay those of the staged views; what stays the same keeps its instant."""
    now = database.now(connection)
    _delete_views(database, connection, overlay, list(known))
    rows: list[dict[str, object]] = []
    for step, view in zip(steps, staged, strict=True):
        before = known.get(step.view)
        same = before is not None and before.generation == view.generation and before.fingerprint == step.fingerprint
        rows.append({
            "overlay": overlay, "view": step.view, "generation": view.generation, "fingerprint": step.fingerprint,
            "step": encode_step(step), "registered_at": before.registered_at if before is not None and same else now,
        })  # fmt: skip
    database.insert(connection, overlay_views, rows)


def _write_overlay(
    database: Database, connection: Connection, name: str, services: Sequence[PlannedService], *, held: bool, keep: bool
) -> None:
    """Write the row of an overlay, or delete it when it holds nothing."""
    if not keep:
        _remove(database, connection, name)
        return
    row = {"held": held, "services": msgspec.json.encode(list(services), order="sorted").decode()}
    insert = database.insert_or(overlays).values(
        project=database.project, name=name, created_at=database.now(connection), revision=1, **row
    )
    changed = {**row, "revision": overlays.c.revision + 1}
    connection.execute(insert.on_conflict_do_update(index_elements=["project", "name"], set_=changed))


def _remove(database: Database, connection: Connection, name: str) -> None:
    o, v = overlays.c, overlay_views.c
    connection.execute(sa.delete(overlay_views).where(v.project == database.project, v.overlay == name))
    connection.execute(sa.delete(overlays).where(o.project == database.project, o.name == name))
    clear_on_demand(database, connection, name)


def _delete_views(database: Database, connection: Connection, overlay: str, views: Sequence[str]) -> None:
    v = overlay_views.c
    for batch in batches(views):
        connection.execute(
            sa.delete(overlay_views).where(v.project == database.project, v.overlay == overlay, v.view.in_(batch))
        )


def _refuse_incomplete(lacking: Mapping[str, Lacking]) -> None:
    missing = {view: len(found.intervals) for view, found in lacking.items() if found.intervals}
    if missing:
        shown = ", ".join(f"{view} ({count})" for view, count in sorted(missing.items()))
        raise NotComplete(
            f"the new generations lack intervals that are live: {shown}. `fstore run` computes them, or the maintenance DAG "
            "does; then they can take the place of the live ones.",
            missing,
        )


def _refuse_offline(
    database: Database, connection: Connection, views: Sequence[RegisteredView], online: Mapping[str, int]
) -> None:
    """Refuse views of which the online store lacks the newest publication."""
    behind: dict[str, int] = {}
    for view in views:
        newest = read_newest(database, connection, view.name, view.generation) if view.step.online else None
        if newest is not None and newest.sequence > online.get(view.name, 0):
            behind[view.name] = 1
    if behind:
        raise NotComplete(
            f"the online store has not the newest publication of {', '.join(sorted(behind))} yet: try again", behind
        )


def _drop_broken_services(database: Database, connection: Connection) -> None:
    """Remove services that read a feature which no live view has."""
    live = database.on_overlay("")
    known = {f"{view.name}:{feature.name}" for view in read_views(live, connection) for feature in view.step.features}
    known |= {f"on_demand:{item.name}" for item in read_on_demand(live, connection)}
    broken = [
        service.name
        for service in read_services(live, connection)
        if any(reference not in known for reference in service.features)
    ]
    remove_services(database, connection, broken)


def _flip(row: sa.Row[*tuple[Any, ...]]) -> Flip:
    return Flip(
        version=row.version,
        view=row.view,
        old_version=row.old_version,
        old_generation=row.old_generation,
        new_generation=row.new_generation,
        fingerprint=row.fingerprint,
        sequence=row.sequence,
        flipped_at=row.flipped_at,
        rolled_back_at=row.rolled_back_at,
    )
