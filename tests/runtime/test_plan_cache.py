"""The plan cache: right after every change, and cheap when nothing changed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest

from fstore.definitions.loader import load_project
from fstore.plan.compiler import compile_plan
from fstore.runtime import plan_cache
from fstore.runtime.plan_cache import load_pipeline, load_plan
from fstore.settings import Settings, load_settings

SHOP = """
from fstore import Entity, FeatureView, ParquetSource, agg, feature

user = Entity("user", join_keys={"user_id": "string"})
orders = ParquetSource("orders", path="data/orders/", event_time="ordered_at")
"""
VIEW = """
from fstore import FeatureView, agg, expr
from .shop import orders, user

class {name}(FeatureView):
    entity, source, schedule, start = user, orders, "{schedule}", "2026-01-01"
    n = agg.count().over("7d")
    z = expr("n_7d / 2")
    a = expr("n_7d / 3")
"""
LOADS = "open({log!r}, 'a').write('x')\n"


class Shop:
    """A project whose first module counts how often it was imported."""

    def __init__(self, root: Path) -> None:
        self.root, self.log = root.resolve(), root.resolve() / "loads"
        self.definitions = self.root / "feature_defs"
        self.definitions.mkdir(parents=True)
        (self.root / "pyproject.toml").write_text('[tool.fstore]\nproject = "shop"\nload_timeout = 2\n')
        self.write("shop.py", LOADS.format(log=str(self.log)) + SHOP)
        self.write("daily.py", VIEW.format(name="Daily", schedule="@daily"))
        self.write("hourly.py", VIEW.format(name="Hourly", schedule="@hourly"))

    def write(self, name: str, text: str) -> None:
        (self.definitions / name).write_text(dedent(text))

    @property
    def settings(self) -> Settings:
        return load_settings(self.root, environ={})

    @property
    def loads(self) -> int:
        return len(self.log.read_text()) if self.log.exists() else 0

    @property
    def entries(self) -> list[Path]:
        return sorted((self.root / ".fstore/cache/plans").glob("*.jsonl"))


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "project")


def test_a_hit_is_what_loading_and_compiling_give(shop: Shop) -> None:
    first, second = load_plan(shop.settings), load_plan(shop.settings)
    project = load_project(shop.definitions, "shop")
    assert first.project == second.project == project
    assert first.plan == second.plan == compile_plan(project, {})
    assert list(second.project.views["daily"].members) == ["n", "z", "a"]
    assert shop.loads == 2  # the first load_plan, and the load of this test
    assert len(shop.entries) == 1


def test_a_pipeline_by_key_or_dag_id(shop: Shop) -> None:
    missed = load_pipeline(shop.settings, "daily.daily")
    assert [step.view for step in missed] == ["daily"]
    assert load_pipeline(shop.settings, "daily.daily") == missed
    assert load_pipeline(shop.settings, "shop.daily.daily") == missed
    assert [step.view for step in load_pipeline(shop.settings, "shop.hourly.hourly")] == ["hourly"]
    assert load_pipeline(shop.settings, "nothing.daily") == ()
    assert missed == tuple(step for step in load_plan(shop.settings).plan.steps if step.view == "daily")
    assert shop.loads == 1


def test_every_change_is_seen(shop: Shop) -> None:
    def windows() -> list[str]:
        return [
            feature.name for step in load_plan(shop.settings).plan.steps for feature in step.features if "n_" in feature.name
        ]

    assert windows() == ["n_7d", "n_7d"]
    shop.write("daily.py", VIEW.format(name="Daily", schedule="@daily").replace("7d", "8d"))
    assert windows() == ["n_8d", "n_7d"]
    shop.write("another.py", VIEW.format(name="Another", schedule="@daily"))
    assert windows() == ["n_7d", "n_8d", "n_7d"]
    (shop.definitions / "hourly.py").unlink()
    assert windows() == ["n_7d", "n_8d"]
    shop.write("hourly.py", VIEW.format(name="Hourly", schedule="@hourly"))
    (shop.definitions / "another.py").unlink()
    assert windows() == ["n_8d", "n_7d"]
    assert shop.loads == 4  # the last state was seen before


def test_an_edit_of_the_same_size_and_moment_is_seen(shop: Shop) -> None:
    shop.write("daily.py", VIEW.format(name="Daily", schedule="@daily"))
    stamp = (shop.definitions / "daily.py").stat()
    assert load_plan(shop.settings).plan.steps[0].features[0].name == "n_7d"
    (shop.definitions / "daily.py").write_text(VIEW.format(name="Daily", schedule="@daily").replace("7d", "9d"))
    os.utime(shop.definitions / "daily.py", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert load_plan(shop.settings).plan.steps[0].features[0].name == "n_9d"


def test_files_that_look_the_same_are_not_read_once_their_times_have_settled(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_cache, "_SETTLED_NS", -60_000_000_000)  # as if everything were old
    first = load_plan(shop.settings)

    def refuse(path: str) -> str:
        raise AssertionError(f"{path} was read")

    with monkeypatch.context() as context:
        context.setattr(plan_cache, "_hash_file", refuse)
        assert load_plan(shop.settings) == first
        assert [step.view for step in load_pipeline(shop.settings, "hourly.hourly")] == ["hourly"]
    stamp = (shop.definitions / "daily.py").stat()
    shop.write("daily.py", VIEW.format(name="Daily", schedule="@daily").replace("7d", "8d"))
    os.utime(shop.definitions / "daily.py", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # the time of change still tells
    assert load_plan(shop.settings).plan.steps[0].features[0].name == "n_8d"
    assert shop.loads == 2


def test_projects_do_not_share_entries(shop: Shop) -> None:
    load_plan(shop.settings)
    other = load_settings(shop.root, environ={"FSTORE_PROJECT": "other"})
    assert load_plan(other).plan.project == "other"
    assert load_plan(shop.settings).plan.project == "shop"
    assert len(shop.entries) == 2


def test_a_file_outside_of_the_definitions_counts(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(
        "PYTHONDONTWRITEBYTECODE", raising=False
    )  # bytecode of the first version must not stand for the second
    (shop.root / "company.py").write_text('WEEK = "7d"\n')
    shop.write("daily.py", "import company\n" + VIEW.format(name="Daily", schedule="@daily").replace('"7d"', "company.WEEK"))
    shop.write("daily.py", (shop.definitions / "daily.py").read_text().replace("n_7d / ", "1 / "))
    assert load_plan(shop.settings).plan.steps[0].features[0].name == "n_7d"
    assert load_plan(shop.settings).plan.steps[0].features[0].name == "n_7d"
    assert shop.loads == 1
    (shop.root / "company.py").write_text('WEEK = "8d"\n')
    assert load_plan(shop.settings).plan.steps[0].features[0].name == "n_8d"
    assert shop.loads == 2


@pytest.mark.parametrize("damage", ["empty", "half", "garbage", "one bit of a step", "another format"])
def test_a_damaged_entry_is_compiled_anew(shop: Shop, damage: str) -> None:
    expected = load_plan(shop.settings)
    (entry,) = shop.entries
    data = entry.read_bytes()
    match damage:
        case "empty":
            entry.write_bytes(b"")
        case "half":
            entry.write_bytes(data[: len(data) // 2])
        case "garbage":
            entry.write_bytes(b"\xff{]" + data)
        case "one bit of a step":
            entry.write_bytes(data.replace(b'"hourly"', b'"hourlz"'))
        case _:
            entry.write_bytes(data.replace(b'"format":1', b'"format":0'))
    assert load_pipeline(shop.settings, "hourly.hourly") == tuple(s for s in expected.plan.steps if s.view == "hourly")
    assert load_plan(shop.settings) == expected
    assert shop.loads == 2
    assert shop.entries == [entry]
    assert entry.read_bytes() == data


def test_a_cache_that_cannot_be_written(shop: Shop) -> None:
    (shop.root / ".fstore").mkdir()
    (shop.root / ".fstore/cache").write_text("a file where the directory should be")
    assert [step.view for step in load_plan(shop.settings).plan.steps] == ["daily", "hourly"]
    assert [step.view for step in load_pipeline(shop.settings, "daily.daily")] == ["daily"]
    assert shop.loads == 2


def test_broken_definitions_are_kept_with_their_problems(shop: Shop) -> None:
    shop.write("broken.py", "1/0")
    for _ in range(2):
        loaded = load_plan(shop.settings)
        assert [str(problem) for problem in loaded.plan.problems] == [
            "module (feature_defs/broken.py:1) raises ZeroDivisionError: division by zero."
        ]
        assert [step.view for step in loaded.plan.steps] == ["daily", "hourly"]
    assert shop.loads == 1


def test_a_module_that_was_killed_is_tried_again_but_not_by_a_task(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.write(
        "a_killed.py",
        f"import os, signal\nif not os.path.exists({str(shop.root / 'better')!r}):\n    os.kill(os.getpid(), 9)\n",
    )
    assert [str(problem) for problem in load_plan(shop.settings).plan.problems] == [
        "module (feature_defs/a_killed.py:1) was being imported when the process was killed by SIGKILL. Memory ran out, or a "
        "library that it imports crashed."
    ]
    (shop.root / "better").write_text("")
    assert len(load_plan(shop.settings).plan.problems) == 1  # for a minute
    later = time.time() + 61
    monkeypatch.setattr(plan_cache.time, "time", lambda: later)
    loads = shop.loads
    assert [step.view for step in load_pipeline(shop.settings, "daily.daily")] == ["daily"]
    assert shop.loads == loads
    assert load_plan(shop.settings).plan.problems == ()
    assert shop.loads == loads + 1


def test_no_definitions(shop: Shop) -> None:
    for file in shop.definitions.iterdir():
        file.unlink()
    (problem,) = load_plan(shop.settings).plan.problems
    assert str(problem).startswith(f"definitions directory '{shop.definitions}' holds no module")
    shop.definitions.rmdir()
    (problem,) = load_plan(shop.settings).plan.problems
    assert str(problem).startswith(f"definitions directory '{shop.definitions}' does not exist.")
    assert load_pipeline(shop.settings, "daily.daily") == ()
    assert shop.entries == []


def test_few_entries_are_kept(shop: Shop) -> None:
    load_plan(shop.settings)
    (entry,) = shop.entries
    for number in range(30):
        old = entry.with_name(f"{number:064d}.jsonl")
        old.write_bytes(b"")
        os.utime(old, (number, number))
    left = entry.with_name("x-1.tmp")
    left.write_bytes(b"")
    os.utime(left, (1, 1))
    shop.write("hourly.py", VIEW.format(name="Hourly", schedule="@daily"))
    load_plan(shop.settings)
    assert len(shop.entries) == 20
    assert entry in shop.entries
    assert not left.exists()


def test_a_hit_imports_no_driver_and_no_sql_parser(shop: Shop) -> None:
    load_plan(shop.settings)
    code = f"""
import sys
from pathlib import Path
from fstore.runtime.plan_cache import load_pipeline, load_plan
from fstore.settings import load_settings
settings = load_settings(Path({str(shop.root)!r}), environ={{}})
assert len(load_plan(settings).plan.steps) == 2
assert len(load_pipeline(settings, "daily.daily")) == 1
heavy = {{"sqlglot", "duckdb", "pyarrow", "numpy", "pandas", "sqlalchemy", "redis", "lmdb", "airflow", "openlineage"}}
print(sorted(heavy & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("[]\n", "")
    assert shop.loads == 1


def test_two_writers_at_once(shop: Shop) -> None:
    code = f"""
from pathlib import Path
from fstore.runtime.plan_cache import load_plan
from fstore.settings import load_settings
print(len(load_plan(load_settings(Path({str(shop.root)!r}), environ={{}})).plan.steps))
"""
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0] for process in processes] == ["2\n"] * 3
    assert len(shop.entries) == 1
    assert [file for file in shop.entries[0].parent.iterdir() if file.suffix == ".tmp"] == []
