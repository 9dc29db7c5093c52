"""The real server in a process of its own, on a free port of the loopback interface.

    with serving(settings, workers=2) as server:
        with HttpClient(server.url) as client: ...

Settings reach it through the environment, as in production. Its log is kept for the message when it does not start.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from fstore.settings import Settings
from scripts.servers import free_port

START_SECONDS = 60.0


class RunningApp:
    """A server that runs: its URL, its process and its log."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process, self.url, self._log = process, url, log

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def get(self, path: str) -> tuple[int, dict[str, object]]:
        """Return status and JSON of a GET, whatever the status."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def workers(self) -> list[int]:
        """Return the processes of the workers, which are the server's children that listen with it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


@contextlib.contextmanager
def serving(settings: Settings, *, wait: bool = True, **options: object) -> Iterator[RunningApp]:
    """Run a server over a project; options are settings without their ``serve_``. Waits until it is ready."""
    port = free_port()
    chosen = {"host": "127.0.0.1", "port": port, "drain": 0.0, **options}
    with tempfile.TemporaryDirectory(prefix="fstore-serving-") as directory:
        log = Path(directory) / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "fstore.serving"], env=environment(settings, chosen), cwd=directory,
                stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        server = RunningApp(process, f"http://127.0.0.1:{port}", log)
        try:
            _until(server, "/health/ready" if wait else "/health/live")
            yield server
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            sys.stderr.write(server.log())  # shown with a test that failed


def environment(settings: Settings, serve: Mapping[str, object]) -> dict[str, str]:
    """Return the environment of a process that serves a project with these settings."""
    given = msgspec.structs.asdict(settings)
    known = {f"FSTORE_{name.upper()}": str(value) for name, value in given.items() if not name.startswith("serve_")}
    wanted = {f"FSTORE_SERVE_{name.upper()}": str(value) for name, value in serve.items()}
    kept = {name: value for name, value in os.environ.items() if not re.match("FSTORE_(?!FAIL)", name)}
    root = str(Path(__file__).resolve().parents[2])
    return {**kept, **known, **wanted, "PYTHONPATH": root}


def _until(server: RunningApp, path: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(OSError):
            if server.get(path)[0] == 200:
                return
        if server.process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"the server did not become ready:\n{server.log()[-4000:]}")
        time.sleep(0.05)
