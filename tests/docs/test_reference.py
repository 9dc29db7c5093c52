"""The reference pages are complete: every error, setting, command, aggregate, check and class setting is on its page."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator

import msgspec

import fstore
from fstore.cli.main import app
from fstore.definitions.aggregation import FUNCTIONS
from fstore.definitions.checks import KINDS
from fstore.definitions.feature_view import SETTINGS
from fstore.errors import FStoreError
from fstore.settings import Settings
from tests.docs.pages import ROOT

REFERENCE = ROOT / "docs" / "reference"


def error_classes(kind: type[FStoreError]) -> Iterator[type[FStoreError]]:
    for found in kind.__subclasses__():
        if found.__module__.startswith("fstore."):
            yield found
            yield from error_classes(found)


def test_every_error_code_is_explained_and_no_other() -> None:
    light = ("fstore.airflow.intervals", "fstore.airflow.rest")  # the others of fstore.airflow would start Airflow
    for module in pkgutil.walk_packages(fstore.__path__, "fstore."):
        skipped = "migrations" in module.name or module.name.endswith("__main__")
        if not skipped and (not module.name.startswith("fstore.airflow.") or module.name in light):
            importlib.import_module(module.name)
    page = (ROOT / "docs" / "how-to" / "troubleshoot.md").read_text(encoding="utf-8")
    explained = re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)
    codes = {error.code for error in error_classes(FStoreError)}
    assert set(explained) == codes
    assert len(explained) == len(codes)


def test_the_page_says_which_errors_are_retried() -> None:
    page = (ROOT / "docs" / "how-to" / "troubleshoot.md").read_text(encoding="utf-8")
    retried = set(re.findall(r"^\| `(\w+)` \| ↻", page, flags=re.MULTILINE))
    assert retried == {error.code for error in error_classes(FStoreError) if error.retryable}


def test_every_setting_is_described_with_its_default() -> None:
    page = (REFERENCE / "settings.md").read_text(encoding="utf-8")
    described = dict(re.findall(r"^\| `(\w+)` \| `FSTORE_\w+` \| (.+?) \|", page, flags=re.MULTILINE))
    expected = {
        field.name: "the directory's name" if field.required else f"`{field.default}`"
        for field in msgspec.structs.fields(Settings)
        if field.name != "root"
    }
    assert described == expected
    assert all(f"| `{name}` | `FSTORE_{name.upper()}` |" in page for name in expected)


def test_every_command_is_described() -> None:
    page = (REFERENCE / "command-line.md").read_text(encoding="utf-8")
    names = [command.callback.__name__ for command in app.registered_commands if command.callback]
    names += [group.name for group in app.registered_groups if group.name]
    assert [name for name in names if f"| `fstore {name}" not in page] == []


def test_every_aggregate_has_a_section_that_says_all_of_it() -> None:
    page = (REFERENCE / "aggregates.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", page, flags=re.MULTILINE | re.DOTALL))
    assert [name for name in sections if name in FUNCTIONS] == [name for name in sections if name != "What"]
    assert set(FUNCTIONS) <= set(sections)
    facts = ("type", "empty window", "null, NaN", "example", "state")
    assert [(name, fact) for name in FUNCTIONS for fact in facts if f"| {fact} |" not in sections[name]] == []
    assert [name for name in FUNCTIONS if f"`agg.{name}(" not in sections[name]] == []


def test_every_word_of_the_language_is_described() -> None:
    page = (REFERENCE / "definitions.md").read_text(encoding="utf-8")
    words = [
        *(f"| `{setting}` |" for setting in SETTINGS),
        *(f"(aggregates.md#{function})" for function in FUNCTIONS),
        *(f"| `check.{kind}(" for kind in KINDS),
    ]
    assert [word for word in words if word not in page] == []
