"""The registry's tables: ordinary typed, indexed columns that any SQL client can query.

Every row belongs to a project. Nothing here runs a query; a change here needs a new migration.
"""

from __future__ import annotations

import sqlalchemy as sa

from fstore.registry.columns import (
    BigId,
    Instant,
    Json,
    instant_column,
    name_column,
    part_of_project_column,
    project_column,
    range_columns,
    text_column,
)
from fstore.registry.columns import metadata as metadata  # noqa: PLC0414  (what the tables belong to)
from fstore.registry.commit_tables import commits as commits  # noqa: PLC0414  (so that the metadata is whole)
from fstore.registry.online_tables import online_marks as online_marks  # noqa: PLC0414
from fstore.registry.overlay_tables import flips as flips  # noqa: PLC0414
from fstore.registry.overlay_tables import overlay_views as overlay_views  # noqa: PLC0414
from fstore.registry.overlay_tables import overlays as overlays  # noqa: PLC0414
from fstore.registry.retention_tables import damaged_files as damaged_files  # noqa: PLC0414
from fstore.registry.retention_tables import retired_attempts as retired_attempts  # noqa: PLC0414
from fstore.registry.retention_tables import snapshot_pins as snapshot_pins  # noqa: PLC0414
from fstore.registry.retention_tables import unreachable_generations as unreachable_generations  # noqa: PLC0414
from fstore.registry.service_tables import feature_services as feature_services  # noqa: PLC0414
from fstore.registry.service_tables import on_demand_features as on_demand_features  # noqa: PLC0414
from fstore.registry.service_tables import service_features as service_features  # noqa: PLC0414
from fstore.registry.source_tables import observed_files as observed_files  # noqa: PLC0414
from fstore.registry.source_tables import observed_sources as observed_sources  # noqa: PLC0414
from fstore.registry.source_tables import source_changes as source_changes  # noqa: PLC0414
from fstore.registry.source_tables import source_extracts as source_extracts  # noqa: PLC0414

# -- the project ------------------------------------------------------------------------------------------------------

projects = sa.Table(
    "projects",
    metadata,
    sa.Column("project", sa.String, primary_key=True),
    name_column("incarnation", "identifies this registry; new after a loss"),
    sa.Column("version", sa.BigInteger, nullable=False, comment="grows with every change of definitions"),
    sa.Column("sequence", sa.BigInteger, nullable=False, comment="of the newest publication"),
    sa.Column("published_at", Instant, comment="no later publication is before it; never runs backwards"),
    instant_column("created_at"),
)

stores = sa.Table(
    "stores",
    metadata,
    project_column(),
    name_column("kind"),
    name_column("url", "without password"),
    name_column("store_id"),
    instant_column("recorded_at"),
    sa.PrimaryKeyConstraint("project", "kind"),
)

# -- definitions ------------------------------------------------------------------------------------------------------

entities = sa.Table(
    "entities",
    metadata,
    project_column(),
    name_column("name"),
    text_column("description"),
    sa.PrimaryKeyConstraint("project", "name"),
)

entity_keys = sa.Table(
    "entity_keys",
    metadata,
    project_column(),
    name_column("entity"),
    sa.Column("position", sa.Integer, nullable=False),
    name_column("name"),
    name_column("type"),
    sa.PrimaryKeyConstraint("project", "entity", "position"),
)

sources = sa.Table(
    "sources",
    metadata,
    project_column(),
    name_column("name"),
    sa.Column("kind", sa.String, comment="null until a registered view reads it"),
    sa.Column("path", sa.String),
    sa.Column("event_time", sa.String, comment="null for a dimension"),
    sa.Column("updated_at_column", sa.String),
    sa.Column("definition", Json),
    sa.Column("schema_recorded_at", Instant),
    sa.PrimaryKeyConstraint("project", "name"),
)

source_columns = sa.Table(
    "source_columns",
    metadata,
    project_column(),
    name_column("source"),
    sa.Column("position", sa.Integer, nullable=False),
    name_column("name"),
    name_column("type"),
    sa.PrimaryKeyConstraint("project", "source", "position"),
)

views = sa.Table(
    "views",
    metadata,
    project_column(),
    name_column("name"),
    sa.Column("version", sa.BigInteger, nullable=False, comment="the row of view_versions that is live"),
    name_column("fingerprint"),
    sa.Column("live_generation", sa.Integer, nullable=False),
    name_column("entity"),
    name_column("kind", "snapshot or event"),
    name_column("step", "aggregate, composite, sql or python"),
    name_column("schedule"),
    name_column("timezone"),
    instant_column("start_at"),
    sa.Column("end_at", Instant),
    sa.Column("lag_seconds", sa.Float, nullable=False),
    sa.Column("ttl_seconds", sa.Float),
    sa.Column("online", sa.Boolean, nullable=False),
    text_column("pipeline"),
    text_column("owner"),
    text_column("description"),
    sa.Column("tags", Json, nullable=False),
    text_column("module"),
    sa.Column("line", sa.Integer, nullable=False),
    instant_column("registered_at", "of the live version"),
    sa.Column("retired_at", Instant, comment="when it left the definitions"),
    sa.PrimaryKeyConstraint("project", "name"),
    sa.Index("ix_views_owner", "project", "owner"),
)

