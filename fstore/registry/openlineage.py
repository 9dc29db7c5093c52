"""Take an OpenLineage event apart: its indexed facts, and the derivations that it states.

Pure: JSON text in, values out. Unknown facets and fields are ignored; what is missing is an error that says so.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

import msgspec

from fstore.decoding import decode_json
from fstore.errors import RegistryError
from fstore.registry.records import Dataset, LineageEvent


class _Job(msgspec.Struct, frozen=True):
    namespace: str
    name: str


class _RunId(msgspec.Struct, frozen=True, rename="camel"):
    run_id: str


class _Parent(msgspec.Struct, frozen=True):
    run: _RunId
    job: _Job


class _RunFacets(msgspec.Struct, frozen=True):
    parent: _Parent | None = None


class _Run(msgspec.Struct, frozen=True, rename="camel"):
    run_id: str
    facets: _RunFacets = _RunFacets()


class _Transformation(msgspec.Struct, frozen=True):
    type: str = ""
    subtype: str = ""
    masking: bool = False


class _InputField(msgspec.Struct, frozen=True):
    namespace: str
    name: str
    field: str
    transformations: tuple[_Transformation, ...] = ()


class _Field(msgspec.Struct, frozen=True, rename="camel"):
    input_fields: tuple[_InputField, ...] = ()


class _ColumnLineage(msgspec.Struct, frozen=True):
    fields: dict[str, _Field] = {}
    dataset: tuple[_InputField, ...] = ()


class _DatasetFacets(msgspec.Struct, frozen=True, rename="camel"):
    column_lineage: _ColumnLineage | None = None


class _Dataset(msgspec.Struct, frozen=True):
    namespace: str
    name: str
    facets: _DatasetFacets = _DatasetFacets()


class _Event(msgspec.Struct, frozen=True, rename="camel"):
    event_time: datetime
    run: _Run
    job: _Job
    event_type: str = "OTHER"
    inputs: tuple[_Dataset, ...] = ()
    outputs: tuple[_Dataset, ...] = ()


class Derivation(msgspec.Struct, frozen=True, order=True):
    """A column (empty: the whole data set) of an output that was made from one of an input."""

    output_column: str
    input: Dataset
    input_column: str
    transformation: str = ""
    masking: bool = False


class Derived(msgspec.Struct, frozen=True):
    """All derivations of one output data set; ``revision`` identifies them."""

    output: Dataset
    revision: str
    derivations: tuple[Derivation, ...]


def parse_event(text: str) -> tuple[LineageEvent, str | None, list[Derived]]:
    """Return an event's facts, its parent job's name and, if the run completed, what its outputs were derived from.

    Raises RegistryError on text that is no OpenLineage run event.
    """
    try:
        event = decode_json(text, _Event)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise RegistryError(f"not an OpenLineage run event: {error}") from None
    if event.event_time.tzinfo is None:
        raise RegistryError(f"not an OpenLineage run event: eventTime {event.event_time.isoformat()!r} has no zone")
    parent = event.run.facets.parent
    facts = LineageEvent(
        event_time=event.event_time,
        event_type=event.event_type,
        run_id=event.run.run_id,
        job_namespace=event.job.namespace,
        job_name=event.job.name,
        parent_run_id=None if parent is None else parent.run.run_id,
        payload=text,
    )
    outputs = event.outputs if event.event_type == "COMPLETE" else ()
    derived = [found for output in outputs if (found := _derived(output, event.inputs)) is not None]
    return facts, None if parent is None else parent.job.name, derived


def _derived(output: _Dataset, inputs: tuple[_Dataset, ...]) -> Derived | None:
    """Return what an output was made from; None if the event does not say.

    A run may list its output as an input as well, because it audited what it wrote; that derives nothing.
    """
    target = Dataset(output.namespace, output.name)
    found = {("", Dataset(item.namespace, item.name), ""): Derivation("", Dataset(item.namespace, item.name), "")
             for item in inputs if Dataset(item.namespace, item.name) != target}  # fmt: skip
    lineage = output.facets.column_lineage or _ColumnLineage()
    columns = {name: field.input_fields for name, field in lineage.fields.items()}
    for column, fields in [*columns.items(), ("", lineage.dataset)]:
        for item in fields:
            source = Dataset(item.namespace, item.name)
            first = item.transformations[0] if item.transformations else _Transformation()
            found[column, source, item.field] = Derivation(
                column, source, item.field, first.subtype or first.type, any(t.masking for t in item.transformations)
            )
    if not found:
        return None
    derivations = tuple(sorted(found.values()))
    revision = hashlib.sha256(msgspec.json.encode(derivations)).hexdigest()[:16]
    return Derived(target, revision, derivations)
