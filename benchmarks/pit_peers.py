"""Peers of point-in-time joins, each in an environment of its own that is made here, once, under build/.

Gives a peer's seconds, peak memory and rows over the very files that a store has published. A peer runs in a fresh process
with its own interpreter and package versions; uv makes its environment where it is installed, else pip.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import BUILD, MEBIBYTE
from benchmarks.pit_stores import LIMITS, Store, content, spine, spine_file

PEERS = BUILD / "peers"
REQUIREMENTS = {"feast": ("feast[duckdb]==0.67.*",), "polars": ("polars==2.1.*",)}
HERE = Path(__file__).parent


class PeerRun(NamedTuple):
    """One run of a peer; ``seconds`` is the deadline where it was not ``finished``, and memory is not known then."""

    seconds: float
    peak_bytes: int
    finished: bool

    def __str__(self) -> str:
        if not self.finished:
            return f"more than {self.seconds:.0f} s"
        return f"{self.seconds:.3g} s, peak {self.peak_bytes // MEBIBYTE} MB"


def python_of(peer: str) -> str:
    """Return the interpreter of a peer, after making its environment where there is none."""
    folder = PEERS / f"env-{peer}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        print(f"  installing {', '.join(REQUIREMENTS[peer])} …", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        uv = shutil.which("uv")
        if uv:
            _run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
            _run([uv, "pip", "install", "--quiet", "--python", str(python), *REQUIREMENTS[peer]])
        else:
            _run([sys.executable, "-m", "venv", str(folder)])
            _run([str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS[peer]])
        (folder / "ready").touch()
    return str(python)


def prepare_files(store: Store) -> Path:
    """Return a folder with the published files of each view in a directory, named by their order in time."""
    folder = PEERS / store.folder.name
    for view in store.views:
        directory = folder / view.name
        directory.mkdir(parents=True, exist_ok=True)
        attempts = sorted(store.files(view), key=lambda path: (int(Path(path).parent.name.removeprefix("a")), path))
        for number, path in enumerate(attempts):
            target = directory / f"{number:04d}.parquet"
            if not target.exists() or not os.path.samestat(target.stat(), Path(path).stat()):
                target.unlink(missing_ok=True)
                os.link(path, target)
    return folder


def run_polars(store: Store, views: int, entity_rows: int, deadline: float) -> PeerRun:
    """Join with Polars."""
    return _run_peer([python_of("polars"), str(HERE / "pit_peer_polars.py")], "polars", store, views, entity_rows, deadline)


def run_feast(kind: str, store: Store, views: int, entity_rows: int, deadline: float) -> PeerRun:
    """Join with Feast over one of its offline stores: ``duckdb``, or ``dask``, its default."""
    command = [python_of("feast"), "-W", "ignore", str(HERE / "pit_peer_feast.py"), kind]
    return _run_peer(command, f"feast-{kind}", store, views, entity_rows, deadline)


def same_rows(name: str, expected: pa.Table) -> bool:
    """Whether the rows of a peer's last run are the expected ones, in any order."""
    got = pq.read_table(_result(name))
    cast = [got[field.name].cast(field.type) for field in expected.schema]
    return content(pa.table(cast, names=expected.column_names)) == content(expected)


def _run_peer(
    command: list[str], name: str, store: Store, views: int, entity_rows: int, deadline: float
) -> PeerRun:  # fmt: skip
    spine(entity_rows, store.keys)
    arguments = [str(prepare_files(store)), str(spine_file(entity_rows, store.keys)), str(_result(name)), str(views)]
    environment = {**os.environ, "POLARS_MAX_THREADS": str(LIMITS["threads"]), "FEAST_USAGE": "False"}
    try:
        done = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=deadline, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        return PeerRun(deadline, 0, finished=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return PeerRun(found["seconds"], found["peak_bytes"], finished=True)


def _result(name: str) -> Path:
    return PEERS / f"result-{name}.parquet"


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True)