view_versions = sa.Table(
    "view_versions",
    metadata,
    project_column(),
    name_column("view"),
    sa.Column("version", sa.BigInteger, nullable=False, comment="the project's version that brought it"),
    name_column("fingerprint"),
    sa.Column("step", Json, nullable=False),
    instant_column("registered_at"),
    sa.PrimaryKeyConstraint("project", "view", "version"),
    sa.Index("ix_view_versions_fingerprint", "project", "fingerprint"),
)

features = sa.Table(
    "features",
    metadata,
    project_column(),
    name_column("view"),
    name_column("name"),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("type", sa.String),
    name_column("fingerprint"),
    text_column("description"),
    sa.Column("pii", sa.Boolean, nullable=False),
    sa.PrimaryKeyConstraint("project", "view", "name"),
    sa.Index("ix_features_name", "project", "name"),
)

view_inputs = sa.Table(
    "view_inputs",
    metadata,
    project_column(),
    name_column("view"),
    name_column("alias"),
    name_column("kind", "events, dimension, snapshot or history"),
    name_column("input", "the source or view that is read"),
    sa.PrimaryKeyConstraint("project", "view", "alias"),
    sa.Index("ix_view_inputs_input", "project", "input"),
)

# -- the ledger -------------------------------------------------------------------------------------------------------

batches = sa.Table(
    "batches",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True, comment="a later one fences earlier ones of its run"),
    project_column(),
    name_column("view"),
    sa.Column("generation", sa.Integer, nullable=False),
    name_column("run_id"),
    sa.Column("ranges", Json, nullable=False, comment="what it was asked for, as merged ranges"),
    instant_column("created_at"),
    sa.Index("ix_batches_run", "project", "view", "run_id", "id"),
    sqlite_autoincrement=True,
)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True, comment="its epoch"),
    project_column(),
    name_column("view"),
    sa.Column("generation", sa.Integer, nullable=False),
    name_column("run_id"),
    sa.Column("batch_id", BigId, sa.ForeignKey("batches.id"), nullable=False),
    name_column("fingerprint"),
    sa.Column("step", Json, nullable=False),
    name_column("state", "begun, validated, published, failed, abandoned or swept"),
    text_column("message"),
    *range_columns(),
    instant_column("created_at"),
    sa.Column("finished_at", Instant),
    sa.Index("ix_attempts_run", "project", "view", "run_id", "id"),
    sa.Index("ix_attempts_recent", "project", "id"),
    sa.Index("ix_attempts_batch", "batch_id"),
    sqlite_autoincrement=True,
)


def _attempt() -> sa.Column[int]:
    return sa.Column("attempt_id", BigId, sa.ForeignKey("attempts.id"), nullable=False)


attempt_intervals = sa.Table(
    "attempt_intervals",
    metadata,
    part_of_project_column(),
    _attempt(),
    name_column("view"),
    sa.Column("generation", sa.Integer, nullable=False),
    *range_columns(),
    name_column("outcome", "pending, passed, blocked, published or overtaken"),
    sa.Column("rows", sa.BigInteger, comment="null until validated"),
    sa.Column("quarantined_rows", sa.BigInteger),
    sa.PrimaryKeyConstraint("attempt_id", "start_at"),
    sa.Index("ix_attempt_intervals_view", "project", "view", "generation", "start_at", "end_at"),
)

check_results = sa.Table(
    "check_results",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    part_of_project_column(),
    _attempt(),
    instant_column("start_at"),
    instant_column("end_at", "neighbouring intervals with an equal result share a row"),
    sa.Column("position", sa.Integer, nullable=False),
    name_column("label"),
    name_column("kind"),
    name_column("severity"),
    sa.Column("columns", Json, nullable=False),
    sa.Column("violations", sa.BigInteger, nullable=False),
    sa.Column("samples", Json, nullable=False, comment="keys of some offending rows"),
    text_column("message"),
    text_column("sql"),
    sa.Index("ix_check_results_attempt", "attempt_id", "start_at"),
    sqlite_autoincrement=True,
)

