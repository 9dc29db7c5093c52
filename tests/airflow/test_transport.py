"""Airflow's own lineage events in the registry."""

import logging

import pytest
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import InputDataset, Job, Run, RunEvent, RunState
from openlineage.client.transport import get_default_factory

from fstore.airflow.transport import RegistryConfig, RegistryTransport
from fstore.errors import SettingsError
from fstore.registry.registry import create_registry

RUN_ID = "01941c2f-0000-7000-8000-00000000000{}"


@pytest.fixture
def project(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.fstore]\nproject = "flights"\n')
    (tmp_path / ".fstore").mkdir()
    with create_registry(f"sqlite:///{tmp_path}/.fstore/registry.db", "flights") as registry:
        yield tmp_path, registry


def event(number, job, *, inputs=()):
    return RunEvent(
        eventType=RunState.COMPLETE, eventTime="2026-01-01T00:00:00Z", run=Run(RUN_ID.format(number)),
        job=Job("airflow", job), producer="https://example.com", inputs=list(inputs), outputs=[],
    )  # fmt: skip


def jobs(registry):
    return sorted(event.job_name for event in registry.lineage.events())


def test_events_of_the_projects_dags_and_of_readers_of_its_views_are_kept(project):
    root, registry = project
    path = "fstore.airflow.transport.RegistryTransport"
    transport = get_default_factory().create({"type": path, "root": str(root)})
    client = OpenLineageClient(transport=transport)
    client.emit(event(1, "flights.carriers.daily.delays.compute"))
    client.emit(event(2, "someone_elses.task"))
    client.emit(event(3, "report.task", inputs=[InputDataset(namespace="fstore.flights", name="delays")]))
    client.emit(event(1, "flights.carriers.daily.delays.compute"))
    assert jobs(registry) == ["flights.carriers.daily.delays.compute", "report.task"]
    assert transport.close()


def test_it_can_be_part_of_a_composite(project):
    root, registry = project
    parts = {"registry": {"type": "fstore.airflow.transport.RegistryTransport", "root": str(root)}, "off": {"type": "noop"}}
    transport = get_default_factory().create({"type": "composite", "transports": parts})
    OpenLineageClient(transport=transport).emit(event(1, "flights.carriers.daily"))
    assert jobs(registry) == ["flights.carriers.daily"]


def test_a_failure_is_logged_and_breaks_nothing(tmp_path, caplog):
    transport = RegistryTransport(RegistryConfig(root=str(tmp_path / "nowhere")))
    with caplog.at_level(logging.ERROR):
        transport.emit(event(1, "flights.carriers.daily"))
    assert f"an OpenLineage event was not recorded in the registry of {tmp_path / 'nowhere'}" in caplog.text


def test_a_wrong_configuration_says_what_it_takes():
    with pytest.raises(SettingsError) as caught:
        RegistryConfig.from_dict({"type": "x", "rot": "/p"})
    assert str(caught.value) == (
        'the OpenLineage transport of fstore takes "root" (the project\'s directory) and may take "project" and "registry"; '
        "got "
        "['rot']"
    )
