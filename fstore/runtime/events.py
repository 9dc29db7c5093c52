"""The lineage events of an attempt, from what the registry knows about it at that moment."""

from __future__ import annotations

from datetime import UTC, datetime

from fstore.backends import Backends
from fstore.definitions.source import PostgresSource, physical_sources
from fstore.lineage.events import EventKind, run_event
from fstore.lineage.run import LineageRun, ParentRun, Quality
from fstore.plan.steps import DimensionInput, EventInput, Step
from fstore.registry.records import Attempt
from fstore.types import Column


class EventBuilder:
    """Builds the events of attempts. Reads the recorded schemas when it is made, so that it can be used in a transaction."""

    def __init__(self, backends: Backends) -> None:
        # Importing openlineage takes half a second, which no transaction of the registry should last.
        import fstore.lineage.openlineage  # noqa: F401, PLC0415

        self._backends = backends
        self._columns = {
            source: tuple(Column(name=name, type=type_) for name, type_ in columns.items())
            for source, columns in backends.registry.source_schemas().items()
        }

    def __call__(
        self, kind: EventKind, attempt: Attempt, *, parent: ParentRun | None = None, error: str | None = None,
        quality: Quality | None = None, sequence: int | None = None,
    ) -> str:  # fmt: skip
        """Return one OpenLineage event of an attempt, as of now, as JSON."""
        settings = self._backends.settings
        directory = self._backends.offline.attempt_directory(attempt.view, attempt.generation, attempt.id)
        return run_event(
            kind,
            LineageRun(
                step=attempt.step,
                attempt=attempt.id,
                intervals=attempt.intervals,
                at=datetime.now(UTC),
                root=settings.root,
                engine=self._backends.engine.name,
                parent=parent,
                versions={pin.view: pin.sequence for pin in attempt.pins},
                source_columns=self._columns,
                table_addresses=_table_addresses(self._backends, attempt.step),
                location=f"{settings.offline_url.rstrip('/')}/{directory.rpartition('/')[0]}",
                files=attempt.files or None,
                quality=quality,
                sequence=sequence,
                error=error,
            ),
        )


def _table_addresses(backends: Backends, step: Step) -> dict[str, tuple[str, str]]:
    """Return the addresses of the tables of databases that a step reads, by source."""
    read = [item.source for item in step.inputs if isinstance(item, EventInput | DimensionInput)]
    tables = [leaf for source in read for leaf in physical_sources(source) if isinstance(leaf, PostgresSource)]
    return {table.name: backends.dataset_address(table) for table in tables}
