"""Changing features from the command line: plan, apply, run, diff, flip, rollback, environments."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_commands import fstore

MODULE = Path("feature_defs/purchases.py")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A project laid out by ``init`` and run once."""
    fstore("init", "--project", "shop", cwd=tmp_path)
    fstore("run", cwd=tmp_path)
    return tmp_path


def edit(root: Path, old: str, new: str) -> None:
    text = (root / MODULE).read_text()
    assert old in text
    (root / MODULE).write_text(text.replace(old, new))


def test_a_breaking_change_from_plan_to_rollback(shop: Path) -> None:
    edit(shop, 'agg.avg("amount")', 'agg.max("amount")')
    plan = json.loads(fstore("plan", "--json", cwd=shop, expect=2))
    (line,) = plan["compute"]
    assert (line["due"], line["beside"] > 5, line["rows_estimate"] > 0, line["bytes_estimate"] > 0) == (0, True, True, True)
    (change,) = plan["changes"]["changed"]
    assert (change["kind"], change["renews"], change["consumers"]) == ("breaking", True, [])
    text = fstore("plan", "--markdown", cwd=shop, expect=2)
    assert text.startswith("### fstore plan for `shop`\n\n**1 breaking**; ")
    assert "waits for `fstore apply`" in fstore("run", cwd=shop)
    fstore("apply", "--hold", cwd=shop)
    assert "The new generations are complete" in fstore("run", cwd=shop)
    page = shop / "diff.html"
    assert "user_purchases: generation 1 with" in fstore("diff", "--html", str(page), cwd=shop)
    nowhere = fstore("diff", "--html", "nowhere/diff.html", cwd=shop, expect=1)
    assert nowhere == "error settings_error --html nowhere/diff.html cannot be written: No such file or directory\n"
    (compared,) = json.loads(fstore("diff", "--json", cwd=shop))
    changed = {item["feature"]: item["changed_rows"] > 0 for item in compared["features"]}
    assert changed["amount_avg_7d"]
    assert not changed["purchase_count_7d"]
    assert "<svg" in page.read_text()
    assert "user_purchases: generation 2 is live, in place of generation 1" in fstore("flip", cwd=shop)
    assert "nothing to flip" in fstore("flip", cwd=shop, expect=1)
    assert json.loads(fstore("plan", "--json", cwd=shop))["changes"]["changed"] == []
    assert "user_purchases: generation 1 is live, in place of generation 2" in fstore("rollback", "user_purchases", cwd=shop)
    assert "waits for `fstore apply`" in fstore("run", cwd=shop)
    (line,) = json.loads(fstore("plan", "--json", cwd=shop))["compute"]
    assert line["beside"] == 0, "the generation that was rolled back is taken up again"


def test_an_environment_computes_what_differs_and_leaves_production_as_it_is(shop: Path) -> None:
    before = json.loads(fstore("status", "--json", cwd=shop))
    edit(shop, 'agg.avg("amount")', 'agg.max("amount")')
    (line,) = json.loads(fstore("plan", "--env", "dev", "--json", cwd=shop, expect=2))["compute"]
    assert line["missing"] == line["due"] > 5
    assert "user_purchases" in fstore("run", "--env", "dev", cwd=shop)
    assert [item["views"] for item in json.loads(fstore("env", "list", "--json", cwd=shop))] == [["user_purchases"]]
    assert json.loads(fstore("plan", "--env", "dev", "--json", cwd=shop))["compute"][0]["due"] == 0
    (compared,) = json.loads(fstore("diff", "--env", "dev", "--json", cwd=shop))
    assert compared["old_generation"] == 1
    assert compared["new_generation"] == 2
    after = json.loads(fstore("status", "--json", cwd=shop))
    assert after["registry_version"] == before["registry_version"]
    assert [view["published"] for view in after["views"]] == [view["published"] for view in before["views"]]

    (line,) = json.loads(fstore("plan", "--json", cwd=shop))["compute"]
    assert (line["beside"], line["rows_estimate"]) == (0, 0), "what the environment has filled is not computed again"
    promoted = json.loads(fstore("apply", "--json", cwd=shop))
    assert promoted["staged"] == [{"view": "user_purchases", "generation": 2, "adopted": True}]
    run = fstore("run", cwd=shop)
    assert "0 of them filled now" in run
    assert "are live now" in run
    assert json.loads(fstore("env", "list", "--json", cwd=shop))[0]["views"] == []
    fstore("env", "drop", "dev", cwd=shop)
    assert "has no environment 'dev'" in fstore("env", "drop", "dev", cwd=shop, expect=1)


