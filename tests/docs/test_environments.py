"""Environments of their own: what goes into one, and what is said where it cannot be made."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import environments
from tests.docs.environments import ENVIRONMENTS, Environment, EnvironmentMissing, python_of


def test_what_cannot_be_installed_says_who_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\ndependencies = []\n", encoding="utf-8")
    (tmp_path / "constraints.txt").write_text("", encoding="utf-8")
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    monkeypatch.setitem(ENVIRONMENTS, "broken", Environment(requirements=(str(tmp_path / "none-1.0-py3-none-any.whl"),)))
    with pytest.raises(EnvironmentMissing, match=r"python: .*none-1\.0-py3-none-any\.whl"):
        python_of("broken")
    assert list((tmp_path / "build" / "environments").iterdir()) == []


def test_freed_packages_have_no_pin_and_the_others_keep_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pins = "attrs==26.1.0\ncachetools==8.0.0\ncachetools-extra==1 ; python_version < '3.12'\nzipp==4.1.2"
    (tmp_path / "constraints.txt").write_text(pins, encoding="utf-8")
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    assert environments._constraints(["cachetools"]).splitlines() == [
        "attrs==26.1.0", "cachetools-extra==1 ; python_version < '3.12'", "zipp==4.1.2",
    ]  # fmt: skip
