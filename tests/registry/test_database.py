"""What can be wrong with a registry's database, and what SQL users find in it."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import stat
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from fstore.errors import RegistryError, RegistryOutdated, RegistryUnavailable, SettingsError, StoreMissing, StoreReadOnly
from fstore.registry import connecting, database, tables
from fstore.registry.database import REVISION_TABLE
from fstore.registry.migrations import REVISIONS
from fstore.registry.migrations.upgrade import alembic_config
from fstore.registry.registry import Registry, create_registry, open_registry
from tests.registry.examples import PROJECT, aggregate, day, days, example_plan, published, seen, validated

forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


# -- the schema -------------------------------------------------------------------------------------------------------


def test_the_revisions_make_the_tables(registry: Registry) -> None:
    with registry._database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "version_table": REVISION_TABLE})
        assert compare_metadata(context, tables.metadata) == []


def test_the_revisions_are_those_that_alembic_finds(registry: Registry) -> None:
    with registry._database.reading() as connection:
        script = ScriptDirectory.from_config(alembic_config(connection, REVISION_TABLE))
        assert [revision.revision for revision in script.walk_revisions()][::-1] == list(REVISIONS)


def test_creating_is_safe_to_repeat(empty_url: str) -> None:
    with create_registry(empty_url, PROJECT) as first:
        first.register(example_plan())
        state = first.state()
    with create_registry(empty_url, PROJECT) as second:
        assert second.state() == state
        assert [view.name for view in second.views()] == ["profile", "purchases_of_user"]


def test_a_registry_that_was_never_created(empty_url: str) -> None:
    registry = open_registry(empty_url, PROJECT)
    with pytest.raises(StoreMissing) as missing:
        registry.views()
    assert str(missing.value) == f"registry {registry.url} was never created: run `fstore apply`"
    create_registry(empty_url, PROJECT).close()
    assert registry.views() == [], "the same object works once it is there"
    with pytest.raises(StoreMissing) as foreign:
        open_registry(empty_url, "other").version()
    assert str(foreign.value) == f"registry {registry.url} knows no project 'other': run `fstore apply`"


def test_opening_a_missing_file_does_not_create_it(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing):
        open_registry(f"sqlite:///{tmp_path / 'registry.db'}", PROJECT).views()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("revision", "message"),
    [
        ("9999", "which this version of fstore does not know (it works with {newest}): a newer fstore wrote it, so upgrade this one"),
        ("0000", "and this version of fstore works with {newest}: run `fstore registry upgrade` once, with every other process on this version, too"),
    ],
)  # fmt: skip
def test_a_schema_of_another_version(empty_url: str, revision: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with create_registry(empty_url, PROJECT) as opened, opened._database.writing() as connection:
        connection.exec_driver_sql(f"UPDATE {REVISION_TABLE} SET version_num = '{revision}'")
    monkeypatch.setattr(database, "REVISIONS", ("0000", *REVISIONS))
    registry = open_registry(empty_url, PROJECT)
    with pytest.raises(RegistryOutdated) as outdated:
        registry.views()
    said = message.format(newest=REVISIONS[-1])
    assert str(outdated.value) == f"registry {registry.url} has schema revision {revision}, {said}"
    assert not outdated.value.retryable
    if revision == "9999":
        with pytest.raises(RegistryOutdated):
            create_registry(empty_url, PROJECT)


def open_registry_of(registry: Registry) -> Registry:
    return open_registry(registry.url, PROJECT)


# -- connections ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://root:pw@db/x", "a registry cannot be kept at mysql://…; use sqlite:///path/registry.db or postgresql://…"),
        ("registry.db", "'registry.db' is no registry URL; use sqlite:///path/registry.db or postgresql://…"),
        ("sqlite://", "the registry needs a file: use sqlite:///path/registry.db"),
        ("sqlite:///:memory:", "the registry needs a file: use sqlite:///path/registry.db"),
    ],
)
def test_urls_that_name_no_registry(url: str, message: str) -> None:
    with pytest.raises(SettingsError) as wrong:
        open_registry(url, PROJECT)
    assert str(wrong.value) == message


def test_a_missing_driver_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SettingsError) as missing:
        open_registry("postgresql://db/fstore", PROJECT)
    assert str(missing.value) == "a PostgreSQL registry needs the driver psycopg: pip install 'fstore[postgres]'"


@pytest.mark.parametrize("url", ["postgresql://fs:secret@127.0.0.1:1/fstore", "postgresql://127.0.0.1:1/f?password=secret"])
def test_an_unreachable_server_is_retryable_and_keeps_the_password(url: str) -> None:
    registry = open_registry(url, PROJECT)
    with pytest.raises(RegistryUnavailable) as unavailable:
        registry.views()
    assert unavailable.value.retryable
    assert str(unavailable.value).startswith(f"registry {registry.url} cannot be reached now: ")
    assert "secret" not in str(unavailable.value)


@pytest.mark.integration
def test_a_database_that_does_not_exist(postgres_url: str) -> None:
    registry = open_registry(postgres_url.rsplit("/", 1)[0] + "/nowhere", PROJECT)
    with pytest.raises(RegistryError) as missing:
        registry.views()
    assert str(missing.value).startswith(f"registry {registry.url} has no such database, create it first: ")
    assert not missing.value.retryable


@pytest.mark.integration
def test_a_read_only_server(postgres_database: str) -> None:
    with create_registry(postgres_database, PROJECT) as opened:
        with opened._database.engine.begin() as connection:
            name = connection.exec_driver_sql("SELECT current_database()").scalar()
            connection.exec_driver_sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        assert opened.views() == []
        with pytest.raises(RegistryError) as refused:
            opened.register(example_plan())
    assert isinstance(refused.value, StoreReadOnly)
    assert str(refused.value).startswith(f"registry {opened.url} is read-only: cannot execute ")


def test_a_read_only_file(sqlite_template: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(sqlite_template, tmp_path))
    with open_registry(f"sqlite:///{path}?mode=ro", PROJECT) as registry:
        assert registry.views() == []
        with pytest.raises(RegistryError) as refused:
            registry.register(example_plan())
    assert isinstance(refused.value, StoreReadOnly)
    assert str(refused.value) == f"registry {registry.url} is read-only: attempt to write a readonly database"


def test_a_file_that_could_not_be_opened_for_writing_just_then(sqlite_template: Path, tmp_path: Path) -> None:
    """SQLite falls back to reading when the disk fails as it opens the file, and says that the database is read-only."""
    path = Path(shutil.copy(sqlite_template, tmp_path))
    fallen_back = sa.exc.OperationalError("INSERT", {}, Exception("attempt to write a readonly database"))
    with open_registry(f"sqlite:///{path}", PROJECT) as registry, pytest.raises(RegistryUnavailable) as failed:  # noqa: SIM117
        with registry._database.errors():
            raise fallen_back
    assert failed.value.retryable


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_directory_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(RegistryError) as refused:
            create_registry(f"sqlite:///{tmp_path}/sub/registry.db", PROJECT)
        assert "cannot be created" in str(refused.value)
    finally:
        tmp_path.chmod(stat.S_IRWXU)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    path.write_bytes(b"half a download" * 100)
    for use in (lambda r: r.views(), lambda r: create_registry(f"sqlite:///{path}", PROJECT)):
        registry = open_registry(f"sqlite:///{path}", PROJECT)
        with pytest.raises(RegistryError) as damaged:
            use(registry)
        assert str(damaged.value) == (
            f"registry {registry.url} is damaged or not a registry: file is not a database. Correct FSTORE_REGISTRY_URL; or "
            "move the file away, and `fstore registry restore BACKUP --adopt`"
        )


def test_a_disk_without_room_says_so(sqlite_template: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(sqlite_template, tmp_path))
    with open_registry(f"sqlite:///{path}", PROJECT) as registry:
        registry.views()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
        try:
            with pytest.raises(RegistryUnavailable) as full:
                registry.record_store("offline", "file:/elsewhere", "an id")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert str(full.value).endswith(": its disk fails or is full, see to it and run again")
        registry.record_store("offline", "file:/elsewhere", "an id")


def test_paths_with_odd_characters(tmp_path: Path) -> None:
    path = tmp_path / "a b#c%20" / "régistre.db"
    with create_registry(f"sqlite:///{path}", PROJECT) as registry:
        assert registry.version() == 0
    assert path.is_file()


def test_a_lock_that_is_held_too_long_is_retryable(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = validated(registry, aggregate(), days(0, 1), "run")
    with open_registry_of(registry) as waiter:
        with registry._database.writing() as connection:
            connection.execute(sa.select(tables.projects).with_for_update())
            assert waiter.version() == 1, "readers do not wait"
            monkeypatch.setattr(connecting, "BUSY_SECONDS", 1)
            with pytest.raises(RegistryUnavailable) as busy:
                waiter.ledger.publish(attempt)
            assert busy.value.retryable
        assert waiter.ledger.publish(attempt).sequence == 1


@forks
def test_a_registry_may_be_used_on_both_sides_of_a_fork(registry: Registry) -> None:
    published(registry, aggregate(), days(0, 1), "parent")
    child = os.fork()
    if child == 0:
        try:
            published(registry, aggregate(), days(1, 2), "child")
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    published(registry, aggregate(), days(2, 3), "parent")
    assert [end for _, end, _ in seen(registry)] == [1, 2, 3]


@forks
def test_a_killed_writer_leaves_nothing_behind(registry: Registry) -> None:
    attempt = validated(registry, aggregate(), days(0, 1), "run")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with registry._database.writing() as connection:
            connection.execute(sa.update(tables.projects).values(sequence=77))
            os.write(writer, b"x")
            signal.pause()
    os.read(reader, 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reader)
    os.close(writer)
    assert registry.ledger.publish(attempt).sequence == 1


@forks
@pytest.mark.integration
@pytest.mark.parametrize("registry_url", ["postgresql"], indirect=True)
def test_a_frozen_writer_loses_its_lock(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = validated(registry, aggregate(), days(0, 1), "run")
    reader, writer = os.pipe()
    monkeypatch.setattr(connecting, "BUSY_SECONDS", 1)
    child = os.fork()
    if child == 0:
        with registry._database.writing() as connection:
            connection.execute(sa.update(tables.projects).values(sequence=77))
            os.write(writer, b"x")
            os.kill(os.getpid(), signal.SIGSTOP)
    os.read(reader, 1)
    monkeypatch.setattr(connecting, "BUSY_SECONDS", 20)
    try:
        assert registry.ledger.publish(attempt).sequence == 1
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)
        os.close(writer)


# -- what SQL users see -----------------------------------------------------------------------------------------------


def test_instants_are_exact_and_compare_in_sql(registry: Registry) -> None:
    exact = datetime(2026, 3, 29, 1, 59, 59, 999_999, tzinfo=UTC)
    zoned = exact.astimezone(timezone(timedelta(hours=5, minutes=30)))
    registry.register(example_plan(steps=(aggregate(start=zoned, end=day(365)),)))
    assert registry.view("purchases_of_user").step.start == exact
    with registry._database.reading() as connection:
        row = connection.execute(sa.select(tables.views).where(tables.views.c.name == "purchases_of_user")).one()
        assert (row.start_at, row.start_at.tzinfo, row.end_at) == (exact, UTC, day(365))
        ask = "SELECT name FROM views WHERE start_at > '2026-03-29 01:59:59.999998' AND start_at < '2026-03-29 02:00:00'"
        assert connection.exec_driver_sql(ask).scalars().all() == ["purchases_of_user"]
    with pytest.raises(sa.exc.StatementError, match="has no time zone"), registry._database.reading() as connection:
        connection.execute(sa.select(tables.views).where(tables.views.c.start_at > datetime(2026, 1, 1)))  # noqa: DTZ001


def test_instants_on_sqlite_are_text_that_its_functions_read(sqlite_template: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(sqlite_template, tmp_path))
    with open_registry(f"sqlite:///{path}", PROJECT) as registry:
        registry.register(example_plan())
        published(registry, aggregate(), days(0, 2), "run")
    connection = sqlite3.connect(path)
    try:
        ask = "SELECT start_at, date(end_at), published_at <= datetime('now', '+1 second') FROM publications"
        assert connection.execute(ask).fetchall() == [("2026-01-01 00:00:00.000000", "2026-01-03", 1)]
    finally:
        connection.close()


def test_definitions_are_ordinary_columns(registry: Registry) -> None:
    registry.record_source_schemas({"purchases": {"user_id": "string"}})
    published(registry, aggregate(), days(0, 2), "run", blocked=days(1, 2))
    asked = {
        "SELECT name, owner, kind, step, schedule, lag_seconds, ttl_seconds, module, line FROM views WHERE owner = 'growth'":
            [("purchases_of_user", "growth", "snapshot", "aggregate", "0 0 * * *", 7200.0, 259200.0, "feature_defs/shop.py", 10)],
        "SELECT view, name, type FROM features WHERE pii": [("profile", "regular", "bool")],
        "SELECT view FROM view_inputs WHERE input = 'purchases_of_user' AND kind = 'snapshot'": [("profile",)],
        "SELECT view, feature FROM service_features WHERE service = 'churn' ORDER BY position":
            [("profile", "regular"), ("purchases_of_user", "count_7d")],
        "SELECT s.path, c.name FROM sources s JOIN source_columns c ON c.source = s.name": [("data/purchases/", "user_id")],
        "SELECT label, violations FROM check_results WHERE violations > 0": [("in_range(count_7d, 0, 9)", 2)],
        "SELECT outcome, rows FROM attempt_intervals ORDER BY start_at": [("published", 3), ("blocked", 3)],
        "SELECT path, rows FROM data_files": [("1.parquet", 3)],
        "SELECT entity, name, type FROM entity_keys": [("user", "user_id", "string")],
    }  # fmt: skip
    with registry._database.reading() as connection:
        for query, rows in asked.items():
            assert [tuple(row) for row in connection.exec_driver_sql(query)] == rows, query


def test_json_columns_answer_to_the_operators_of_json(registry: Registry) -> None:
    query = "SELECT step->>'sql', step->'features'->0->>'name' FROM view_versions WHERE view = 'profile'"
    with registry._database.reading() as connection:
        assert [tuple(row) for row in connection.exec_driver_sql(query)] == [("SELECT 2", "regular")]
