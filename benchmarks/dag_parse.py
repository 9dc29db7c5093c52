"""A task's own parse of the DAG file: with 1,000 views it may take at most 1.2 times as long as with 10.

Every task parses its DAG file again. Two projects are laid out, one module of ten views and a hundred such modules; then
fresh processes, by turns, import Airflow and parse the DAG file as a task of the first pipeline does, with the plan cached.
What is timed is the parse alone, the import of fstore included and that of Airflow not.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

from benchmarks.harness import measure, report
from fstore.runtime.plan_cache import load_plan
from fstore.settings import load_settings

DAG_ID = "bench.module_000.daily"
RUNS = 7
LIMIT = 1.2
MODULE = '''"""Views of module {number}."""

from fstore import FeatureView, agg

from .sources import things, user

'''
VIEW = '''

class View{number:04}(FeatureView):
    """Counts and sums of things."""

    entity = user
    source = things
    schedule = "@daily"
    start = "2026-01-01"

    things_count = agg.count().over("1d", "7d", "30d")
    amount_sum = agg.sum("amount").over("1d", "7d", "30d").fill(0.0)
'''
SOURCES = '''"""What all views share."""

from fstore import Entity, ParquetSource

user = Entity("user", join_keys={"user_id": "string"})
things = ParquetSource("things", path="data/", event_time="happened_at")
'''
DAG_FILE = '''"""The DAGs of the project, for Airflow."""

from pathlib import Path

from fstore.airflow.dag_builder import build_dags

globals().update(build_dags(Path(__file__).parents[1]))
'''


def lay_out(root: Path, views: int) -> Path:
    """Write a project with that many views, ten to a module, and return its DAG file."""
    definitions, dags = root / "feature_defs", root / "dags"
    definitions.mkdir(parents=True)
    dags.mkdir()
    (root / "pyproject.toml").write_text('[tool.fstore]\nproject = "bench"\n')
    (definitions / "sources.py").write_text(SOURCES)
    for module in range(views // 10):
        text = "".join(VIEW.format(number=module * 10 + number) for number in range(10))
        (definitions / f"module_{module:03}.py").write_text(MODULE.format(number=module) + text)
    file = dags / "feature_pipelines.py"
    file.write_text(DAG_FILE)
    return file


def parse_as_task(file: Path, home: Path) -> float:
    """Parse the file as Airflow does for a task, in a process that has imported Airflow already; return the seconds."""
    os.environ.update(
        {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(Path(__file__).resolve().parent.parent / "plugins"),
            "AIRFLOW__OPENLINEAGE__DISABLED": "True",
            "_AIRFLOW_PARSING_CONTEXT_DAG_ID": DAG_ID,
            "_AIRFLOW_PARSING_CONTEXT_TASK_ID": "view0000.compute",
        }
    )
    warnings.simplefilter("ignore")
    import airflow.plugins_manager
    import airflow.sdk
    import airflow.timetables.interval  # noqa: F401
    from airflow.dag_processing.dagbag import BundleDagBag

    started = time.perf_counter()
    bag = BundleDagBag(file, bundle_path=file.parent, bundle_name="dags-folder")
    seconds = time.perf_counter() - started
    if list(bag.dags) != [DAG_ID] or len(bag.dags[DAG_ID].tasks) != 30:
        raise RuntimeError(f"parsed {list(bag.dags)}: {bag.import_errors}")
    return seconds


def main() -> int:
    """Measure, print the line, and return 1 when the limit is passed."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        files = {f"{views:,} views": lay_out(root / str(views), views) for views in (10, 1000)}
        for file in files.values():
            load_plan(load_settings(file.parents[1], environ={}))  # every parse but the first finds the plan cached
        time.sleep(2.5)  # until the files' times are old enough to be trusted
        variants = {name: partial(parse_as_task, file, root / "home") for name, file in files.items()}
        measured = measure(variants, runs=max(RUNS, int(os.environ.get("FSTORE_BENCH_RUNS", "0"))))
    few, many = measured["10 views"].median, measured["1,000 views"].median
    ratio = many / few
    report("dag_parse", ratio, f"10 views {few * 1000:.0f} ms, 1,000 views {many * 1000:.0f} ms, limit {LIMIT}")
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
