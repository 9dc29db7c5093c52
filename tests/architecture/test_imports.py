"""What importing costs and drags along: the language, the client and the command line stay light."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = [
    "airflow",
    "alembic",
    "duckdb",
    "lmdb",
    "numpy",
    "openlineage",
    "pandas",
    "pyarrow",
    "redis",
    "sqlalchemy",
    "sqlglot",
]


def imported_by(statement: str) -> set[str]:
    """Return which of the heavy packages a fresh interpreter has imported after a statement."""
    code = f"import sys, json\n{statement}\nprint(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_language_imports_no_driver() -> None:
    statement = "from fstore import Entity, FeatureService, FeatureView, ParquetSource, agg, check, expr, feature, transform"
    assert imported_by(statement) == set()


def test_reading_a_cached_plan_imports_no_driver() -> None:
    assert imported_by("import fstore.runtime.plan_cache") == set()


@pytest.mark.parametrize(
    "module", ["fstore.retrieval.client", "fstore.backends", "fstore.runtime.runner", "fstore.cli.main"]
)
def test_only_the_airflow_package_imports_airflow(module: str) -> None:
    assert "airflow" not in imported_by(f"import {module}")


def test_the_client_needs_no_sql_parser_and_no_pandas() -> None:
    assert not imported_by("from fstore import Client") & {"sqlglot", "pandas", "alembic", "airflow"}


def test_help_needs_no_driver() -> None:
    assert imported_by("import fstore.cli.main") <= {"numpy"}
