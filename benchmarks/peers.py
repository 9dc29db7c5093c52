"""Environments of their own for what fstore is measured against: other tools want other versions of what it uses.

Makes one under build/benchmarks/peers/<name> with uv where there is one, else with pip, and keeps it until the requirements
change. A benchmark then runs a script of its own with that interpreter.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import BUILD

FEAST = ("feast[redis]==0.67.*", "duckdb", "pyarrow")
"""Feast with its Redis store; its SQLite and file stores need nothing more."""


def peer_python(name: str, requirements: Sequence[str]) -> Path:
    """Return the interpreter of a peer's environment, made first where it is missing or its requirements changed."""
    directory = BUILD / "peers" / name
    python, made = directory / "bin" / "python", directory / "requirements"
    text = "\n".join(requirements)
    if made.is_file() and made.read_text(encoding="utf-8") == text:
        return python
    print(f"  making an environment with {', '.join(requirements)}", flush=True)
    shutil.rmtree(directory, ignore_errors=True)
    directory.parent.mkdir(parents=True, exist_ok=True)
    if uv := shutil.which("uv"):
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, directory], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *requirements], check=True)
    else:
        subprocess.run([sys.executable, "-m", "venv", directory], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements], check=True)
    made.write_text(text, encoding="utf-8")
    return python
