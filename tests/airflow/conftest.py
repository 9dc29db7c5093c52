"""A throw-away Airflow home for the unit tests, set before Airflow is imported.

Airflow is imported here and not first in a test module, because some of its modules warn about others of its own while
they are being imported, and warnings are errors in tests.
"""

import os
import shutil
import tempfile
import warnings
from pathlib import Path

import pytest

_HOME = Path(tempfile.mkdtemp(prefix="fstore-airflow-"))
_REPOSITORY = Path(__file__).parents[2]

os.environ.update(
    {
        "AIRFLOW_HOME": str(_HOME),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(_HOME / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(_REPOSITORY / "plugins"),
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_HOME}/airflow.db",
        "AIRFLOW__OPENLINEAGE__DISABLED": "True",
    }
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import airflow.sdk
    import airflow.serialization.serialized_objects
    import airflow.timetables.interval  # noqa: F401


@pytest.fixture(scope="session", autouse=True)
def _remove_airflow_home():
    yield
    shutil.rmtree(_HOME, ignore_errors=True)
