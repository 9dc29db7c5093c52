"""From a directory of definitions to DAGs, as Airflow's DAG processor and its tasks do it."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fstore.airflow.dag_builder import build_dags, read_settings, report_problems
from fstore.errors import DefinitionErrors, SettingsError

PROJECT = Path(__file__).parents[1] / "end_to_end" / "project"
PIPELINES = [
    f"shop.{name}" for name in ["activity.daily", "activity.hourly", "gifts.daily", "purchases.daily", "strict.daily"]
]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("project") / "shop"
    shutil.copytree(PROJECT, root, ignore=shutil.ignore_patterns("__pycache__"))
    build_dags(root)
    return root


@pytest.fixture
def asked(monkeypatch):
    def ask(dag_id):
        monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", dag_id)

    return ask


def test_all_pipelines_but_the_broken_one_become_dags(project):
    dags = build_dags(project)
    assert list(dags) == [*PIPELINES, "shop.maintenance"]
    assert all(dag.dag_id == name for name, dag in dags.items())
    assert list(dags["shop.purchases.daily"].task_group.children) == ["user_purchases", "big_spenders"]
    assert dags["shop.maintenance"].doc_md.endswith(
        "- feature view 'broken' (feature_defs/broken.py:13) has a wrong schedule: '@dayly' is not a cron expression of "
        "five "
        "fields or one of @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually."
    )


def test_problems_are_raised_together_with_file_and_line(project):
    with pytest.raises(DefinitionErrors) as caught:
        report_problems(project)
    assert [(problem.file, problem.line) for problem in caught.value.problems] == [("feature_defs/broken.py", 13)]


@pytest.mark.parametrize("dag_id", [*PIPELINES, "shop.maintenance"])
def test_a_task_gets_only_the_dag_that_it_asks_for(project, asked, dag_id):
    asked(dag_id)
    assert list(build_dags(project)) == [dag_id]


@pytest.mark.parametrize("dag_id", ["shop.broken.daily", "other.purchases.daily", "consumer"])
def test_a_task_that_asks_for_another_dag_gets_none(project, asked, dag_id):
    asked(dag_id)
    assert build_dags(project) == {}


def test_one_airflow_serves_several_projects(project):
    dags = build_dags(project, project="outlet", registry="postgresql://h/d", offline="s3://b/x", online="redis://h")
    assert list(dags) == [name.replace("shop.", "outlet.") for name in [*PIPELINES, "shop.maintenance"]]
    settings = read_settings(project, "outlet", "postgresql://h/d", "s3://b/x", "redis://h")
    assert (settings.project, settings.registry_url, settings.offline_url) == ("outlet", "postgresql://h/d", "s3://b/x")
    (asset,) = dags["outlet.purchases.daily"].get_task("user_purchases.materialize").outlets
    assert asset.uri == "x-fstore://outlet/user_purchases"


def test_the_directory_may_be_that_of_the_definitions(project):
    assert read_settings(project / "feature_defs") == read_settings(project)
    (project / "other_defs").mkdir(exist_ok=True)
    assert read_settings(project / "other_defs").definitions_dir == project.resolve() / "other_defs"


def test_stores_on_one_disk_are_refused_with_an_executor_on_several_hosts(project, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    with pytest.raises(SettingsError, match="but tasks of CeleryExecutor run on several hosts"):
        build_dags(project)


def test_a_module_that_hangs_does_not_make_airflow_stop_the_parse(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT", "15")
    root = tmp_path / "shop"
    shutil.copytree(PROJECT, root, ignore=shutil.ignore_patterns("__pycache__", "broken.py"))
    (root / "feature_defs" / "hanging.py").write_text("import time\n\ntime.sleep(1000)\n")
    began = time.monotonic()
    dags = build_dags(root)
    assert time.monotonic() - began < 15
    assert list(dags) == [*PIPELINES, "shop.maintenance"]
    assert "feature_defs/hanging.py" in dags["shop.maintenance"].doc_md


_PARSE = """
import sys
import time
from pathlib import Path
import airflow.sdk, airflow.timetables.interval
before = set(sys.modules)
from fstore.airflow.dag_builder import build_dags
build_dags(Path(sys.argv[1]))
heavy = ("duckdb", "pyarrow", "pandas", "numpy", "redis", "boto3", "openlineage", "sqlglot", "lmdb")
print([name for name in heavy if name in set(sys.modules) - before], [name for name in heavy if name in before])
"""


def test_parsing_imports_no_driver(project):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PARSE, str(project)],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert done.stdout.splitlines()[-1] == "[] []"
