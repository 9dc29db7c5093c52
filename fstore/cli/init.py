"""The command ``init``: lay out a project that runs, from nothing but an installed package.

Writes settings, the two Airflow files, a first module of definitions and a small data set for it, and creates the embedded
stores. Touches no file that exists.
"""

from __future__ import annotations

import random
import re
import shlex
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fstore.backends import create_backends
from fstore.cli.output import console, print_json
from fstore.cli.project import compile_project
from fstore.errors import SettingsError
from fstore.settings import check_project_name, load_settings

AIRFLOW_FILES = ("dags/feature_pipelines.py", "dags/feature_problems.py", "plugins/fstore_plugin.py")
"""What Airflow reads of a project: the same in every project, kept as templates beside this module."""

IGNORED = ".fstore/\n.airflow/\n.venv/\n__pycache__/\n/data/\n"

HISTORY = timedelta(days=45)


def init_project(directory: Path, name: str, *, as_json: bool) -> None:
    """Lay out a project and create its stores. Raises SettingsError when the directory holds one or cannot hold it."""
    root = directory.resolve()
    project = name or re.sub(r"[^a-z0-9_]+", "_", root.name.lower()).strip("_0123456789") or "features"
    check_project_name(project, "--project")
    settings_file = root / "pyproject.toml"
    if settings_file.exists() and "[tool.fstore]" in settings_file.read_text(encoding="utf-8"):
        raise SettingsError(f"{root} is an fstore project already ({settings_file} has a [tool.fstore] table)")
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first_module = _template("feature_defs/purchases.py").replace(
        "$start", f"{today - HISTORY + timedelta(days=30):%Y-%m-%d}"
    )
    contents = {path: _template(path) for path in AIRFLOW_FILES}
    contents |= {"feature_defs/purchases.py": first_module, ".gitignore": IGNORED}
    data = root / "data" / "purchases.parquet"
    try:
        root.mkdir(parents=True, exist_ok=True)
        written = [path for path, text in contents.items() if _write_new(root / path, text)]
        if not data.exists():
            _write_purchases(data, today)
            written.append("data/purchases.parquet")
        with settings_file.open("a", encoding="utf-8") as file:  # last: the directory is no project before
            file.write(f'{"" if file.tell() == 0 else chr(10)}[tool.fstore]\nproject = "{project}"\n')
        written.append("pyproject.toml")
    except OSError as error:
        raise SettingsError(
            f"a project cannot be laid out in {root}: {error.strerror} ({error.filename}). Name a directory that can be "
            "written to."
        ) from None
    settings = load_settings(root)
    with create_backends(settings) as backends:
        checked = compile_project(settings, backends.engine, {})
        backends.registry.record_source_schemas(checked.schemas)
        backends.registry.register(checked.plan)
    if as_json:
        print_json({"root": str(root), "project": project, "written": written})
        return
    console.print(f"[green]✓[/] project [bold]{project}[/] in {root}:")
    for path in written:
        console.print(f"  {path}")
    console.print(
        "\nNext:\n"
        f"  cd {shlex.quote(str(root))}\n"
        "  fstore run                                  compute what is due\n"
        "  fstore show user_purchases                  look at it\n"
        "  fstore lineage user_purchases:trend         see where it comes from\n"
        "Airflow: point its dags folder at dags/ and its plugins folder at plugins/."
    )


def _template(path: str) -> str:
    return files("fstore.cli").joinpath(f"templates/{Path(path).name}.txt").read_text(encoding="utf-8")


def _write_new(path: Path, text: str) -> bool:
    """Write a file unless there is one; return whether it was written."""
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return True


def _write_purchases(path: Path, today: datetime) -> None:
    """Write 45 days of invented purchases up to now, the same for the same day."""
    rng = random.Random(today.toordinal())  # noqa: S311  (invented data)
    users = [f"u{number}" for number in range(1, 51)]
    rows = [
        {
            "purchased_at": today - HISTORY + timedelta(seconds=rng.randrange(int(HISTORY.total_seconds()))),
            "user_id": rng.choice(users),
            "amount": round(rng.lognormvariate(3, 0.8), 2),
            "category": rng.choice(["books", "food", "garden", "music", "toys"]),
        }
        for _ in range(4000)
    ]
    schema = pa.schema(
        {
            "purchased_at": pa.timestamp("us", tz="UTC"),
            "user_id": pa.string(),
            "amount": pa.float64(),
            "category": pa.string(),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(sorted(rows, key=lambda row: str(row["purchased_at"])), schema=schema), path)
