"""The plugin: what a project's own tests see, and what loading it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = ("-p", "fstore.testing.plugin", "-p", "no:cacheprovider")

DEFINITIONS = """
from fstore import Entity, FeatureView, ParquetSource, agg, expr, feature, transform

user = Entity("user", join_keys={"user_id": "string"})
orders = ParquetSource(
    "orders", path="data/orders/", event_time="ordered_at", lag="1h",
    schema={"user_id": "string", "ordered_at": "timestamp", "amount": "float64", "category": "string"},
)
users = ParquetSource(
    "users", path="data/users/", keys=["user_id"], updated_at="updated_at",
    schema={"user_id": "string", "updated_at": "timestamp", "age": "int64"},
)


class UserOrders(FeatureView):
    entity, source, schedule, start, ttl = user, orders, "@daily", "2026-01-01", "3d"
    n = agg.count().over("7d")
    amount = agg.avg("amount").over("7d", "lifetime")


class UserProfile(FeatureView):
    entity, schedule, start = user, "@daily", "2026-01-01"
    inputs = {"u": users, "o": UserOrders}
    sql = "SELECT u.user_id, u.age, o.n_7d AS n FROM u LEFT JOIN o USING (user_id)"
    age = feature("int64")
    n = feature("int64")
"""

TWIN = """
/*
entity: user
inputs: {p: user_profile}
schedule: "@daily"
start: 2026-01-01
features: {old: bool}
*/
SELECT user_id, age > 60 AS old FROM p
"""

GENERATED = """
from fstore.testing import FeatureTests

class TestFeatures(FeatureTests):
    pass
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> Path:
    pytester.makepyprojecttoml('[tool.fstore]\nproject = "shop"\n')
    pytester.mkdir("feature_defs")
    (pytester.path / "feature_defs" / "orders.py").write_text(DEFINITIONS)
    (pytester.path / "feature_defs" / "seniors.sql").write_text(TWIN)
    return pytester.path


def outcomes(pytester: pytest.Pytester, *arguments: str) -> tuple[dict[str, int], str]:
    result = pytester.runpytest_subprocess(*PLUGIN, *arguments)
    return result.parseoutcomes(), result.stdout.str()


def test_views_have_a_test_and_twins_are_found_by_name(pytester: pytest.Pytester, project: Path) -> None:
    pytester.makepyfile(
        test_orders="""
        from feature_defs.orders import UserOrders

        ROWS = [{"user_id": "u1", "ordered_at": "2026-02-28", "amount": 2.0}]

        def test_right():
            UserOrders.test(rows=ROWS, at="2026-03-01", expect={"u1": {"n_7d": 1, "amount_7d": 2}})

        def test_wrong():
            UserOrders.test(rows=ROWS, at="2026-03-01", expect={"u1": {"n_7d": 2}})

        def test_twin(fstore_project):
            seniors = fstore_project.view("seniors")
            seniors.test(inputs={"p": [{"user_id": "u1", "age": 61}]}, at="2026-03-01", expect={"u1": {"old": True}})
        """
    )
    counts, output = outcomes(pytester)
    assert counts == {"passed": 2, "failed": 1}
    assert "fstore.testing.check.ViewMismatch: UserOrders at 2026-03-01T00:00:00Z gave 1 value that" in output
    assert "u1   n_7d     2         1" in output
    assert "find_differences" not in output  # the traceback ends at the test


def test_every_view_is_tested_by_two_lines(pytester: pytest.Pytester, project: Path) -> None:
    pytester.makepyfile(test_features=GENERATED)
    counts, output = outcomes(pytester, "-v")
    assert counts == {"passed": 6}
    assert "TestFeatures::test_leakage[user_orders] PASSED" in output
    assert "TestFeatures::test_offline_equals_online[seniors] PASSED" in output


SCORES = """
import pyarrow as pa
from fstore import FeatureView, feature, transform
from .orders import UserOrders, user


def double(o: pa.Table) -> pa.Table:
    return pa.table({"user_id": o["user_id"], "score": [2 * n for n in o["n_7d"].to_pylist()]})


class Score(FeatureView):
    entity, inputs, schedule = user, {"o": UserOrders}, "@daily"
    score = feature("int64")
    compute = transform(double)
"""


def test_a_python_view_can_be_tested_after_its_function_was_loaded_to_run(
    pytester: pytest.Pytester, project: Path
) -> None:  # fmt: skip
    (project / "feature_defs" / "scores.py").write_text(SCORES)
    pytester.makepyfile(
        test_a=GENERATED,
        test_b="""
        from feature_defs.scores import Score

        def test_score():
            Score.test(inputs={"o": [{"user_id": "u1", "n_7d": 2}]}, at="2026-03-01", expect={"u1": {"score": 4}})
        """,
    )
    counts, _ = outcomes(pytester, "-k", "score")
    assert counts == {"passed": 3, "deselected": 6}


def test_a_view_that_gives_something_else_each_time_fails(pytester: pytest.Pytester, project: Path) -> None:
    (project / "feature_defs" / "luck.py").write_text(
        """
import time
import pyarrow as pa
from fstore import FeatureView, feature, transform
from .orders import UserOrders, user

def draw(o):
    return pa.table({"user_id": o["user_id"], "luck": [time.time_ns()] * len(o)})

class Luck(FeatureView):
    entity, inputs, schedule = user, {"o": UserOrders}, "@daily"
    luck = feature("int64")
    compute = transform(draw)
"""
    )
    pytester.makepyfile(test_features=GENERATED)
    counts, output = outcomes(pytester, "-k", "luck")
    assert counts == {"passed": 1, "failed": 1, "deselected": 6}
    assert "view 'luck' leaks: moving what happened from " in output


def test_a_view_with_a_problem_fails_alone_and_one_without_data_is_skipped(
    pytester: pytest.Pytester, project: Path
) -> None:  # fmt: skip
    (project / "feature_defs" / "more.py").write_text(
        """
from fstore import FeatureView, ParquetSource, agg
from .orders import user

clicks = ParquetSource("clicks", path="data/clicks/", event_time="at")

class Clicks(FeatureView):
    entity, source, schedule, start = user, clicks, "@daily", "2026-01-01"
    n = agg.count().over("7d")

class Broken(FeatureView):
    entity, source, schedule, start = user, clicks, "@daily", "2026-01-01"
    n = agg.count()

class Unplanned(FeatureView):
    entity, source, schedule, start = user, clicks, "@daily", "2026-01-01"
    n = agg.sum("random()").over("7d")
"""
    )
    pytester.makepyfile(test_features=GENERATED)
    counts, output = outcomes(pytester, "-rs")
    assert counts == {"passed": 6, "failed": 4, "skipped": 2}
    assert "'unplanned:n' (feature_defs/more.py:17) uses random(), whose value changes from run to run." in output
    assert "feature 'broken:n' (feature_defs/more.py:13) has no windows. Add .over(\"7d\")" in output
    assert "source 'clicks' cannot be sampled, and declares no schema to make rows from" in output


def test_outside_of_a_project_nothing_happens(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_nothing="def test_nothing(): pass")
    assert outcomes(pytester)[0] == {"passed": 1}


def test_loading_the_plugin_imports_nothing_that_takes_time() -> None:
    script = (
        "import sys, pytest; before = set(sys.modules); import fstore.testing.plugin; "
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before}), "
        "sorted(name for name in sys.modules if name.startswith('fstore')))"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert printed == (
        "['fstore'] ['fstore', 'fstore.definitions', 'fstore.definitions.view_tests', 'fstore.testing', "
        "'fstore.testing.plugin']\n"
    )
