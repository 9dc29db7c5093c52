"""Backups of both databases, restored into both, and interrupted anywhere."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from fstore.errors import RegistryError, RegistryOutdated, RegistryRestored, SettingsError
from fstore.failpoints import arm, disarm, kill
from fstore.registry.backups import STEP, ProjectState, back_up, highest_id, next_step, raise_ids, restore
from fstore.registry.database import REVISION_TABLE
from fstore.registry.migrations import REVISIONS
from fstore.registry.registry import Registry, create_registry, open_registry
from fstore.registry.tables import attempts, commits, metadata, projects
from tests.registry.examples import PROJECT, aggregate, days, example_plan, published, seen, validated

forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    disarm()


def rows_of(registry: Registry) -> dict[str, list[tuple[object, ...]]]:
    """Everything that a registry holds, but for tokens and what restoring renews."""
    with registry._database.reading() as connection:
        found = {
            table.name: sorted((tuple(row) for row in connection.execute(sa.select(table))), key=repr)
            for table in metadata.sorted_tables
            if table is not commits and table is not projects
        }
        found["projects"] = [
            tuple(row) for row in connection.execute(sa.select(projects.c.project, projects.c.published_at))
        ]
        return found


def fill(registry: Registry) -> None:
    registry.record_source_schemas({"purchases": {"user_id": "string"}})
    registry.record_store("offline", "file:/somewhere", "id-1")
    published(registry, aggregate(), days(0, 3), "run", blocked=days(1, 2))
    validated(registry, aggregate(), days(3, 4), "run-2")


@pytest.fixture
def filled(registry: Registry) -> Registry:
    fill(registry)
    return registry


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def target_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'target' / 'registry.db'}"
    return str(request.getfixturevalue("postgres_database"))


def test_a_backup_is_restored_into_either_database(filled: Registry, target_url: str, tmp_path: Path) -> None:
    before = rows_of(filled)
    (state,) = back_up(filled._database, tmp_path / "backup.db")
    assert state == ProjectState(project=PROJECT, sequence=2, version=1)
    assert [path.name for path in tmp_path.iterdir() if "backup" in path.name] == ["backup.db"], (
        "one file, nothing beside it"
    )
    other = open_registry(target_url, PROJECT)
    assert restore(other._database, tmp_path / "backup.db") == [ProjectState(project=PROJECT, sequence=2, version=1000)]
    assert rows_of(other) == before
    assert other.state().incarnation != filled.state().incarnation
    assert published(other, aggregate(), days(4, 5), "run-3").sequence == 3
    assert [attempt for _, _, attempt in seen(other)] == [1, 1, 3], "ids go on where they were"


def test_a_backup_may_be_made_while_others_write(filled: Registry, registry_url: str, tmp_path: Path) -> None:
    stop = threading.Event()

    def publish() -> None:
        with open_registry(registry_url, PROJECT) as own:
            number = 0
            while not stop.is_set():
                published(own, aggregate(), days(number, number + 1), f"w-{number}")
                number += 1

    writer = threading.Thread(target=publish)
    writer.start()
    try:
        for number in range(3):
            (state,) = back_up(filled._database, tmp_path / f"{number}.db")
            with open_registry(f"sqlite:///{tmp_path / f'{number}.db'}", PROJECT) as copy:
                log = copy.ledger.publications(limit=10_000)
                assert [p.sequence for p in log] == list(range(1, state.sequence + 1))
                assert len(copy.outbox.pending(limit=10_000)) > 0
    finally:
        stop.set()
        writer.join()


def test_what_is_there_is_replaced_only_by_name(filled: Registry, tmp_path: Path) -> None:
    back_up(filled._database, tmp_path / "backup.db")
    published(filled, aggregate(), days(3, 5), "later")
    before, state = rows_of(filled), filled.state()
    with pytest.raises(SettingsError) as refused:
        restore(filled._database, tmp_path / "backup.db")
    assert str(refused.value) == (
        f"registry {filled.url} is not empty: it has project 'shop' up to sequence {state.sequence}. Restoring replaces all of "
        "it; name what is to be replaced: --replace shop"
    )
    assert (rows_of(filled), filled.state()) == (before, state)
    (restored,) = restore(filled._database, tmp_path / "backup.db", replace=["shop"])
    assert restored.sequence == state.sequence, "what was given out is not given out again"
    assert [attempt for _, _, attempt in seen(filled)] == [1, 1]


def test_a_process_that_was_running_writes_nothing_into_what_was_restored(
    filled: Registry, registry_url: str, tmp_path: Path
) -> None:
    """Its attempt may be another one by now."""
    back_up(filled._database, tmp_path / "backup.db")
    zombie = validated(filled, aggregate(), days(5, 6), "zombie")
    with open_registry(registry_url, PROJECT) as operator:
        restore(operator._database, tmp_path / "backup.db", replace=["shop"])
    with pytest.raises(RegistryRestored) as refused:
        filled.ledger.publish(zombie)
    assert str(refused.value) == (
        f"registry {filled.url} was restored while this process was running, so what it has begun there is not known any "
        "more. Nothing was written; run it again from the start (in Airflow: clear compute)."
    )
    assert not refused.value.retryable
    assert filled.version() == 1000, "reading goes on"


@forks
@pytest.mark.parametrize("name", ["restore.begun", "restore.emptied", "restore.filled", "restore.committed"])
def test_a_restore_that_is_killed_leaves_the_old_one_whole_or_the_new_one(
    filled: Registry, registry_url: str, tmp_path: Path, name: str
) -> None:
    back_up(filled._database, tmp_path / "backup.db")
    saved = rows_of(filled)
    published(filled, aggregate(), days(3, 5), "later")
    before = rows_of(filled)
    child = os.fork()
    if child == 0:
        arm(name, kill)
        restore(filled._database, tmp_path / "backup.db", replace=["shop"])
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with open_registry(registry_url, PROJECT) as after:
        assert rows_of(after) == (saved if name == "restore.committed" else before)
        restore(after._database, tmp_path / "backup.db", replace=["shop"])
    with open_registry(registry_url, PROJECT) as again:
        assert rows_of(again) == saved


@forks
def test_a_backup_that_is_killed_leaves_no_file(filled: Registry, tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        arm("backup.written", kill)
        back_up(filled._database, tmp_path / "backup.db")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not (tmp_path / "backup.db").exists()
    back_up(filled._database, tmp_path / "backup.db")
    with pytest.raises(SettingsError) as exists:
        back_up(filled._database, tmp_path / "backup.db")
    assert str(exists.value) == f"{tmp_path / 'backup.db'} exists already; a backup never replaces a file"


def test_files_that_are_no_backup_change_nothing(registry: Registry, tmp_path: Path) -> None:
    text, empty, other = tmp_path / "text.db", tmp_path / "empty.db", tmp_path / "other.db"
    text.write_text("half a download" * 500)
    empty.write_bytes(b"")
    sqlite3.connect(other).execute("CREATE TABLE t (x)").connection.close()
    whole = tmp_path / "whole.db"
    fill(registry)
    back_up(registry._database, whole)
    content = bytearray(whole.read_bytes())
    content[8192:9000] = bytes(808)
    torn = tmp_path / "torn.db"
    torn.write_bytes(content[: len(content) // 2])
    before = rows_of(registry)
    for path in (text, empty, other, torn):
        with pytest.raises(RegistryError, match=f"^{path} is not a backup of a registry, or is damaged"):
            restore(registry._database, path, replace=["shop"])
    with pytest.raises(SettingsError, match=r"^there is no backup at "):
        restore(registry._database, tmp_path / "nowhere.db", replace=["shop"])
    assert rows_of(registry) == before


def test_a_backup_of_a_newer_fstore_is_refused(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "backup.db"
    back_up(registry._database, path)
    connection = sqlite3.connect(path)
    connection.execute(f"UPDATE {REVISION_TABLE} SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(RegistryOutdated) as newer:
        restore(registry._database, path, replace=["shop"])
    assert str(newer.value) == (
        f"registry {path} has schema revision 9999, which this version of fstore does not know (it works with "
        f"{REVISIONS[-1]}): a newer fstore wrote it, so upgrade this one"
    )


def test_every_project_has_to_be_named(registry: Registry, registry_url: str, tmp_path: Path) -> None:
    with create_registry(registry_url, "stock") as other:
        other.register(msgspec.structs.replace(example_plan(), project="stock", services=(), steps=(aggregate(),)))
    back_up(registry._database, tmp_path / "backup.db")
    with pytest.raises(SettingsError, match="it has project 'stock' up to sequence 0"):
        restore(registry._database, tmp_path / "backup.db", replace=["shop"])
    states = restore(registry._database, tmp_path / "backup.db", replace=["shop", "stock"])
    assert [state.project for state in states] == ["shop", "stock"]


def test_ids_are_raised_and_never_lowered(filled: Registry) -> None:
    database = filled._database
    with database.writing() as connection:
        raise_ids(database, connection, above=next_step(highest_id(connection)))
    assert filled.ledger.begin(aggregate(), days(0, 1), "run").id == STEP + 1
    with database.writing() as connection:
        raise_ids(database, connection)
        assert connection.scalar(sa.select(sa.func.max(attempts.c.id))) == STEP + 1
    assert filled.ledger.begin(aggregate(), days(0, 1), "run").id == STEP + 2
