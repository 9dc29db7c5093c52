"""The proxy breaks connections exactly as it is told, and is whole again when it is healed."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from scripts.proxy import Cut, Faults, Mode, Proxy


class Echo:
    """A server that answers every line with it, and keeps what it got."""

    def __init__(self) -> None:
        self.got = b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while data := connection.recv(1000):
                self.got += data
                connection.sendall(data)


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.listener.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.port) as running:
        yield running


def connect(proxy: Proxy, timeout: float = 5) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=timeout)


def ask(connection: socket.socket, line: bytes, size: int | None = None) -> bytes:
    connection.sendall(line)
    got = b""
    while len(got) < (len(line) if size is None else size):
        part = connection.recv(1000)
        if not part:
            return got
        got += part
    return got


def ask_anew(proxy: Proxy) -> bytes:
    with connect(proxy) as connection:
        return ask(connection, b"a")


def test_what_passes_is_unchanged(proxy: Proxy) -> None:
    data = bytes(range(256)) * 1000
    with connect(proxy) as connection:
        threading.Thread(target=connection.sendall, args=(data,)).start()
        got = b""
        while len(got) < len(data):
            got += connection.recv(65536)
    assert got == data
    assert proxy.accepted == 1


def test_an_end_is_passed_on(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        connection.sendall(b"last")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(10) == b"last"
        assert connection.recv(10) == b""


def test_latency_is_added_in_each_direction(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        assert ask(connection, b"a") == b"a"
        with proxy.broken(Faults(latency=0.1)):
            began = time.monotonic()
            assert ask(connection, b"b") == b"b"
            assert time.monotonic() - began >= 0.2


def test_a_reset_breaks_open_and_new_connections(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        assert ask(connection, b"a") == b"a"
        with proxy.broken(Faults(mode=Mode.RESET)):
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
            with pytest.raises(OSError, match=r"reset|Broken pipe"):
                ask_anew(proxy)
    with connect(proxy) as connection:
        assert ask(connection, b"b") == b"b"


def test_refused_connections_are_refused_until_it_heals(proxy: Proxy) -> None:
    port = proxy.port
    with proxy.broken(Faults(mode=Mode.REFUSE)), pytest.raises(ConnectionRefusedError):
        connect(proxy)
    assert proxy.port == port
    with connect(proxy) as connection:
        assert ask(connection, b"b") == b"b"


def test_a_black_hole_accepts_and_never_answers_and_then_goes_on(proxy: Proxy, echo: Echo) -> None:
    with connect(proxy, timeout=0.2) as old:
        assert ask(old, b"a") == b"a"
        with proxy.broken(Faults(mode=Mode.BLACK_HOLE)):
            with connect(proxy, timeout=0.2) as new:
                for connection in (old, new):
                    with pytest.raises(TimeoutError):
                        ask(connection, b"b")
            assert echo.got == b"a"
        old.settimeout(5)
        assert old.recv(1) == b"b"


@pytest.mark.parametrize("limit", [0, 3, 5])
def test_a_cut_after_bytes_to_the_server_lets_exactly_those_pass(proxy: Proxy, echo: Echo, limit: int) -> None:
    with connect(proxy) as connection, proxy.broken(Faults(to_server=limit)):
        with pytest.raises(ConnectionResetError):
            ask(connection, b"abcdef", 7)
        assert echo.got == b"abcdef"[:limit]
    assert proxy.cuts == 1


@pytest.mark.parametrize("limit", [0, 3])
def test_a_cut_after_bytes_to_the_client_lets_exactly_those_pass(proxy: Proxy, echo: Echo, limit: int) -> None:
    with connect(proxy) as connection, proxy.broken(Faults(to_client=limit)):
        connection.sendall(b"abcdef")
        assert connection.recv(3, socket.MSG_WAITALL) == b"abc" if limit else True
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
        assert echo.got == b"abcdef"


@pytest.mark.parametrize("parts", [[b"begin COMMIT"], [b"begin CO", b"MMIT"]])
@pytest.mark.parametrize("cut", list(Cut))
def test_a_pattern_is_cut_before_it_or_after_its_answer(proxy: Proxy, echo: Echo, cut: Cut, parts: list[bytes]) -> None:
    with connect(proxy) as connection, proxy.broken(Faults(pattern=b"COMMIT", cut=cut, times=1)):
        for part in parts[:-1]:
            assert ask(connection, part) == part
        with pytest.raises(ConnectionResetError):
            ask(connection, parts[-1], 100)
        if cut is Cut.ANSWERED:
            assert echo.got == b"begin COMMIT"
        else:
            assert b"COMMIT" not in echo.got
            assert echo.got.startswith(b"begin ")
        with connect(proxy) as again:
            assert ask(again, b"COMMIT") == b"COMMIT"  # it was to happen once
    assert proxy.cuts == 1


def test_a_server_that_is_gone_resets_the_connection() -> None:
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    with Proxy(port) as proxy, connect(proxy) as connection, pytest.raises(ConnectionResetError):
        connection.recv(1)


def test_a_url_gets_the_address_of_the_proxy(proxy: Proxy) -> None:
    assert proxy.url("postgresql://me:pw@db:5432/x?a=1") == f"postgresql://me:pw@127.0.0.1:{proxy.port}/x?a=1"
    assert proxy.url("redis://127.0.0.1:1/0") == f"redis://127.0.0.1:{proxy.port}/0"


def test_nothing_is_left_when_it_ends(echo: Echo) -> None:
    with Proxy(echo.port) as proxy:
        connection = connect(proxy)
        assert ask(connection, b"a") == b"a"
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    with pytest.raises(ConnectionResetError):
        connection.recv(1)
    connection.close()


def test_a_pattern_may_pass_some_times_first(proxy: Proxy) -> None:
    with connect(proxy) as connection, proxy.broken(Faults(pattern=b"COMMIT", skip=2, times=1)):
        assert ask(connection, b"COMMIT") == b"COMMIT"
        assert ask(connection, b"COMMIT") == b"COMMIT"
        with pytest.raises(ConnectionResetError):
            ask(connection, b"COMMIT")
    assert proxy.cuts == 1
