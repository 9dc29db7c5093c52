"""The local Airflow without starting one; tests/end_to_end starts it."""

import os
import socket
import subprocess
import sys

import psutil
import pytest

from fstore.airflow.local import LocalAirflow
from fstore.airflow.rest import AirflowError


def test_a_taken_port_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AirflowError) as caught:
            LocalAirflow(tmp_path, port=port).start()
    assert str(caught.value) == (
        f"port {port} is taken by another program (Address already in use); stop it or choose another port"
    )


def test_nothing_of_another_airflow_is_inherited(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", "redis://other")
    monkeypatch.setenv("FSTORE_MEMORY_LIMIT", "1GB")
    airflow = LocalAirflow(tmp_path, environ={"AIRFLOW__API__WORKERS": "2"}, users={"ann": "admin", "bob": "viewer"})
    found = airflow.environment(tmp_path / "passwords.json")
    assert "AIRFLOW__CORE__EXECUTOR" not in found
    assert "AIRFLOW_CONN_OTHER" not in found
    assert found["FSTORE_MEMORY_LIMIT"] == "1GB"
    assert found["AIRFLOW__API__WORKERS"] == "2"
    assert found["AIRFLOW_HOME"] == str(tmp_path / ".airflow")
    assert found["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] == "ann:admin,bob:viewer"
    assert found["PATH"].split(os.pathsep)[0] == os.path.dirname(sys.executable)  # noqa: PTH120


def test_stopping_ends_processes_of_the_home_whose_parent_is_gone_and_no_others(tmp_path):
    def orphan(home):
        quiet = "stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL"
        sleeper = "[sys.executable, '-c', 'import time; time.sleep(600)']"
        code = f"import subprocess, sys; print(subprocess.Popen({sleeper}, {quiet}).pid)"
        environment = {**os.environ, "AIRFLOW_HOME": str(home)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
        return psutil.Process(int(done.stdout))

    mine, other = orphan(tmp_path / ".airflow"), orphan(tmp_path / "other")
    try:
        LocalAirflow(tmp_path).stop()
        assert not mine.is_running() or mine.status() == psutil.STATUS_ZOMBIE
        assert other.is_running()
    finally:
        other.kill()
    LocalAirflow(tmp_path).stop()  # nothing is left to stop
