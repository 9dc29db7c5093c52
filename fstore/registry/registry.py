"""The registry of one project: what is defined, which stores belong to it, and its ledger, outbox and lineage log.

``open_registry`` connects lazily to one that exists; ``create_registry`` creates it or brings its schema up to date. It
knows things and does nothing: it computes no feature and touches no store.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType

import sqlalchemy as sa

from fstore.connections import masked_url
from fstore.errors import StoreMismatch
from fstore.plan.diff import serves
from fstore.plan.steps import Plan, PlannedEntity, PlannedOnDemand, PlannedService, Step
from fstore.registry import tables
from fstore.registry.backups import ProjectState, highest_id, next_step, raise_ids, renew
from fstore.registry.commits import forget_commits
from fstore.registry.database import Database, repeated
from fstore.registry.ledger import Ledger
from fstore.registry.lineage_log import LineageLog
from fstore.registry.lineage_outbox import LineageOutbox
from fstore.registry.longer_ttl import bring_back, lengthened_views
from fstore.registry.on_demand import read_on_demand, register_on_demand, remove_on_demand, unknown_on_demand
from fstore.registry.online_marks import OnlineMarks
from fstore.registry.outbox import Outbox
from fstore.registry.outlook import Outlook, read_outlook
from fstore.registry.overlays import Overlays
from fstore.registry.publishing import lock_project
from fstore.registry.records import Change, Raised, RegisteredStore, RegisteredView, Registration, RegistryState
from fstore.registry.registration import (
    register_entities,
    register_services,
    register_views,
    remove_services,
    retire_view,
    set_version,
    write_source_schemas,
)
from fstore.registry.retention import Retention
from fstore.registry.source_changes import SourceChanges
from fstore.registry.source_extracts import SourceExtracts
from fstore.registry.views import (
    read_entities,
    read_last_step,
    read_services,
    read_step,
    read_versions,
    read_views,
    unknown_service,
    unknown_view,
)


def open_registry(url: str, project: str, overlay: str = "") -> Registry:
    """Open a registry that exists; the first use connects. An overlay's views come before the live ones.

    That use raises StoreMissing (never created), RegistryOutdated or RegistryUnavailable; SettingsError comes at once.
    """
    return Registry(Database(url, project, overlay))


def create_registry(url: str, project: str) -> Registry:
    """Create a registry, or bring an older one up to date, and enter the project. Safe to repeat."""
    database = Database(url, project)
    database.create(incarnation=uuid.uuid4().hex)
    return Registry(database)


class Registry:
    """The registry of one project. Safe to share between threads and over a fork."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.project, self.overlay = database.project, database.overlay
        self.url = database.label
        self.lineage = LineageLog(database)
        self.ledger = Ledger(database, self.lineage)
        self.outbox = Outbox(database)
        self.online = OnlineMarks(database)
        self.lineage_outbox = LineageOutbox(database)
        self.sources = SourceChanges(database)
        self.extracts = SourceExtracts(database)
        self.retention = Retention(database)
        self.overlays = Overlays(database)

    def on_overlay(self, overlay: str) -> Registry:
        """Return the same registry, seen through an overlay (empty: what is live)."""
        return Registry(self._database.on_overlay(overlay))

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Release what little an idle registry holds; it may be used again."""
        self._database.close()

    def holding(self) -> AbstractContextManager[None]:
        """Within the block, keep connections from one transaction to the next; it may be nested.

        For work of many transactions in a row. Nothing is kept over a fork; an SQLite file must not be replaced meanwhile.
        """
        return self._database.holding()

    def release_server(self) -> None:
        """Keep no connection to a server until the next transaction: what comes now may take long."""
        self._database.release_server()

    # -- definitions --------------------------------------------------------------------------------------------------

    @repeated
    def register(self, plan: Plan, *, rebuild: Collection[str] = (), expected: int | None = None) -> Registration:
        """Bring the registry in line with a plan; what the plan leaves out stays as it is.

        Views in ``rebuild`` begin a new, empty generation, because what they have published no longer fits. The project's
        version grows if, and only if, something changed. Raises DefinitionChanged when it is not the ``expected`` one.
        """
        database = self._database
        with database.writing() as connection:
            project = lock_project(database, connection, expected)
            forget_commits(database, connection)
            version = project.version + 1
            lengthened = lengthened_views(database, connection, plan.steps, rebuild)
            changes = [
                *register_entities(database, connection, plan.entities),
                *register_views(database, connection, plan.steps, version=version, rebuild=rebuild),
                *register_services(database, connection, plan.services),
                *register_on_demand(database, connection, plan.on_demand),
            ]
            if changes:
                set_version(database, connection, version)
            bring_back(database, connection, project, lengthened)
        return Registration(version=version if changes else version - 1, changes=tuple(changes))

    @repeated
    def retire(self, view: str) -> Registration:
        """Take a view out of the definitions; what it published stays readable in the log. Raises UnknownFeature."""
        database = self._database
        with database.writing() as connection:
            version = lock_project(database, connection).version + 1
            if not retire_view(database, connection, view):
                raise unknown_view(database, connection, view)
            set_version(database, connection, version)
        return Registration(version=version, changes=(Change("view", view, "retired"),))

    @repeated
    def retire_service(self, name: str) -> Registration:
        """Take a feature service out of the definitions. Raises UnknownFeature."""
        database = self._database
        with database.writing() as connection:
            version = lock_project(database, connection).version + 1
            if not read_services(database, connection, name):
                raise unknown_service(database, connection, name)
            remove_services(database, connection, [name])
            set_version(database, connection, version)
        return Registration(version=version, changes=(Change("service", name, "retired"),))

    @repeated
    def retire_on_demand(self, name: str) -> Registration:
        """Take an on-demand feature out of the definitions. Raises UnknownFeature."""
        database = self._database
        with database.writing() as connection:
            version = lock_project(database, connection).version + 1
            if not remove_on_demand(database, connection, name):
                raise unknown_on_demand(database, connection, name)
            set_version(database, connection, version)
        return Registration(version=version, changes=(Change("on_demand", name, "retired"),))

    def is_retired(self, view: str) -> bool:
        """Whether a view was registered once and was taken out of the definitions since."""
        v = tables.views.c
        with self._database.reading() as connection:
            query = sa.select(v.retired_at).where(v.project == self.project, v.name == view)
            return connection.execute(query).scalar() is not None

    def view(self, name: str) -> RegisteredView:
        """Return a registered view. Raises UnknownFeature, which suggests the closest name."""
        with self._database.reading() as connection:
            found = read_views(self._database, connection, [name])
            if not found:
                raise unknown_view(self._database, connection, name)
        return found[0]

    def views_at_once(self, names: Sequence[str]) -> list[RegisteredView]:
        """Return several views as they are at one version of the registry, in the order given. Raises UnknownFeature."""
        with self._database.reading() as connection:
            found = {view.name: view for view in read_views(self._database, connection, names)}
            if lacking := [name for name in names if name not in found]:
                raise unknown_view(self._database, connection, lacking[0])
        return [found[name] for name in names]

    def views(self) -> list[RegisteredView]:
        """Return the registered views in order of name; one query."""
        with self._database.reading() as connection:
            return read_views(self._database, connection)

    def versions(self, view: str) -> list[Step]:
        """Return the step of every version that a view has had, newest first; none for a view that never was."""
        with self._database.reading() as connection:
            return read_versions(self._database, connection, view)

    def last_step(self, view: str) -> Step | None:
        """Return the step that is live, or was when the view was taken out of the definitions; None if it never was."""
        with self._database.reading() as connection:
            return read_last_step(self._database, connection, view)

    def step_of_version(self, view: str, version: int) -> Step:
        """Return the step that a view had at a version that brought one."""
        with self._database.reading() as connection:
            return read_step(self._database, connection, view, version)

    def serving_fingerprints(self, step: Step) -> frozenset[str]:
        """Return the fingerprints of those versions of a view whose published rows hold for a step as they are."""
        return frozenset({step.fingerprint, *(old.fingerprint for old in self.versions(step.view) if serves(old, step))})

    def outlook(self, steps: Sequence[Step]) -> dict[str, Outlook]:
        """Return what the log says of every step that is registered, by view: all of one moment, in few queries."""
        with self._database.reading() as connection:
            return read_outlook(self._database, connection, steps)

    def entities(self) -> list[PlannedEntity]:
        """Return the registered entities in order of name."""
        with self._database.reading() as connection:
            return read_entities(self._database, connection)

    def service(self, name: str) -> PlannedService:
        """Return a registered feature service. Raises UnknownFeature, which suggests the closest name."""
        with self._database.reading() as connection:
            found = read_services(self._database, connection, name)
            if not found:
                raise unknown_service(self._database, connection, name)
        return found[0]

    def services(self) -> list[PlannedService]:
        """Return the registered feature services in order of name."""
        with self._database.reading() as connection:
            return read_services(self._database, connection)

    def on_demand(self, name: str) -> PlannedOnDemand:
        """Return a registered on-demand feature. Raises UnknownFeature, which suggests the closest name."""
        with self._database.reading() as connection:
            found = [item for item in read_on_demand(self._database, connection) if item.name == name]
            if not found:
                raise unknown_on_demand(self._database, connection, name)
        return found[0]

    def on_demand_features(self) -> list[PlannedOnDemand]:
        """Return the registered on-demand features in order of name."""
        with self._database.reading() as connection:
            return read_on_demand(self._database, connection)

    def version(self) -> int:
        """Return the number that grows with every change of definitions."""
        return self.state().version

    def state(self) -> RegistryState:
        """Return where the registry stands: its version, with what its overlay has changed, and the newest publication."""
        with self._database.reading() as connection:
            row = connection.execute(sa.select(tables.projects).where(tables.projects.c.project == self.project)).one()
            o = tables.overlays.c
            revision = connection.scalar(
                sa.select(o.revision).where(o.project == self.project, o.name == self.overlay)
            )  # none where nothing lies over what is live
        return RegistryState(
            incarnation=row.incarnation,
            version=row.version + (revision or 0),
            sequence=row.sequence,
            published_at=row.published_at,
            created_at=row.created_at,
        )

    def raise_above(self, *, sequence: int, attempt: int) -> Raised:
        """Give the registry a new incarnation whose sequences and ids are above these and all of its own.

        They go on from the next million, so that numbers are passed over that were given out and left no trace. Every
        process that is running is refused from then on, but for this one.
        """
        database = self._database
        with database.writing() as connection:
            project = lock_project(database, connection)
            state = ProjectState(project=self.project, sequence=project.sequence, version=project.version)
            newest = next_step(max(project.sequence, sequence))
            issued = next_step(max(highest_id(connection), attempt))
            incarnation = renew(connection, state, sequence=newest, version=project.version)
            raise_ids(database, connection, issued)
        database.follow(incarnation)
        return Raised(incarnation=incarnation, sequence=newest, attempt=issued)

    # -- sources and stores -------------------------------------------------------------------------------------------

    @repeated
    def record_source_schemas(self, schemas: Mapping[str, Mapping[str, str]]) -> None:
        """Record the columns and types of sources, in their order; unchanged ones are not written again."""
        database = self._database
        with database.writing() as connection:
            known = self._schemas(connection)
            fresh = {n: c for n, c in schemas.items() if n not in known or list(known[n].items()) != list(c.items())}
            if fresh:
                write_source_schemas(database, connection, fresh, database.now(connection))

    def source_schemas(self) -> dict[str, dict[str, str]]:
        """Return the recorded columns of sources: source to column to type, in the order of the source."""
        with self._database.reading() as connection:
            return self._schemas(connection)

    @repeated
    def claim_store(self, kind: str, url: str, store_id: str) -> str:
        """Record a store that is about to be created, unless one is recorded; return the id of the one that now is.

        So of several processes that create a project at once, all create the same stores.
        """
        database, s = self._database, tables.stores.c
        with database.writing() as connection:
            lock_project(database, connection)
            known = sa.select(s.store_id).where(s.project == self.project, s.kind == kind)
            if (found := connection.scalar(known)) is not None:
                return str(found)
            row: dict[str, object] = {"kind": kind, "url": masked_url(url), "store_id": store_id}
            database.insert(connection, tables.stores, [{**row, "recorded_at": database.now(connection)}])
            return store_id

    @repeated
    def record_store(self, kind: str, url: str, store_id: str) -> None:
        """Record the store of a kind (``offline``, ``online``). Raises StoreMismatch if another one is recorded."""
        database, s = self._database, tables.stores.c
        masked = masked_url(url)
        with database.writing() as connection:
            lock_project(database, connection)
            known = connection.execute(sa.select(tables.stores).where(s.project == self.project, s.kind == kind)).first()
            if known is not None and known.store_id != store_id:
                raise StoreMismatch(
                    f"project {self.project!r} has its {kind} store {known.store_id} at {known.url}, and {masked} is "
                    f"another one ({store_id}). Set the URL back, or use a project of another name."
                )
            if known is None:
                row: dict[str, object] = {"kind": kind, "url": masked, "store_id": store_id}
                database.insert(connection, tables.stores, [{**row, "recorded_at": database.now(connection)}])
            elif known.url != masked:
                connection.execute(
                    sa.update(tables.stores).where(s.project == self.project, s.kind == kind).values(url=masked)
                )

    def store_id(self, kind: str, *, at: str | None = None) -> str | None:
        """Return the id of the project's store of a kind, or None if none is recorded (or not ``at`` this URL)."""
        known = next((store for store in self.stores() if store.kind == kind), None)
        if known is None or (at is not None and masked_url(known.url) != masked_url(at)):
            return None
        return known.store_id

    def stores(self) -> list[RegisteredStore]:
        """Return the project's stores, by kind."""
        with self._database.reading() as connection:
            rows = connection.execute(
                sa.select(tables.stores).where(tables.stores.c.project == self.project).order_by(tables.stores.c.kind)
            ).all()
        return [
            RegisteredStore(kind=row.kind, url=row.url, store_id=row.store_id, recorded_at=row.recorded_at) for row in rows
        ]

    # -- parts --------------------------------------------------------------------------------------------------------

    def _schemas(self, connection: sa.Connection) -> dict[str, dict[str, str]]:
        c = tables.source_columns.c
        rows = connection.execute(
            sa.select(tables.source_columns).where(c.project == self.project).order_by(c.source, c.position)
        )
        schemas: dict[str, dict[str, str]] = {}
        for row in rows:
            schemas.setdefault(row.source, {})[row.name] = row.type
        return schemas