attempt_pins = sa.Table(
    "attempt_pins",
    metadata,
    part_of_project_column(),
    _attempt(),
    sa.Column("position", sa.Integer, nullable=False),
    name_column("view"),
    *range_columns(),
    sa.Column("sequence", sa.BigInteger, nullable=False, comment="of tiles: the newest publication when they were read"),
    sa.PrimaryKeyConstraint("attempt_id", "position"),
    sa.Index("ix_attempt_pins_view", "project", "view", "sequence"),
)

attempt_sources = sa.Table(
    "attempt_sources",
    metadata,
    part_of_project_column(),
    _attempt(),
    name_column("source", "identity of the source"),
    sa.Column("change_id", sa.BigInteger, nullable=False, comment="the newest change of the source that was known"),
    sa.Column("start_at", Instant, comment="the range of event time that was read; null: from the first event"),
    instant_column("end_at"),
    sa.PrimaryKeyConstraint("attempt_id", "source"),
    sa.Index("ix_attempt_sources_source", "project", "source", "change_id"),
)

data_files = sa.Table(
    "data_files",
    metadata,
    part_of_project_column(),
    _attempt(),
    sa.Column("position", sa.Integer, nullable=False),
    name_column("path"),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    *range_columns(),
    name_column("schema_id"),
    sa.Column("checksum", sa.String, comment="SHA-256 of its bytes when it was written; null: not known"),
    sa.PrimaryKeyConstraint("attempt_id", "position"),
    sa.Index("ix_data_files_path", "project", "path"),
)

publications = sa.Table(
    "publications",
    metadata,
    project_column(),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    name_column("view"),
    sa.Column("generation", sa.Integer, nullable=False),
    *range_columns(),
    _attempt(),
    name_column("fingerprint"),
    instant_column("published_at"),
    sa.PrimaryKeyConstraint("project", "sequence"),
    sa.Index("ix_publications_range", "project", "view", "generation", "end_at", "start_at"),
    sa.Index("ix_publications_attempt", "attempt_id"),
)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    project_column(),
    name_column("kind"),
    name_column("view"),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    _attempt(),
    *range_columns(),
    instant_column("created_at"),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("last_error", sa.String),
    sa.Column("done_at", Instant),
    sa.Column("ticket", sa.BigInteger, comment="of its rows in the online store; null: pending, or superseded"),
    sa.Index("ix_outbox_pending", "project", "done_at", "id"),
    sa.Index("ix_outbox_attempt", "attempt_id"),
    sqlite_autoincrement=True,
)

# -- lineage ----------------------------------------------------------------------------------------------------------

lineage_events = sa.Table(
    "lineage_events",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    project_column(),
    instant_column("event_time"),
    name_column("event_type"),
    name_column("run_id"),
    name_column("job_namespace"),
    name_column("job_name"),
    sa.Column("parent_run_id", sa.String),
    sa.Column("parent_job_name", sa.String),
    sa.Column("payload", Json, nullable=False),
    instant_column("recorded_at"),
    sa.Column("tries", sa.Integer, nullable=False, server_default="0", comment="at forwarding it that failed"),
    sa.Column("last_error", sa.String, comment="once settled: why the backend refused it"),
    sa.Column("settled_at", Instant, comment="when the OpenLineage backend accepted or refused it; null: not yet"),
    sa.UniqueConstraint("project", "run_id", "event_type", "job_namespace", "job_name", name="uq_lineage_events_once"),
    sa.Index("ix_lineage_events_job", "project", "job_name", "event_time"),
    sa.Index("ix_lineage_events_parent", "project", "parent_run_id"),
    sa.Index("ix_lineage_events_pending", "project", "settled_at", "id"),
    sqlite_autoincrement=True,
)

lineage_outputs = sa.Table(
    "lineage_outputs",
    metadata,
    project_column(),
    name_column("namespace"),
    name_column("name"),
    name_column("revision", "the rows of lineage_edges that hold now"),
    name_column("job_namespace"),
    name_column("job_name"),
    instant_column("event_time"),
    name_column("run_id"),
    sa.PrimaryKeyConstraint("project", "namespace", "name", "job_namespace", "job_name"),
)

lineage_edges = sa.Table(
    "lineage_edges",
    metadata,
    project_column(),
    name_column("output_namespace"),
    name_column("output_name"),
    name_column("revision"),
    name_column("output_column", "empty: the whole data set"),
    name_column("input_namespace"),
    name_column("input_name"),
    name_column("input_column", "empty: the whole data set"),
    text_column("transformation"),
    sa.Column("masking", sa.Boolean, nullable=False),
    sa.PrimaryKeyConstraint(
        "project", "output_namespace", "output_name", "revision",
        "output_column", "input_namespace", "input_name", "input_column",
    ),
    sa.Index("ix_lineage_edges_input", "project", "input_namespace", "input_name", "input_column"),
)  # fmt: skip
