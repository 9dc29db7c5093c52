"""The parts that a project runs on, opened by URL scheme: registry, offline store, online store and engine.

The one place that knows which scheme means which implementation. Each part is opened when it is first used, so that a
model server never touches the registry's migrations and a wait never opens a store; opening checks that the store is the
one the registry has recorded. Only :func:`create_backends` creates anything; an online store that lost everything is made
again by :meth:`Backends.renew_online`.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from contextlib import closing
from functools import cached_property
from typing import TYPE_CHECKING

from fstore.connections import LookUp, connection_url, masked_url, table_address
from fstore.errors import SettingsError, StoreMismatch, StoreMissing
from fstore.interval import Interval
from fstore.locality import renews_itself

if TYPE_CHECKING:
    from fstore.definitions.source import PostgresSource
    from fstore.engines.engine import Engine, FilesRelation
    from fstore.engines.extracts import Extracts
    from fstore.integrity import HeldFile
    from fstore.plan.steps import Step
    from fstore.registry.records import Head
    from fstore.registry.registry import Registry
    from fstore.settings import Settings
    from fstore.stores.offline import OfflineStore
    from fstore.stores.online import OnlineStore

# Each driver is imported when its part is first used: pyarrow, duckdb, sqlalchemy and redis together cost seconds, and no
# process needs them all.
# ruff: noqa: PLC0415


class Backends:
    """The opened parts of one project. Use as a context manager, or call :meth:`close`; not safe to share after a fork."""

    def __init__(self, settings: Settings, connections: LookUp = connection_url) -> None:
        self.settings, self._connections = settings, connections

    @cached_property
    def registry(self) -> Registry:
        """The registry. Raises StoreMissing, RegistryOutdated or RegistryUnavailable."""
        from fstore.registry.registry import open_registry

        _check_scheme(self.settings.registry_url, "registry", ("sqlite", "postgresql"))
        return open_registry(self.settings.registry_url, self.settings.project, self.settings.environment)

    @cached_property
    def offline(self) -> OfflineStore:
        """The offline store, checked against the id that the registry has recorded."""
        store = _offline_store(self.settings)
        _check_identity("offline", self.settings.offline_url, store.store_id(), self.registry.store_id("offline"))
        return store

    @cached_property
    def online(self) -> OnlineStore:
        """The online store, checked against the id that the registry has recorded."""
        store = _online_store(self.settings)
        try:
            self._check_online(store.store_id())
        except BaseException:
            store.close()
            raise
        return store

    def _check_online(self, found: str | None) -> None:
        if found is None and self.knows_online():
            raise StoreMissing(_lost(self.settings))
        _check_identity("online", self.settings.online_url, found, self.registry.store_id("online"))

    def renew_online(self) -> bool:
        """Give an online store that lost everything its id again, and return whether it had; its rows are for repair.

        As a server that was flushed or came up without its data, or a directory that was deleted. Only at the URL by which
        the registry knows the store, and only if that URL leads to the same store on every machine (``fstore.locality``): an
        empty one elsewhere is a mistake in the settings.
        """
        recorded = self.registry.store_id("online", at=self.settings.online_url)
        if recorded is None or not renews_itself(self.settings) or not self.has_lost_online():
            return False
        store = self.__dict__.get("online") or _online_store(self.settings)
        store.create(recorded)
        self.__dict__["online"] = store
        return True

    def has_lost_online(self) -> bool:
        """Whether the online store that the registry knows by this URL has lost everything, its id included."""
        if not self.knows_online():
            return False
        if "online" in self.__dict__:
            return _found_id(self.online) is None
        with closing(_online_store(self.settings)) as store:
            return _found_id(store) is None

    def knows_online(self) -> bool:
        """Whether the registry has recorded an online store by this URL; asks no store."""
        return self.registry.store_id("online", at=self.settings.online_url) is not None

    @cached_property
    def engine(self) -> Engine:
        """The engine, with the memory limit, threads and spill directory of the settings."""
        from fstore.engines.duckdb import DuckDBEngine

        return DuckDBEngine(
            memory_limit=self.settings.memory_limit,
            threads=self.settings.threads,
            spill_dir=self.settings.spill_dir,
            root=self.settings.root,
            extracts=self._find_extracts,
            before_query=self._release_server,
        )

    def extract(self, source: PostgresSource) -> None:
        """Copy what is new in a table or query into the offline store."""
        from fstore.extraction import extract_source

        extract_source(
            source, engine=self.engine, registry=self.registry, offline=self.offline, connections=self._connections,
            spill_dir=self.settings.spill_dir,
        )  # fmt: skip

    def dataset_address(self, source: PostgresSource) -> tuple[str, str]:
        """Return the name space and name of a table for lineage; the connection's name stands in where it is not known."""
        try:
            return table_address(source, self._connections(source.connection))
        except SettingsError:
            return table_address(source, None)

    def _release_server(self) -> None:
        """Keep no connection to the registry's server while something runs that may take an hour."""
        if "registry" in self.__dict__:
            self.registry.release_server()

    def _find_extracts(self, source: PostgresSource) -> Extracts:
        """Return the copies of a source that count, after making the first one where there is none."""
        from fstore.extraction import find_extracts, never_copied

        try:
            registry, offline = self.registry, self.offline
        except StoreMissing as error:
            raise never_copied(source) from error
        if not (found := find_extracts(source, registry, offline)).paths:
            self.extract(source)
            found = find_extracts(source, registry, offline)
        return found

    def published(
        self,
        step: Step,
        heads: Sequence[Head],
        *,
        features: Iterable[str] | None = None,
        as_of: int | None = None,
        without: Collection[str] = (),
    ) -> FilesRelation:
        """Return the published rows of a view that the given heads hold, as a relation for the engine.

        Columns are the keys, ``event_timestamp`` and the features asked for (None: all), in the step's order. Raises
        SnapshotExpired and FileDamaged for files that are known to be lost, unless ``without`` says that ``"deleted"`` or
        ``"damaged"`` ones are to be left out.
        ``as_of`` is for messages.
        """
        from fstore.arrow import arrow_schema
        from fstore.engines.engine import FilesRelation
        from fstore.integrity import refuse_lost

        held = self.held_files(heads)
        lost = self.registry.retention.lost({item.attempt for item in held})
        if "deleted" in without:
            held = [item for item in held if item.attempt not in lost.retired]
        if "damaged" in without:
            held = [item for item in held if item.file.path not in lost.damaged]
        refuse_lost(step.view, held, lost, as_of)
        return FilesRelation(
            files=tuple((self.offline.full_path(item.file.path), item.ranges) for item in held),
            filesystem=self.offline.filesystem,
            schema=arrow_schema(step.columns(features)),
            ends_inclusive=step.kind == "snapshot",
        )

    def held_files(self, heads: Sequence[Head]) -> list[HeldFile]:
        """Return the files that heads hold, each with the ranges that are read of it."""
        from fstore.integrity import HeldFile

        ranges: dict[int, list[Interval]] = {}
        for head in heads:
            ranges.setdefault(head.attempt, []).append(Interval(head.start, head.end))
        files = self.registry.ledger.files(list(ranges))
        chosen: list[HeldFile] = []
        for attempt, spans in ranges.items():
            for file in files.get(attempt, ()):
                held = tuple(span for span in spans if span.overlaps(Interval(file.start, file.end)))
                if held:
                    chosen.append(HeldFile(attempt=attempt, file=file, ranges=held))
        return chosen

    def on_overlay(self, overlay: str) -> Backends:
        """Return the same parts with the registry seen through an overlay; closing this one closes them."""
        seen = Backends(self.settings, self._connections)
        parts = {"offline": self.offline, "online": self.online, "engine": self.engine}
        seen.__dict__.update(parts, registry=self.registry.on_overlay(overlay))
        return seen

    def close(self) -> None:
        """Close what was opened."""
        for name in ("engine", "online", "registry"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()

    def __enter__(self) -> Backends:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_backends(settings: Settings, connections: LookUp = connection_url) -> Backends:
    """Return a project's parts, to be opened on first use; ``connections`` gives the URLs of databases that sources name."""
    return Backends(settings, connections)


def create_backends(settings: Settings) -> Backends:
    """Create what is missing of a project's registry and stores, record their ids, and return them opened.

    Safe to repeat, and to run at once from many processes. Raises StoreMismatch when a URL leads to a store that the
    registry does not know.
    """
    from fstore.registry.registry import create_registry

    _check_scheme(settings.registry_url, "registry", ("sqlite", "postgresql"))
    backends = Backends(settings)
    registry = create_registry(settings.registry_url, settings.project).on_overlay(settings.environment)
    backends.__dict__["registry"] = registry
    for kind, url, store in (
        ("offline", settings.offline_url, _offline_store(settings)),
        ("online", settings.online_url, _online_store(settings)),
    ):
        recorded = registry.store_id(kind)
        found = _found_id(store)
        if found is None:
            found = recorded or registry.claim_store(kind, url, uuid.uuid4().hex)
            store.create(found)
            registry.record_store(kind, url, found)
        elif recorded is None:
            registry.record_store(kind, url, found)
        else:
            _check_identity(kind, url, found, recorded)
        backends.__dict__[kind] = store
    return backends


def _lost(settings: Settings) -> str:
    """Return what to say of an online store that the registry knows, and that lost everything."""
    url = masked_url(settings.online_url)
    if renews_itself(settings):
        return (
            f"the online store at {url} has lost everything, its id included: the maintenance DAG, the next run or `fstore "
            "repair --online` fills it again from the offline store"
        )
    return (
        f"no online store at {url}. That URL means another store on every machine, so it is not made again by itself. If "
        "this is the machine of the store, and nothing is to be mounted or started first, run `fstore apply` and then "
        "`fstore repair --online`, which fills it from the offline store; otherwise correct FSTORE_ONLINE_URL"
    )


def _found_id(store: OfflineStore | OnlineStore) -> str | None:
    """Return a store's id, or None where there is none."""
    try:
        return store.store_id()
    except StoreMissing:
        return None


def _offline_store(settings: Settings) -> OfflineStore:
    from fstore.stores.offline import open_offline_store

    _check_scheme(settings.offline_url, "offline", ("file", "s3"))
    return open_offline_store(settings.offline_url, project=settings.project)


def _online_store(settings: Settings) -> OnlineStore:
    match _check_scheme(settings.online_url, "online", ("lmdb", "redis", "rediss", "unix")):
        case "lmdb":
            from fstore.stores.lmdb import LmdbStore

            return LmdbStore(settings.online_url.removeprefix("lmdb:"), settings.project)
        case _ if settings.online_url.partition(":")[0].endswith("+cluster"):
            from fstore.stores.redis_cluster import RedisClusterStore

            return RedisClusterStore(settings.online_url, settings.project)
        case _:
            from fstore.stores.redis import RedisStore

            return RedisStore(settings.online_url, settings.project)


def _check_scheme(url: str, part: str, schemes: Sequence[str]) -> str:
    scheme = url.partition(":")[0].partition("+")[0]
    if scheme == "airflow":
        raise SettingsError(
            f"the {part} URL {masked_url(url)!r} names an Airflow connection, which only Airflow's own processes can look up"
        )
    if scheme not in schemes:
        raise SettingsError(
            f"no {part} store for URL {masked_url(url)!r}: the scheme must be one of {', '.join(schemes)} (setting "
            f"{part}_url, or FSTORE_{part.upper()}_URL)"
        )
    return scheme


def _check_identity(kind: str, address: str, found: str | None, recorded: str | None) -> None:
    url = masked_url(address)
    if recorded is None:
        raise StoreMissing(f"the registry knows no {kind} store: run `fstore apply` once to create it at {url}")
    if found is None:
        raise StoreMissing(
            f"no {kind} store at {url}: run `fstore apply` to create it, or correct FSTORE_{kind.upper()}_URL"
        )
    if found != recorded:
        raise StoreMismatch(
            f"the {kind} store at {url} has id {found}, but this registry publishes to the one with id {recorded}. Correct "
            f"FSTORE_{kind.upper()}_URL or FSTORE_REGISTRY_URL: they belong to different installations."
        )
