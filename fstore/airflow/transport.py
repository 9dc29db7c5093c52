"""An OpenLineage transport into the registry, for the events that Airflow's own provider sends.

Configured in Airflow, alone or as a part of a ``composite`` transport::

    AIRFLOW__OPENLINEAGE__TRANSPORT={"type": "fstore.airflow.transport.RegistryTransport", "root": "/path/to/project"}

Keeps the events of the project's own DAGs, and those of others that read or write its views. They are secondary: the
record of an attempt is written by the task itself. So a failure here is logged and breaks nothing.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import msgspec
from openlineage.client.serde import Serde
from openlineage.client.transport.transport import Config, Transport

from fstore.airflow.connections import resolve_settings
from fstore.backends import Backends, open_backends
from fstore.decoding import decode_json
from fstore.errors import SettingsError
from fstore.lineage.run import view_namespace
from fstore.settings import load_settings

if TYPE_CHECKING:
    from openlineage.client.client import Event

log = logging.getLogger(__name__)


@attrs.define
class RegistryConfig(Config):
    """``root`` is the project's directory; ``project`` and ``registry`` override its settings."""

    root: str
    project: str = ""
    registry: str = ""

    @classmethod
    def from_dict(cls, params: dict[str, Any]) -> RegistryConfig:
        """Read the configuration. Raises SettingsError for an unknown or missing entry."""
        known = {"root", "project", "registry"}
        given = {key: value for key, value in params.items() if key not in ("type", "name", "priority")}
        if "root" not in given or set(given) - known:
            raise SettingsError(
                'the OpenLineage transport of fstore takes "root" (the project\'s directory) and may take "project" and '
                f'"registry"; got {sorted(given)}'
            )
        return cls(**{key: str(value) for key, value in given.items()})


class RegistryTransport(Transport):
    """Records events in the registry's lineage log."""

    kind = "fstore"
    config_class = RegistryConfig

    def __init__(self, config: RegistryConfig) -> None:
        self.config = config
        self._opened: tuple[int, Backends] | None = None

    def emit(self, event: Event) -> None:
        """Record an event when it concerns the project; never raise."""
        try:
            text = Serde.to_json(event)
            backends = self._backends()
            if concerns(text, backends.settings.project):
                backends.registry.lineage.record(text)
        except Exception:
            log.exception("an OpenLineage event was not recorded in the registry of %s", self.config.root)

    def close(self, timeout: float = -1) -> bool:  # noqa: ARG002  (the interface's signature)
        """Close the registry; everything was recorded when it was emitted."""
        if self._opened is not None and self._opened[0] == os.getpid():
            self._opened[1].close()
        self._opened = None
        return True

    def _backends(self) -> Backends:
        """Return the project's parts, opened again after a fork: Airflow emits from children of its processes."""
        if self._opened is None or self._opened[0] != os.getpid():
            settings = load_settings(Path(self.config.root), project=self.config.project, registry_url=self.config.registry)
            self._opened = (os.getpid(), open_backends(resolve_settings(settings)))
        return self._opened[1]


class _Job(msgspec.Struct):
    name: str = ""


class _Dataset(msgspec.Struct):
    namespace: str = ""


class _Event(msgspec.Struct):
    job: _Job = msgspec.field(default_factory=_Job)
    inputs: list[_Dataset] = []
    outputs: list[_Dataset] = []


def concerns(event: str, project: str) -> bool:
    """Whether an event is of a DAG of the project, or of a job that reads or writes one of its views."""
    found = decode_json(event, _Event)
    namespaces = {dataset.namespace for dataset in (*found.inputs, *found.outputs)}
    return found.job.name.startswith(f"{project}.") or view_namespace(project) in namespaces
