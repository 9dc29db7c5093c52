"""Environments of their own, for libraries of the documentation that cannot be installed beside Airflow.

Each is made when a block first asks for it, below build/environments, and used again until its packages change. uv installs
when it is there and can, else pip. What cannot be made, for want of a network or of a build for this platform, says why.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.docs.pages import ROOT


class EnvironmentMissing(Exception):
    """An environment that cannot be made here."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What an environment holds beside Python.

    ``fstore``: this fstore with what it needs, too. The versions are those of constraints.txt, but for the packages
    ``freed`` from it. ``variables`` are set for what runs there, ``options`` given to uv.
    """

    requirements: tuple[str, ...]
    fstore: bool = False
    freed: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()


ENVIRONMENTS = {
    "mlflow": Environment(
        requirements=("mlflow-skinny==3.17.2",),
        fstore=True,
        freed=("cachetools", "importlib-metadata"),  # Airflow wants newer ones than MLflow takes
        variables={
            "MLFLOW_TRACKING_URI": "mlruns",
            "MLFLOW_ALLOW_FILE_STORE": "true",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
    ),
    "pytorch": Environment(  # the build for processors: the usual one comes with gigabytes for graphics cards
        requirements=("torch==2.13.0+cpu", "numpy", "pyarrow"),
        options=("--torch-backend", "cpu"),
    ),
}


@functools.cache
def python_of(name: str) -> Path:
    """Return the interpreter of an environment, which is made unless it is there. Raises EnvironmentMissing."""
    environment = ENVIRONMENTS[name]
    requirements, constraints = list(environment.requirements), _constraints(environment.freed)
    if environment.fstore:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        requirements += project["dependencies"]
    content = "\n".join([*requirements, constraints, sys.version, str(ROOT)])
    place = ROOT / "build" / "environments" / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    if not place.exists():
        for old in place.parent.glob(f"{name}-*"):
            shutil.rmtree(old, ignore_errors=True)
        _make(place, requirements, constraints, environment)
    return place / "bin" / "python"


def _constraints(freed: Sequence[str]) -> str:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if re.split(r"\W*==", line)[0] not in freed)


def _make(place: Path, requirements: Sequence[str], constraints: str, environment: Environment) -> None:
    """Make an environment beside its place and put it there when it is whole."""
    partial = place.with_name(f".{place.name}.{os.getpid()}")
    refusals = []
    for steps in _installers(partial, requirements, environment):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        (partial / "constraints.txt").write_text(constraints, encoding="utf-8")
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True, check=False)
            if done.returncode:
                refusals.append(f"{Path(step[0]).name}: {' '.join(done.stderr.split())[-300:]}")
                break
        else:
            if environment.fstore:
                scheme = {"base": str(partial), "platbase": str(partial)}
                packages = Path(sysconfig.get_path("purelib", "venv", vars=scheme))
                (packages / "fstore.pth").write_text(f"{ROOT}\n", encoding="utf-8")
            if not place.exists():  # another run may have made it meanwhile
                partial.rename(place)
            shutil.rmtree(partial, ignore_errors=True)
            return
    shutil.rmtree(partial, ignore_errors=True)
    raise EnvironmentMissing("; ".join(refusals))


def _installers(place: Path, requirements: Sequence[str], environment: Environment) -> Iterator[list[list[str]]]:
    python, constraints = str(place / "bin" / "python"), str(place / "constraints.txt")
    if uv := shutil.which("uv"):
        yield [
            [uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(place)],
            [uv, "pip", "install", "--quiet", "--python", python, "-c", constraints, *environment.options, *requirements],
        ]
    yield [
        [sys.executable, "-m", "venv", str(place)],
        [python, "-m", "pip", "install", "--quiet", "--no-compile", "-c", constraints, *requirements],
    ]
