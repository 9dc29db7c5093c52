"""The pytest plugin: ``View.test``, and the fixtures behind :class:`fstore.testing.FeatureTests`.

pytest finds it by its entry point, in every project of an environment that has fstore; so it imports nothing of fstore that
takes time until a test needs it. The project is the one at or above pytest's root directory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import pytest

from fstore.definitions import view_tests

if TYPE_CHECKING:
    from fstore.definitions.feature_view import FeatureView
    from fstore.testing.generated import ProjectUnderTest, ViewUnderTest

# ruff: noqa: PLC0415  (loading pytest has to stay cheap)

_PROJECT = pytest.StashKey["ProjectUnderTest"]()


def _test_of(view: object) -> Callable[..., object]:
    from functools import partial

    from fstore.testing.check import check_view

    return partial(check_view, cast("type[FeatureView]", view))


def pytest_configure(config: pytest.Config) -> None:
    """Make ``View.test`` there, and let definitions be imported from the root directory, as every other process does."""
    view_tests.plug_in(_test_of)
    root = str(config.rootpath)
    if (config.rootpath / "feature_defs").is_dir() and root not in sys.path:
        sys.path.append(root)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close what the tests opened."""
    if "fstore.testing.session" in sys.modules:
        from fstore.testing.session import close_session

        close_session()
    if (project := config.stash.get(_PROJECT, None)) is not None:
        project.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give every test that takes ``feature_view`` the views of the project, one after the other."""
    if "feature_view" in metafunc.fixturenames:
        views = _project(metafunc.config).view_names()
        metafunc.parametrize("feature_view", views, indirect=True, scope="session")


@pytest.fixture(scope="session")
def fstore_project(pytestconfig: pytest.Config) -> ProjectUnderTest:
    """Return the project at or above pytest's root directory: ``fstore_project.view("user_purchases").test(…)``."""
    return _project(pytestconfig)


@pytest.fixture(scope="session")
def feature_view(request: pytest.FixtureRequest, fstore_project: ProjectUnderTest) -> ViewUnderTest:
    """Return each view of the project in turn."""
    return fstore_project.view(request.param)


def _project(config: pytest.Config) -> ProjectUnderTest:
    from fstore.testing.generated import ProjectUnderTest

    if _PROJECT not in config.stash:
        config.stash[_PROJECT] = ProjectUnderTest(config.rootpath)
    return config.stash[_PROJECT]
