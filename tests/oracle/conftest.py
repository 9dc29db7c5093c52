"""Projects for the oracle's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.oracle.projects import OracleProject


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OracleProject]:
    """One project for all examples of a module, with a registry and stores of its own."""
    made = OracleProject(tmp_path_factory.mktemp("oracle") / "small")
    yield made
    made.small.close()


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OracleProject]:
    """Another project, which shares nothing with the first."""
    made = OracleProject(tmp_path_factory.mktemp("oracle") / "second")
    yield made
    made.small.close()
