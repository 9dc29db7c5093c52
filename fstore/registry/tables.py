"""The registry's tables: ordinary typed, indexed columns that any SQL client can query.

Every row belongs to a project. Nothing here runs a query; a change here needs a new migration.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from fstore.registry.columns import BigId, Instant, Json

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _project() -> sa.Column[str]:
    return sa.Column("project", sa.String, sa.ForeignKey("projects.project"), nullable=False)


def _part_of_project() -> sa.Column[str]:
    """Return the project of a row whose parent row is bound to it already: bulk rows are checked once, not twice."""
    return sa.Column("project", sa.String, nullable=False)


def _name(name: str, comment: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.String, nullable=False, comment=comment)


def _instant(name: str, comment: str | None = None) -> sa.Column[datetime]:
    return sa.Column(name, Instant, nullable=False, comment=comment)


def _range() -> tuple[sa.Column[datetime], sa.Column[datetime]]:
    return _instant("start_at"), _instant("end_at")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String, nullable=False, server_default="")


# -- the project ------------------------------------------------------------------------------------------------------

projects = sa.Table(
    "projects",
    metadata,
    sa.Column("project", sa.String, primary_key=True),
    _name("incarnation", "identifies this registry; new after a loss"),
    sa.Column("version", sa.BigInteger, nullable=False, comment="grows with every change of definitions"),
    sa.Column("sequence", sa.BigInteger, nullable=False, comment="of the newest publication"),
    sa.Column("published_at", Instant, comment="of the newest publication; never runs backwards"),
    _instant("created_at"),
)

stores = sa.Table(
    "stores",
    metadata,
    _project(),
    _name("kind"),
    _name("url", "without password"),
    _name("store_id"),
    _instant("recorded_at"),
    sa.PrimaryKeyConstraint("project", "kind"),
)

# -- definitions ------------------------------------------------------------------------------------------------------

entities = sa.Table(
    "entities",
    metadata,
    _project(),
    _name("name"),
    _text("description"),
    sa.PrimaryKeyConstraint("project", "name"),
)

entity_keys = sa.Table(
    "entity_keys",
    metadata,
    _project(),
    _name("entity"),
    sa.Column("position", sa.Integer, nullable=False),
    _name("name"),
    _name("type"),
    sa.PrimaryKeyConstraint("project", "entity", "position"),
)

sources = sa.Table(
    "sources",
    metadata,
    _project(),
    _name("name"),
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
    _project(),
    _name("source"),
    sa.Column("position", sa.Integer, nullable=False),
    _name("name"),
    _name("type"),
    sa.PrimaryKeyConstraint("project", "source", "position"),
)

views = sa.Table(
    "views",
    metadata,
    _project(),
    _name("name"),
    sa.Column("version", sa.BigInteger, nullable=False, comment="the row of view_versions that is live"),
    _name("fingerprint"),
    sa.Column("live_generation", sa.Integer, nullable=False),
    _name("entity"),
    _name("kind", "snapshot or event"),
    _name("step", "aggregate, sql or python"),
    _name("schedule"),
    _name("timezone"),
    _instant("start_at"),
    sa.Column("end_at", Instant),
    sa.Column("lag_seconds", sa.Float, nullable=False),
    sa.Column("ttl_seconds", sa.Float),
    sa.Column("online", sa.Boolean, nullable=False),
    _text("pipeline"),
    _text("owner"),
    _text("description"),
    sa.Column("tags", Json, nullable=False),
    _text("module"),
    sa.Column("line", sa.Integer, nullable=False),
    _instant("registered_at", "of the live version"),
    sa.Column("retired_at", Instant, comment="when it left the definitions"),
    sa.PrimaryKeyConstraint("project", "name"),
    sa.Index("ix_views_owner", "project", "owner"),
)

view_versions = sa.Table(
    "view_versions",
    metadata,
    _project(),
    _name("view"),
    sa.Column("version", sa.BigInteger, nullable=False, comment="the project's version that brought it"),
    _name("fingerprint"),
    sa.Column("step", Json, nullable=False),
    _instant("registered_at"),
    sa.PrimaryKeyConstraint("project", "view", "version"),
    sa.Index("ix_view_versions_fingerprint", "project", "fingerprint"),
)

features = sa.Table(
    "features",
    metadata,
    _project(),
    _name("view"),
    _name("name"),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("type", sa.String),
    _name("fingerprint"),
    _text("description"),
    sa.Column("pii", sa.Boolean, nullable=False),
    sa.PrimaryKeyConstraint("project", "view", "name"),
    sa.Index("ix_features_name", "project", "name"),
)

view_inputs = sa.Table(
    "view_inputs",
    metadata,
    _project(),
    _name("view"),
    _name("alias"),
    _name("kind", "events, dimension, snapshot or history"),
    _name("input", "the source or view that is read"),
    sa.PrimaryKeyConstraint("project", "view", "alias"),
    sa.Index("ix_view_inputs_input", "project", "input"),
)

feature_services = sa.Table(
    "feature_services",
    metadata,
    _project(),
    _name("name"),
    _text("owner"),
    _text("description"),
    sa.Column("tags", Json, nullable=False),
    sa.PrimaryKeyConstraint("project", "name"),
)

service_features = sa.Table(
    "service_features",
    metadata,
    _project(),
    _name("service"),
    sa.Column("position", sa.Integer, nullable=False),
    _name("view"),
    _name("feature"),
    sa.PrimaryKeyConstraint("project", "service", "position"),
    sa.Index("ix_service_features_view", "project", "view", "feature"),
)

# -- the ledger -------------------------------------------------------------------------------------------------------

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True, comment="its epoch"),
    _project(),
    _name("view"),
    sa.Column("generation", sa.Integer, nullable=False),
    _name("run_id"),
    _name("fingerprint"),
    sa.Column("step", Json, nullable=False),
    _name("state", "begun, validated, published, failed, abandoned or swept"),
    _text("message"),
    *_range(),
    _instant("created_at"),
    sa.Column("finished_at", Instant),
    sa.Index("ix_attempts_run", "project", "view", "run_id", "id"),
    sa.Index("ix_attempts_recent", "project", "id"),
    sqlite_autoincrement=True,
)


def _attempt() -> sa.Column[int]:
    return sa.Column("attempt_id", BigId, sa.ForeignKey("attempts.id"), nullable=False)


attempt_intervals = sa.Table(
    "attempt_intervals",
    metadata,
    _part_of_project(),
    _attempt(),
    _name("view"),
    sa.Column("generation", sa.Integer, nullable=False),
    *_range(),
    _name("outcome", "pending, passed, blocked, published or overtaken"),
    sa.Column("rows", sa.BigInteger, comment="null until validated"),
    sa.Column("quarantined_rows", sa.BigInteger),
    sa.PrimaryKeyConstraint("attempt_id", "start_at"),
    sa.Index("ix_attempt_intervals_view", "project", "view", "generation", "start_at", "end_at"),
)

check_results = sa.Table(
    "check_results",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    _part_of_project(),
    _attempt(),
    _instant("start_at"),
    _instant("end_at", "neighbouring intervals with an equal result share a row"),
    sa.Column("position", sa.Integer, nullable=False),
    _name("label"),
    _name("kind"),
    _name("severity"),
    sa.Column("columns", Json, nullable=False),
    sa.Column("violations", sa.BigInteger, nullable=False),
    sa.Column("samples", Json, nullable=False, comment="keys of some offending rows"),
    _text("message"),
    _text("sql"),
    sa.Index("ix_check_results_attempt", "attempt_id", "start_at"),
    sqlite_autoincrement=True,
)

attempt_pins = sa.Table(
    "attempt_pins",
    metadata,
    _part_of_project(),
    _attempt(),
    sa.Column("position", sa.Integer, nullable=False),
    _name("view"),
    *_range(),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("attempt_id", "position"),
    sa.Index("ix_attempt_pins_view", "project", "view", "sequence"),
)

data_files = sa.Table(
    "data_files",
    metadata,
    _part_of_project(),
    _attempt(),
    sa.Column("position", sa.Integer, nullable=False),
    _name("path"),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    *_range(),
    _name("schema_id"),
    sa.PrimaryKeyConstraint("attempt_id", "position"),
    sa.Index("ix_data_files_path", "project", "path"),
)

publications = sa.Table(
    "publications",
    metadata,
    _project(),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    _name("view"),
    sa.Column("generation", sa.Integer, nullable=False),
    *_range(),
    _attempt(),
    _name("fingerprint"),
    _instant("published_at"),
    sa.PrimaryKeyConstraint("project", "sequence"),
    sa.Index("ix_publications_range", "project", "view", "generation", "end_at", "start_at"),
    sa.Index("ix_publications_attempt", "attempt_id"),
)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    _project(),
    _name("kind"),
    _name("view"),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    _attempt(),
    *_range(),
    _instant("created_at"),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("last_error", sa.String),
    sa.Column("done_at", Instant),
    sa.Index("ix_outbox_pending", "project", "done_at", "id"),
    sa.Index("ix_outbox_attempt", "attempt_id"),
    sqlite_autoincrement=True,
)

# -- lineage ----------------------------------------------------------------------------------------------------------

lineage_events = sa.Table(
    "lineage_events",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    _project(),
    _instant("event_time"),
    _name("event_type"),
    _name("run_id"),
    _name("job_namespace"),
    _name("job_name"),
    sa.Column("parent_run_id", sa.String),
    sa.Column("parent_job_name", sa.String),
    sa.Column("payload", Json, nullable=False),
    _instant("recorded_at"),
    sa.UniqueConstraint("project", "run_id", "event_type", "job_namespace", "job_name", name="uq_lineage_events_once"),
    sa.Index("ix_lineage_events_job", "project", "job_name", "event_time"),
    sa.Index("ix_lineage_events_parent", "project", "parent_run_id"),
    sqlite_autoincrement=True,
)

lineage_outputs = sa.Table(
    "lineage_outputs",
    metadata,
    _project(),
    _name("namespace"),
    _name("name"),
    _name("revision", "the rows of lineage_edges that hold now"),
    _name("job_namespace"),
    _name("job_name"),
    _instant("event_time"),
    _name("run_id"),
    sa.PrimaryKeyConstraint("project", "namespace", "name", "job_namespace", "job_name"),
)

lineage_edges = sa.Table(
    "lineage_edges",
    metadata,
    _project(),
    _name("output_namespace"),
    _name("output_name"),
    _name("revision"),
    _name("output_column", "empty: the whole data set"),
    _name("input_namespace"),
    _name("input_name"),
    _name("input_column", "empty: the whole data set"),
    _text("transformation"),
    sa.Column("masking", sa.Boolean, nullable=False),
    sa.PrimaryKeyConstraint(
        "project", "output_namespace", "output_name", "revision",
        "output_column", "input_namespace", "input_name", "input_column",
    ),
    sa.Index("ix_lineage_edges_input", "project", "input_namespace", "input_name", "input_column"),
)  # fmt: skip
