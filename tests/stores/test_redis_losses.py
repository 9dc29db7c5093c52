"""What a Redis server may do to those who use it: restart, fail over, be flushed, be of no use for a while, refuse.

Every state of the table in docs/reference/online-stores.md has its test here or in test_redis.py, on a real server; only a
cluster's answers come from a socket, because a real one takes a minute to form.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from fstore.errors import StoreChanged, StoreError, StoreFull, StoreMissing, StoreReadOnly, StoreUnavailable
from fstore.stores.online import Floor, Mark
from fstore.stores.redis import RedisStore
from scripts.proxy import Cut, Faults, Mode, Proxy
from scripts.servers import RunningServer, free_port
from tests.contracts.online_writers import VIEW, row
from tests.contracts.test_online_store import NOON
from tests.stores.test_redis import server

pytestmark = pytest.mark.integration

FLOOR = Floor(sequence=1, end=NOON)


@contextlib.contextmanager
def created(url: str, options: str = "?socket_timeout=0.3&socket_connect_timeout=0.3") -> Iterator[RedisStore]:
    store = RedisStore(url + options, "shop")
    store.create("id-1")
    yield store
    store.close()


def admin(running: RunningServer) -> redis.Redis:
    return redis.Redis.from_url(running.url)


def settle(store: RedisStore, ticket: int, *, key: bytes = b"a", life: str | None = None) -> None:
    """Do what applying a publication does: rows, then floor and mark."""
    life = life or store.mark(VIEW).life
    store.write_rows(VIEW, [key], [row(ticket)])
    store.raise_floor(VIEW, Floor(sequence=ticket, end=NOON), Mark(life=life, ticket=ticket, settled=ticket - 1))


# -- losses ------------------------------------------------------------------------------------------------------------


def test_a_restart_without_persistence_is_a_missing_store() -> None:
    port = free_port()
    with server(port=port) as running, created(running.url) as store:
        settle(store, 1)
        running.kill()
        with server(port=port):
            with pytest.raises(StoreMissing):
                store.read_view(VIEW, [b"a"])
            with pytest.raises(StoreMissing):
                store.mark(VIEW)
            store.create("id-1")
            assert store.mark(VIEW).ticket == 0


def test_a_restart_with_persistence_keeps_all_and_is_another_life() -> None:
    port = free_port()
    with server("--appendonly", "yes", "--appendfsync", "always", port=port) as running, created(running.url) as store:
        settle(store, 1)
        before = store.mark(VIEW)
        with contextlib.suppress(redis.ConnectionError), admin(running) as client:
            client.shutdown(nosave=True)
        with server("--appendonly", "yes", "--dir", str(running.directory), port=port):
            assert store.read_rows(VIEW, [b"a"]) == [row(1)]
            after = store.mark(VIEW)
            assert (after.ticket, after.life != before.life) == (1, True)
            with pytest.raises(StoreChanged):
                settle(store, 2, life=before.life)
            settle(store, 2)


def test_an_old_snapshot_has_an_old_mark() -> None:
    port = free_port()
    with server(port=port) as running, created(running.url) as store:
        settle(store, 1)
        with admin(running) as client:
            client.save()
        settle(store, 2)
        running.kill()
        with server("--dir", str(running.directory), port=port):
            assert (store.mark(VIEW).ticket, store.floor(VIEW)) == (1, FLOOR)
            assert store.read_rows(VIEW, [b"a"]) == [row(1)]
            life = store.mark(VIEW).life
            store.raise_floor(VIEW, Floor(sequence=3, end=NOON), Mark(life=life, ticket=3, settled=2))
            assert store.mark(VIEW).ticket == 1, "what was lost is not hidden by what came after it"


def test_a_flush_is_another_life() -> None:
    with server() as running, created(running.url) as store:
        before = store.mark(VIEW).life
        with admin(running) as client:
            client.flushall()
        with pytest.raises(StoreMissing):
            settle(store, 1, life=before)
        store.create("id-1")
        with pytest.raises(StoreChanged):
            settle(store, 1, life=before)


def test_a_lagging_replica_that_is_promoted_is_another_life_with_an_old_mark() -> None:
    with server() as primary, Proxy(primary.port) as line, server("--replicaof", "127.0.0.1", str(line.port)) as replica:
        with created(primary.url) as store, admin(primary) as client:
            settle(store, 1)
            assert client.wait(1, 20_000) == 1
            before = store.mark(VIEW).life
            line.set(Faults(mode=Mode.BLACK_HOLE))
            settle(store, 2)
            primary.kill()
        with admin(replica) as client:
            client.replicaof("NO", "ONE")
        with created(replica.url) as store:
            assert (store.mark(VIEW).ticket, store.floor(VIEW)) == (1, FLOOR)
            assert store.mark(VIEW).life != before
            with pytest.raises(StoreChanged):
                settle(store, 3, life=before)


def test_a_promoted_replica_takes_writes_within_the_same_call() -> None:
    with server() as primary, server("--replicaof", "127.0.0.1", str(primary.port)) as replica:
        with created(primary.url) as store, admin(primary) as client:
            settle(store, 1)
            assert client.wait(1, 20_000) == 1
        second = RedisStore(replica.url, "shop")
        later = threading.Timer(0.4, lambda: admin(replica).replicaof("NO", "ONE"))
        later.start()
        life = second.mark(VIEW).life
        assert second.write_rows(VIEW, [b"a"], [row(2)]) == 1
        later.join()
        with pytest.raises(StoreChanged):
            settle(second, 2, life=life)
        settle(second, 2)
        second.close()


# -- states that pass ---------------------------------------------------------------------------------------------------


def test_a_killed_connection_is_not_noticed() -> None:
    with server() as running, created(running.url) as store, admin(running) as client:
        for ticket in (1, 2, 3):
            client.client_kill_filter(_type="normal", skipme=True)
            settle(store, ticket)
            client.client_kill_filter(_type="normal", skipme=True)
            assert store.read_rows(VIEW, [b"a"]) == [row(ticket)]


def test_a_server_that_is_busy_with_a_script_is_waited_for() -> None:
    with server("--lua-time-limit", "1") as running, created(running.url, "?socket_timeout=3") as store:
        settle(store, 1)
        endless = threading.Thread(target=_spin, args=(running,))
        endless.start()
        time.sleep(0.2)
        later = threading.Timer(0.5, lambda: admin(running).script_kill())
        later.start()
        assert store.read_rows(VIEW, [b"a"]) == [row(1)]
        later.join()
        endless.join()


def _spin(running: RunningServer) -> None:
    with contextlib.suppress(redis.RedisError):
        admin(running).eval("while true do end", 0)


def test_trying_again_ends() -> None:
    with server() as running, created(running.url) as store, Proxy(running.port) as proxy:
        through = RedisStore(proxy.url(running.url) + "?socket_timeout=0.3", "shop")
        for faults in (Faults(mode=Mode.REFUSE), Faults(mode=Mode.RESET), Faults(mode=Mode.BLACK_HOLE), Faults(to_client=3)):
            with proxy.broken(faults):
                began = time.monotonic()
                with pytest.raises(StoreUnavailable) as caught:
                    through.read_rows(VIEW, [b"a"])
                assert 1 < time.monotonic() - began < 6
                assert caught.value.retryable
        settle(store, 1)
        assert through.read_rows(VIEW, [b"a"]) == [row(1)]
        through.close()


@pytest.mark.parametrize("cut", list(Cut))
def test_a_write_whose_answer_is_lost_is_written_once(cut: Cut) -> None:
    with server() as running, created(running.url) as store, Proxy(running.port) as proxy:
        through = RedisStore(proxy.url(running.url) + "?socket_timeout=0.5", "shop")
        settle(through, 1)
        for pattern in (b"EVALSHA", b"EVAL\r\n", b"MGET", b"EXISTS"):
            proxy.set(Faults(pattern=pattern, cut=cut, times=1))
            settle(through, store.mark(VIEW).ticket + 1)
            assert through.read_rows(VIEW, [b"a"]) == [row(store.mark(VIEW).ticket)]
            assert store.floor(VIEW) == Floor(sequence=store.mark(VIEW).ticket, end=NOON)
        assert proxy.cuts == 4
        through.close()


# -- states that do not pass --------------------------------------------------------------------------------------------


def fill(store: RedisStore) -> None:
    for n in range(100):
        store.write_rows(VIEW, [b"%d" % n], [row(1, b"x" * 100_000)])


def test_out_of_memory_keeps_reads_and_ends_with_more_memory() -> None:
    with server("--maxmemory", "4mb", "--maxmemory-policy", "noeviction") as running, created(running.url) as store:
        settle(store, 1)
        with admin(running) as client:
            with pytest.raises(StoreFull) as caught:
                fill(store)
            assert caught.value.retryable
            assert store.read_rows(VIEW, [b"a"]) == [row(1)]
            client.config_set("maxmemory", "64mb")
        settle(store, 2)


def test_a_replica_is_refused_after_a_while_and_says_that_this_may_pass() -> None:
    with server() as primary, server("--replicaof", "127.0.0.1", str(primary.port)) as replica:
        store = RedisStore(replica.url, "shop")
        began = time.monotonic()
        with pytest.raises(StoreReadOnly, match="it is a replica") as caught:
            store.create("id-1")
        assert 1 < time.monotonic() - began < 6
        assert caught.value.retryable
        store.close()


def test_a_disk_that_fails_stops_writes_until_it_is_mended() -> None:
    with server() as running, created(running.url, "?socket_timeout=3") as store, admin(running) as client:
        settle(store, 1)
        client.config_set("save", "3600 1")
        (running.directory / "dump.rdb").mkdir()  # what a snapshot cannot take the place of
        client.bgsave()
        while client.info("persistence")["rdb_last_bgsave_status"] == "ok":
            time.sleep(0.02)
        with pytest.raises(StoreUnavailable, match="MISCONF") as caught:
            settle(store, 2)
        assert caught.value.retryable
        (running.directory / "dump.rdb").rmdir()
        client.bgsave()
        settle(store, 2)


CLUSTER = "is a node of a Redis Cluster, which spreads keys over servers"


def test_a_cluster_is_refused_at_once() -> None:
    low = next(port for port in iter(free_port, 0) if port < 55_000)  # a cluster's nodes use the one 10,000 above as well
    with server("--cluster-enabled", "yes", port=low) as running:
        store = RedisStore(running.url, "shop")
        with pytest.raises(StoreError, match=CLUSTER) as caught:
            store.create("id-1")
        assert (caught.value.code, caught.value.retryable) == ("store_error", False)
        with pytest.raises(StoreUnavailable, match="Hash slot not served"):
            store.store_id()
        with admin(running) as client:
            client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
            while b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO"):
                time.sleep(0.05)
        with pytest.raises(StoreError, match=CLUSTER):
            store.read_view(VIEW, [b"a", b"b"])  # of several slots
        store.close()


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """Give the URL of a server that gives one answer to everything but the greeting."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65536):
                commands = data.count(b"*") if b"CLIENT" in data or b"HELLO" in data else 0
                connection.sendall(b"+OK\r\n" * commands if commands else answer)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0?protocol=2&socket_timeout=1"
    finally:
        listener.close()


