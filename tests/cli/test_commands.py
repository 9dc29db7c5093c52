"""The command line as a user meets it: a fresh project, every command, exit codes, JSON."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def fstore(*arguments: str, cwd: Path, expect: int = 0, **variables: str) -> str:
    """Run a command in a process of its own, as a user does, and return what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FSTORE_")} | {"COLUMNS": "200"}
    environment |= variables
    done = subprocess.run(
        [sys.executable, "-m", "fstore.cli", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project laid out by ``init`` and run once."""
    root = tmp_path_factory.mktemp("projects") / "shop"
    root.mkdir()
    fstore("init", cwd=root)
    fstore("run", cwd=root)
    return root


def test_init_lays_out_what_this_repository_has(shop: Path) -> None:
    for path in ("dags", "plugins"):
        ours = {file.name: file.read_text() for file in (ROOT / path).glob("*.py")}
        assert {file.name: file.read_text() for file in (shop / path).glob("*.py")} == ours
    assert (shop / "feature_defs" / "purchases.py").is_file()


def test_init_refuses_a_directory_that_is_a_project(shop: Path) -> None:
    assert "is an fstore project already" in fstore("init", cwd=shop, expect=1)


def test_init_writes_nothing_where_no_project_can_be(tmp_path: Path) -> None:
    assert "'a b' is not a project name" in fstore("init", "new", "--project", "a b", cwd=tmp_path, expect=1)
    assert list(tmp_path.iterdir()) == []
    file = tmp_path / "file"
    file.write_text("")
    said = fstore("init", "file", cwd=tmp_path, expect=1)
    assert said == (
        f"error settings_error a project cannot be laid out in {file}: File exists ({file}). Name a directory that can be "
        "written to.\n"
    )


def test_check_reports_that_there_is_nothing_wrong(shop: Path) -> None:
    assert "1 views with 6 features over 1 sources: no problems." in fstore("check", cwd=shop)


def test_run_leaves_nothing_due(shop: Path) -> None:
    assert "user_purchases: nothing is due" in fstore("run", cwd=shop)
    plan = json.loads(fstore("plan", "--json", cwd=shop))
    assert [line["due"] for line in plan["compute"]] == [0]


def test_intervals_that_are_not_over_are_not_computed(shop: Path) -> None:
    today = datetime.now(UTC).date()
    span = ("--start", f"{today}", "--end", f"{today + timedelta(days=2)}")
    assert "nothing is due (2 interval(s) are not yet: their data is not complete)" in fstore("run", *span, cwd=shop)


def test_plan_exits_with_2_when_something_is_due(tmp_path: Path) -> None:
    fstore("init", cwd=tmp_path)
    assert "intervals are due" in fstore("plan", cwd=tmp_path, expect=2)


def test_status_tells_how_the_views_stand(shop: Path) -> None:
    (view,) = json.loads(fstore("status", "--json", cwd=shop))["views"]
    assert (view["view"], view["missing"], view["blocked"], view["online"]) == ("user_purchases", 0, 0, "current")
    assert view["published"] >= 10


def test_show_prints_the_rows_that_hold(shop: Path) -> None:
    shown = json.loads(fstore("show", "user_purchases", "--limit", "3", "--json", cwd=shop))
    assert len(shown["rows"]) == 3
    assert shown["rows"][0]["user_id"].startswith("u")
    assert "How much of the month fell into the last week." in fstore("show", "user_purchases", cwd=shop)


def test_lineage_names_the_columns_of_the_source(shop: Path) -> None:
    text = fstore("lineage", "user_purchases:trend", cwd=shop)
    assert re.search(r"purchases\.parquet:\w+", text), text
    assert "Did you mean 'trend'?" in fstore("lineage", "user_purchases:trendd", cwd=shop, expect=1)


def test_doctor_finds_nothing_wrong(shop: Path) -> None:
    findings = json.loads(fstore("doctor", "--json", cwd=shop))
    assert [finding for finding in findings if finding["verdict"] == "wrong"] == []


def test_doctor_names_variables_that_are_nearly_settings(shop: Path) -> None:
    given = {
        "FSTORE_MEMRY_LIMIT": "1GB",
        "FSTORE_FAILPOINTS": "",
        "FSTORE_CONNECTION_SHOP": "postgresql://",
        "FSTORE_THREADS": "1",
    }
    findings = json.loads(fstore("doctor", "--json", cwd=shop, **given))
    assert [finding["detail"] for finding in findings if finding["verdict"] != "ok"] == [
        "FSTORE_MEMRY_LIMIT is no setting, and does nothing. Did you mean FSTORE_MEMORY_LIMIT?"
    ]


def test_a_broken_module_is_reported_with_its_line_and_apply_records_nothing(tmp_path: Path) -> None:
    fstore("init", cwd=tmp_path)
    module = tmp_path / "feature_defs" / "purchases.py"
    module.write_text(module.read_text().replace('agg.avg("amount")', 'agg.avg("amonut")'))
    line = next(n for n, text in enumerate(module.read_text().splitlines(), start=1) if "amonut" in text)
    said = fstore("check", cwd=tmp_path, expect=1)
    assert f"feature_defs/purchases.py:{line}" in said
    assert "Did you mean 'amount'?" in said
    errors = json.loads(fstore("apply", "--json", cwd=tmp_path, expect=1))
    assert errors["error"]["code"] == "definition_errors"


SOURCES_OF_SQL = """from fstore import ParquetSource, SqlSource, UnionSource

things = ParquetSource("things", path="data/purchases.parquet", event_time="purchased_at")
more = ParquetSource("more", path="data/purchases.parquet", event_time="purchased_at")
lost = ParquetSource("lost", path="data/lost.parquet", event_time="t")
wrong = SqlSource("wrong", inputs={"t": things}, sql="SELECT amuont, purchased_at FROM t", event_time="purchased_at")
odd = SqlSource("odd", inputs={"t": things}, sql="SELECT amount + [1] AS a, purchased_at FROM t", event_time="purchased_at")
both = UnionSource([things, more], name="both", columns={"a": {"things": "strange(amount)", "more": "1.5"}})
late = SqlSource("late", inputs={"l": lost}, sql="SELECT * FROM l", event_time="t")
"""


def test_sql_of_sources_that_is_refused_is_reported_with_all_else(tmp_path: Path) -> None:
    """The mistakes of sources that are made of others do not end the check: all are told, each once."""
    fstore("init", "--project", "shop", cwd=tmp_path)
    (tmp_path / "feature_defs" / "made.py").write_text(SOURCES_OF_SQL)
    found = json.loads(fstore("check", "--json", cwd=tmp_path, expect=1))
    assert found["views"] == ["user_purchases"], "what has no problem is checked"
    told = [f"{item['subject']}:{item['line']} {item['problem']}".replace(str(tmp_path), "") for item in found["problems"]]
    missing = "(names beginning with '_' or '.' do not count). Check the path, or wait until the data has landed."
    assert sorted(told) == [
        "source 'both':8 has SQL that the engine refuses: Catalog Error: Scalar Function with name strange does not exist! Did "
        'you mean "range"?',
        f"source 'lost':5 has no file: nothing at /data/lost.parquet is a file or a directory with *.parquet below it {missing}",
        "source 'odd':7 has SQL that the engine refuses: Binder Error: No function matches the given name and argument types "
        "'+(DOUBLE, INTEGER[])'. You might need to add explicit type casts.",
        "source 'wrong':6 reads column 'amuont', which its inputs do not have; they have 'amount', 'category', "
        "'purchased_at', 'user_id'.",
    ]


def test_outside_of_a_project_the_error_says_what_to_do(tmp_path: Path) -> None:
    said = fstore("status", cwd=tmp_path, expect=1)
    assert "no fstore project at" in said
    assert "Run `fstore init`" in said


def test_selecting_nothing_suggests_a_name(shop: Path) -> None:
    said = fstore("run", "--select", "user_purchase", cwd=shop, expect=1)
    assert "Did you mean 'user_purchases'?" in said


def test_a_range_needs_both_ends_and_an_order(shop: Path) -> None:
    assert "give both --start and --end" in fstore("run", "--start", "2026-01-01", cwd=shop, expect=1)
    assert "is not after --start" in fstore("run", "--start", "2026-01-02", "--end", "2026-01-01", cwd=shop, expect=1)


def test_what_is_not_there_is_said(shop: Path) -> None:
    unknown = "error unknown_feature project 'shop' has no view 'nope' in registry"
    for command in ("diff", "rollback", "show"):
        assert fstore(command, "nope", cwd=shop, expect=1).startswith(unknown)
    assert "there is no new generation to compare: " in fstore("diff", cwd=shop, expect=1)
    assert "There are no environments: " in fstore("env", "list", cwd=shop)
    assert json.loads(fstore("status", "--env", "nope", "--json", cwd=shop))["warnings"] == [
        "environment 'nope' has nothing of its own, so this is production; `fstore env list` names those that have"
    ]
    assert "warning environment 'nope' has" in fstore("show", "user_purchases", "--env", "nope", cwd=shop)
    past = fstore("run", "--start", "2020-01-01", "--end", "2020-01-03", cwd=shop)
    assert "user_purchases: no interval lies within 2020-01-01T00:00:00Z and 2020-01-03T00:00:00Z: the view begins " in past


def test_the_fewest_rows_to_show_are_none(shop: Path) -> None:
    assert "Invalid value for '--limit'" in fstore("show", "user_purchases", "--limit", "-1", cwd=shop, expect=2)
    assert json.loads(fstore("show", "user_purchases", "--limit", "0", "--json", cwd=shop))["rows"] == []


def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    assert fstore("--version", cwd=tmp_path) == f"fstore {version('fstore')}\n"


def test_json_output_is_json_alone(shop: Path) -> None:
    environment = dict(os.environ)
    done = subprocess.run(
        [sys.executable, "-m", "fstore.cli", "run", "--json"],
        cwd=shop,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)[0]["state"] == "nothing to do"
    assert done.stderr == ""


@pytest.mark.parametrize("command", ["init", "check", "plan", "apply", "run", "status", "show", "lineage", "doctor"])
def test_every_command_has_help(command: str, tmp_path: Path) -> None:
    assert "Usage" in fstore(command, "--help", cwd=tmp_path)


def test_square_brackets_are_printed(shop: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fstore.cli", "doctor"], cwd=shop, capture_output=True, text=True, check=False,
        env=dict(os.environ) | {"FSTORE_ONLINE_URL": "nowhere://x", "FSTORE_DEFINITIONS": "no[where]"},
    )  # fmt: skip
    assert "no[where]" in done.stdout, done.stdout + done.stderr
