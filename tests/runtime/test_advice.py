"""What ``fstore status`` says to do: once for all views of which the same is to be said."""

from __future__ import annotations

import msgspec
import pytest

from fstore.backends import open_backends
from fstore.errors import StoreCorrupt
from fstore.runtime.advice import Advice, joined
from fstore.runtime.incarnation import adopt_stores, check_incarnation, find_restored, read_offline
from fstore.runtime.standing import project_status
from fstore.stores.offline_notes import write_note
from tests.projects import SmallProject, utc

VIEWS = ["user_orders", "user_profile", "user_risk", "order_events"]


def test_the_same_advice_for_several_views_is_one_line(project: SmallProject) -> None:
    for view in VIEWS:
        project.step(view)
    project.run("user_orders", "2026-01-01", "2026-01-04")
    status = project_status(project.backends, [], utc("2026-01-05T12:00"))
    assert [(each.view, each.command) for each in status.advice] == [
        (view.view, f"fstore run --select {view.view}") for view in status.views
    ]
    (line,) = joined(status.advice)
    assert (line.view, line.command) == (", ".join(view.view for view in status.views), "fstore run")
    assert line.problem == "13 due interval(s) are not published; scheduled runs compute up to 400 at a time, oldest first"


def test_of_many_views_some_are_named_and_the_others_counted() -> None:
    many = [Advice.about(f"view_{n}", "stale", n, detail="400") for n in range(1, 9)]
    one = Advice.about("view_3", "lost", 1)
    project = Advice(problem="3 publication(s) wait to go online", command="fstore maintain")
    stale, lost, last = joined([*many[:3], one, *many[3:], project])
    assert stale.view == "view_1, view_2, view_3, view_4, view_5 and 3 more"
    assert stale.problem == "36 interval(s) were computed from what has changed; " + many[0].problem.split("; ")[1]
    assert (stale.command, stale.count) == ("fstore repair", 36)
    assert (lost, last) == (one, project), "what is said once stays as it is"


def test_other_errors_are_other_lines() -> None:
    failed = [
        Advice.about(view, "failed", 1, detail=detail) for view, detail in (("a", "full"), ("b", "gone"), ("c", "full"))
    ]
    assert [(line.view, line.problem, line.command) for line in joined(failed)] == [
        ("a, c", "the last attempt failed: full", "fstore run"),
        ("b", "the last attempt failed: gone", "fstore run --select b"),
    ]
    blocked = [Advice.about(view, "blocked", 2, rest=" --start 2026-01-01 --end 2026-01-03") for view in ("a", "b")]
    assert blocked[0].command == "fstore run --select a --start 2026-01-01 --end 2026-01-03"
    assert [(line.view, line.count, line.command) for line in joined(blocked)] == [("a, b", 4, "fstore status --json")]


def test_a_project_stands_without_its_stores(project: SmallProject) -> None:
    project.run("user_orders", "2026-01-01", "2026-01-04")
    project.close()
    for wrong in ({"offline_url": f"file:{project.root}/elsewhere"}, {"online_url": "memcached://host"}):
        with open_backends(msgspec.structs.replace(project.settings, **wrong)) as backends:
            assert find_restored(backends) is None
            (view,) = project_status(backends, [], utc("2026-01-05T12:00")).views
        assert (view.view, view.published) == ("user_orders", 3)
        assert view.online == ("settings_error" if "online_url" in wrong else "current")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"incarnation":"\xff"}', b"[]"])
def test_a_damaged_record_of_the_registry_stops_writing_and_not_status(project: SmallProject, content: bytes) -> None:
    project.run("user_orders", "2026-01-01", "2026-01-03")
    store = project.backends.offline
    write_note(store, "small/_registry.json", content)
    with pytest.raises(StoreCorrupt, match=r"(?s)file 'small/_registry.json' of the offline store .* is damaged: .*--adopt"):
        check_incarnation(project.backends)
    (view,) = project_status(project.backends, [], utc("2026-01-05T12:00")).views
    assert (view.published, view.online) == (2, "current")
    adopt_stores(project.backends)
    check_incarnation(project.backends)
    seen = read_offline(project.backends)
    assert seen is not None
    assert seen.incarnation == project.backends.registry.state().incarnation