def test_metadata_computes_nothing(shop: Path) -> None:
    edit(shop, '    owner = "you"', '    owner = "someone-else"')
    plan = json.loads(fstore("plan", "--json", cwd=shop))
    assert [(change["kind"], change["reasons"]) for change in plan["changes"]["changed"]] == [
        ("metadata", ["owner changed"])
    ]
    fstore("apply", cwd=shop)
    assert "nothing is due" in fstore("run", cwd=shop)


def test_what_changed_in_a_source_is_planned(shop: Path) -> None:
    import pyarrow.parquet as pq

    assert fstore("plan", cwd=shop) == "Nothing is due.\n"
    file = shop / "data" / "purchases.parquet"
    pq.write_table(pq.read_table(file).slice(1), file)
    (line,) = json.loads(fstore("plan", "--json", cwd=shop, expect=2))["compute"]
    assert (line["missing"], line["again"] > 5) == (0, True)
    assert f"user_purchases: {line['again']} interval(s)" in fstore("run", cwd=shop)
    assert fstore("plan", cwd=shop) == "Nothing is due.\n"


def test_problems_are_exit_code_1(shop: Path) -> None:
    edit(shop, '"amount"', '"amuont"')
    plan = json.loads(fstore("plan", "--json", cwd=shop, expect=1))
    assert plan["problems"]
    assert plan["changes"]["removed"] == [], "what a broken module declares is not gone"
    text = fstore("plan", cwd=shop, expect=1)
    assert "Nothing is due of what has no problems. Until they are solved nothing can be applied" in text
    assert not [line for line in text.splitlines() if line.startswith("- ")]
    fstore("apply", cwd=shop, expect=1)
    assert "user_purchases" in fstore("show", "user_purchases", cwd=shop), "and is not retired"


def test_services_are_planned_and_applied(shop: Path) -> None:
    edit(shop, "UserPurchases.trend], owner", "UserPurchases], owner")
    edit(shop, "churn = ", 'growth = FeatureService("growth", features=[UserPurchases.trend])\nchurn = ')
    service = "~ service churn: added: user_purchases:purchase_count_30d, user_purchases:amount_avg_7d"
    text = fstore("plan", cwd=shop)
    assert "+ service growth: 1 feature\n" in text
    assert f"\n{service}" in f"\n{text}"
    assert "`fstore apply` records services and on-demand features." in text
    assert "| ➕ | service `growth` | 1 feature | | |" in fstore("plan", "--markdown", cwd=shop)
    assert "differ from what is registered: service churn, service growth; see" in fstore("doctor", cwd=shop)
    assert service in fstore("apply", cwd=shop)
    assert fstore("plan", cwd=shop) == "Nothing is due.\n"
    assert "1 views and 2 services, all registered" in fstore("doctor", cwd=shop)


PYTHON_VIEW = """

def double(p):
    import pyarrow as pa

    return pa.table({"user_id": p["user_id"], "twice": [2.0 for _ in range(p.num_rows)]})


class Twice(FeatureView):
    '''A Python view.'''

    entity, inputs, schedule = user, {"p": UserPurchases}, "@daily"
    twice = feature("float64")
    compute = transform(double)
"""


def test_a_python_view_that_cannot_run_as_registered_is_filled(shop: Path) -> None:
    text = (shop / MODULE).read_text()
    (shop / MODULE).write_text(
        text.replace("from fstore import ", "from fstore import feature, transform, ", 1) + PYTHON_VIEW
    )
    fstore("run", cwd=shop)
    edit(shop, "2.0 for", "3.0 for")
    assert "that is not there any more" in fstore("run", "--select", "twice", cwd=shop, expect=1)
    fstore("apply", "--hold", cwd=shop)
    (outcome,) = json.loads(fstore("run", "--select", "twice", "--json", cwd=shop))
    fill = outcome["fill"]
    assert (outcome["state"], fill["generation"], fill["lacking"], fill["live"]) == ("filled", 2, 0, False)
    assert fill["filled"] == fill["required"] > 5
    ranged = ("run", "--select", "twice", "--start", "2026-01-01", "--end", "2026-01-02")
    assert "that is not there any more" in fstore(*ranged, cwd=shop, expect=1)
    fstore("flip", cwd=shop)
    assert json.loads(fstore("run", "--select", "twice", "--json", cwd=shop))[0]["state"] == "nothing to do"
