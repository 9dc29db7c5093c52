"""The datasets of a step in OpenLineage terms: what it reads and what it writes, with their facets.

A source is named by where it physically is (``file`` and an absolute path, ``s3://bucket`` and a key prefix, or
``postgres://host:port`` and ``database.schema.table``); one that is made of others by those it is made of. A view is named
by its project and name, with the physical address as a symlink.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.facet_v2 import (
    DatasetFacet,
    InputDatasetFacet,
    OutputDatasetFacet,
    column_lineage_dataset,
    data_quality_assertions_dataset,
    data_quality_metrics_dataset,
    data_quality_metrics_input_dataset,
    dataset_type_dataset,
    dataset_version_dataset,
    documentation_dataset,
    output_statistics_output_dataset,
    ownership_dataset,
    schema_dataset,
    storage_dataset,
    symlinks_dataset,
    tags_dataset,
)

from fstore.connections import table_address
from fstore.definitions.source import PhysicalSource, PostgresSource, physical_sources, source_kind
from fstore.lineage.run import LineageRun, Quality, view_namespace
from fstore.plan.steps import EVENT_TIMESTAMP, ColumnEdge, DimensionInput, EventInput, HistoryInput, SnapshotInput
from fstore.types import Column

Address = tuple[str, str]
"""A dataset's namespace and name."""


def physical_address(path: str, root: str) -> Address:
    """Return the namespace and name of a path or URL; a relative path resolves from ``root``."""
    scheme, separator, rest = path.partition("://")
    if separator and scheme != "file":
        bucket, _, key = rest.partition("/")
        return f"{scheme}://{bucket}", key.rstrip("/") or "/"
    local = rest if separator else path.removeprefix("file:")
    return "file", str(Path(root) / local)


def source_address(run: LineageRun, source: PhysicalSource) -> Address:
    """Return the namespace and name of files, or of a table of a database."""
    if isinstance(source, PostgresSource):
        return run.table_addresses.get(source.name) or table_address(source, None)
    return physical_address(source.path, run.root)


def input_datasets(run: LineageRun) -> list[InputDataset]:
    """Return the sources and upstream views of a step, each once, in input order; last the audited rows, if any.

    Quality facets may only stand on an input: the audit reads the files that the attempt wrote, so the view itself is
    listed as read once its rows were checked.
    """
    seen: dict[Address, InputDataset] = {}
    for item in run.step.inputs:
        match item:
            case EventInput(source=source) | DimensionInput(source=source):
                found = [
                    (source_address(run, leaf), _source_facets(leaf, run.source_columns.get(leaf.name, ())))
                    for leaf in physical_sources(source)
                ]
            case SnapshotInput(view=view) | HistoryInput(view=view):
                found = [((view_namespace(run.step.project), view), _upstream_facets(item, run.versions.get(view)))]
        for (namespace, name), facets in found:
            seen.setdefault((namespace, name), InputDataset(namespace=namespace, name=name, facets=facets))
    datasets = list(seen.values())
    if run.quality is not None:
        datasets.append(_audited(run, run.quality))
    return datasets


def output_dataset(run: LineageRun) -> OutputDataset:
    """Return the view as a dataset, with what is known about it at this point of the run."""
    step = run.step
    columns = [
        schema_dataset.SchemaDatasetFacetFields(name=name, type=kind, description=text or None, ordinal_position=position)
        for position, (name, kind, text) in enumerate(_output_columns(run), start=1)
    ]
    facets: dict[str, DatasetFacet] = {
        "schema": schema_dataset.SchemaDatasetFacet(fields=columns),
        "datasetType": dataset_type_dataset.DatasetTypeDatasetFacet(datasetType="TABLE", subType="FEATURE_VIEW"),
        "storage": storage_dataset.StorageDatasetFacet(storageLayer="fstore", fileFormat="parquet"),
        "columnLineage": column_lineage_dataset.ColumnLineageDatasetFacet(fields=_column_lineage(run)),
    }
    if step.description:
        facets["documentation"] = documentation_dataset.DocumentationDatasetFacet(description=step.description)
    if step.owner:
        owner = ownership_dataset.Owner(name=step.owner, type="OWNER")
        facets["ownership"] = ownership_dataset.OwnershipDatasetFacet(owners=[owner])
    if tags := list(_dataset_tags(run)):
        facets["tags"] = tags_dataset.TagsDatasetFacet(tags=tags)
    if run.location:
        namespace, name = physical_address(run.location, run.root)
        link = symlinks_dataset.Identifier(namespace=namespace, name=name, type="LOCATION")
        facets["symlinks"] = symlinks_dataset.SymlinksDatasetFacet(identifiers=[link])
    if run.sequence is not None:
        facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=str(run.sequence))
    if run.quality is not None:
        facets["dataQualityMetrics"] = _output_metrics(run.quality)
    return OutputDataset(
        namespace=view_namespace(step.project), name=step.view, facets=facets, outputFacets=_statistics(run)
    )


