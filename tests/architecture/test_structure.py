"""The structure of the code base: sizes, docstrings, and files that Airflow reads."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path for path in (ROOT / "fstore").rglob("*.py") if "__pycache__" not in path.parts)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_has_a_docstring_and_stays_small(module: Path) -> None:
    source = module.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(source)), "a module says what it is, what goes in and what comes out"
    if "versions" not in module.parts:  # a migration is one idea, however many tables it has
        assert len(source.splitlines()) <= 400, "a module that grows past 400 lines is two ideas"


def test_dag_and_plugin_files_are_short() -> None:
    for path in (ROOT / "dags").glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 15, path
    for path in (ROOT / "plugins").glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 5, path
    assert not (ROOT / "plugins" / "fstore.py").exists(), "Airflow would import it in place of the package"


def test_dag_files_contain_the_words_that_airflow_looks_for() -> None:
    for path in (ROOT / "dags").glob("*.py"):
        text = path.read_text(encoding="utf-8").lower()
        assert "airflow" in text, f"{path}: safe mode skips a file without the word"
        assert "dag" in text, f"{path}: safe mode skips a file without the word"


def test_no_product_code_is_unfinished() -> None:
    words = re.compile(r"\b(todo|fixme|xxx|not implemented|NotImplementedError)\b", re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("fstore", "dags", "plugins", "feature_defs", "scripts")
        for path in (ROOT / folder).rglob("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if words.search(line)
    ]
    assert found == []


def test_structs_are_decoded_where_threads_take_turns() -> None:
    decoded = re.compile(r"msgspec\.json\.(decode\((.*|[^)]*)type=|Decoder\()")
    found = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "fstore").rglob("*.py")
        if decoded.search(path.read_text(encoding="utf-8"))
    ]
    assert found == ["fstore/decoding.py"]


def test_constraints_hold_names_and_versions_only() -> None:
    line = re.compile(r"[a-z0-9._-]+==[^ ]+( ; .*)?")
    for text in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        assert line.fullmatch(text), text