@pytest.mark.parametrize(
    ("answer", "kind", "retryable", "words"),
    [
        (b"-MOVED 7000 10.0.0.1:6379\r\n", StoreError, False, CLUSTER),
        (b"-ASK 7000 10.0.0.1:6379\r\n", StoreError, False, CLUSTER),
        (b"-CROSSSLOT Keys in request don't hash to the same slot\r\n", StoreError, False, CLUSTER),
        (b"-CLUSTERDOWN The cluster is down\r\n", StoreUnavailable, True, "cannot be reached now"),
        (b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n", StoreUnavailable, True, "cannot be reached now"),
        (b"-MASTERDOWN Link with MASTER is down\r\n", StoreUnavailable, True, "cannot be reached now"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", StoreUnavailable, True, "cannot be reached now"),
        (b"-NOREPLICAS Not enough good replicas to write.\r\n", StoreUnavailable, True, "cannot be reached now"),
        (b"-ERR max number of clients reached\r\n", StoreUnavailable, True, "cannot be reached now"),
        (b"-NOAUTH Authentication required.\r\n", StoreError, False, "does not let this user in"),
        (b"-WRONGPASS invalid username-password pair\r\n", StoreError, False, "does not let this user in"),
        (b"-NOPERM this user has no permissions\r\n", StoreError, False, "does not let this user in"),
        (b"-WRONGTYPE Operation against a key\r\n", StoreError, False, "refused a command"),
    ],
    ids=lambda value: value.decode().split()[0][1:] if isinstance(value, bytes) else "",
)
def test_every_answer_has_its_error(answer: bytes, kind: type[StoreError], retryable: bool, words: str) -> None:
    with answering(answer) as url:
        store = RedisStore(url, "shop")
        uses: tuple[Callable[[], object], ...] = (lambda: store.read_rows(VIEW, [b"a"]),)
        for use in uses:
            with pytest.raises(StoreError, match=words) as caught:
                use()
            assert (type(caught.value), caught.value.retryable) == (kind, retryable)
        store.close()