def _source_facets(source: PhysicalSource, columns: tuple[Column, ...]) -> dict[str, DatasetFacet]:
    is_table = isinstance(source, PostgresSource)
    real = {shown: column for column, shown in source.renamed.items()}
    columns = tuple(Column(name=real.get(column.name, column.name), type=column.type) for column in columns)
    facets: dict[str, DatasetFacet] = {
        "datasetType": dataset_type_dataset.DatasetTypeDatasetFacet(datasetType="TABLE" if is_table else "FILE"),
        "storage": storage_dataset.StorageDatasetFacet(
            storageLayer="postgres" if is_table else "files", fileFormat=None if is_table else source_kind(source)
        ),
        "symlinks": symlinks_dataset.SymlinksDatasetFacet(
            identifiers=[symlinks_dataset.Identifier(namespace="fstore", name=source.name, type="SOURCE")]
        ),
    }
    if columns:
        facets["schema"] = _schema(columns)
    if source.description:
        facets["documentation"] = documentation_dataset.DocumentationDatasetFacet(description=source.description)
    return facets


def _upstream_facets(item: SnapshotInput | HistoryInput, sequence: int | None) -> dict[str, DatasetFacet]:
    instant = Column(name=EVENT_TIMESTAMP, type="timestamp")
    facets: dict[str, DatasetFacet] = {
        "schema": _schema((*item.keys, instant, *item.features)),
        "datasetType": dataset_type_dataset.DatasetTypeDatasetFacet(datasetType="TABLE", subType="FEATURE_VIEW"),
    }
    if sequence is not None:
        facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=str(sequence))
    return facets


def _schema(columns: tuple[Column, ...]) -> schema_dataset.SchemaDatasetFacet:
    fields = [
        schema_dataset.SchemaDatasetFacetFields(name=column.name, type=column.type, ordinal_position=position)
        for position, column in enumerate(columns, start=1)
    ]
    return schema_dataset.SchemaDatasetFacet(fields=fields)


def _output_columns(run: LineageRun) -> Iterator[tuple[str, str | None, str]]:
    step = run.step
    for key in step.keys:
        yield key.name, key.type, f"Join key of entity {step.entity}."
    meaning = "End of the interval that the row describes." if step.kind == "snapshot" else "When the row became true."
    yield EVENT_TIMESTAMP, "timestamp", meaning
    for feature in step.features:
        yield feature.name, feature.type, feature.description


def _column_lineage(run: LineageRun) -> dict[str, column_lineage_dataset.Fields]:
    read = [item.source for item in run.step.inputs if isinstance(item, EventInput | DimensionInput)]
    sources = {leaf.name: leaf for source in read for leaf in physical_sources(source)}
    edges: dict[str, list[column_lineage_dataset.InputField]] = {feature.name: [] for feature in run.step.features}
    for edge in run.step.lineage:
        if edge.kind == "view":
            namespace, name = view_namespace(run.step.project), edge.dataset
        else:
            namespace, name = source_address(run, sources[edge.dataset])
        field = column_lineage_dataset.InputField(
            namespace=namespace, name=name, field=edge.column, transformations=[_transformation(edge)]
        )
        edges.setdefault(edge.feature, []).append(field)
    return {feature: column_lineage_dataset.Fields(inputFields=fields) for feature, fields in edges.items() if fields}


def _transformation(edge: ColumnEdge) -> column_lineage_dataset.Transformation:
    return column_lineage_dataset.Transformation(type="DIRECT", subtype=edge.transformation, masking=edge.masking)


def _dataset_tags(run: LineageRun) -> Iterator[tags_dataset.TagsDatasetFacetFields]:
    for key, value in sorted(run.step.tags.items()):
        yield tags_dataset.TagsDatasetFacetFields(key=key, value=value, source="USER")
    for feature in run.step.features:
        if feature.pii:
            yield tags_dataset.TagsDatasetFacetFields(key="pii", value="true", source="USER", field=feature.name)


def _statistics(run: LineageRun) -> dict[str, OutputDatasetFacet]:
    if run.files is None:
        return {}
    facet = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
        rowCount=sum(file.rows for file in run.files),
        size=sum(file.bytes for file in run.files),
        fileCount=len(run.files),
    )
    return {"outputStatistics": facet}


def _output_metrics(quality: Quality) -> data_quality_metrics_dataset.DataQualityMetricsDatasetFacet:
    columns = {
        name: data_quality_metrics_dataset.ColumnMetrics(nullCount=nulls) for name, nulls in quality.null_counts.items()
    }
    return data_quality_metrics_dataset.DataQualityMetricsDatasetFacet(columnMetrics=columns, rowCount=quality.rows)


def _audited(run: LineageRun, quality: Quality) -> InputDataset:
    assertions = [
        data_quality_assertions_dataset.Assertion(
            assertion=check.kind,
            success=check.violations == 0,
            column=column,
            severity=check.severity,
            name=check.label,
            actual=str(check.violations),
            expected="0",
        )
        for check in quality.checks
        for column in check.columns or (None,)
    ]
    columns = {
        name: data_quality_metrics_input_dataset.ColumnMetrics(nullCount=nulls)
        for name, nulls in quality.null_counts.items()
    }
    facets: dict[str, InputDatasetFacet] = {
        "dataQualityMetrics": data_quality_metrics_input_dataset.DataQualityMetricsInputDatasetFacet(
            columnMetrics=columns,
            rowCount=quality.rows,
            bytes=None if run.files is None else sum(file.bytes for file in run.files),
            fileCount=None if run.files is None else len(run.files),
        ),
        "dataQualityAssertions": data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(assertions=assertions),
    }
    return InputDataset(namespace=view_namespace(run.step.project), name=run.step.view, inputFacets=facets)
