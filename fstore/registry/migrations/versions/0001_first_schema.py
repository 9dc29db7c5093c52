"""The first schema: definitions, ledger, outbox and lineage."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

INSTANT = sa.DateTime(timezone=True).with_variant(sa.String(26), "sqlite")
BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:  # noqa: PLR0915  (one statement per table and index)
    op.create_table(
        "projects",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("incarnation", sa.String(), nullable=False, comment="identifies this registry; new after a loss"),
        sa.Column("version", sa.BigInteger(), nullable=False, comment="grows with every change of definitions"),
        sa.Column("sequence", sa.BigInteger(), nullable=False, comment="of the newest publication"),
        sa.Column("published_at", INSTANT, comment="no later publication is before it; never runs backwards"),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("project", name="pk_projects"),
    )
    op.create_table(
        "commits",
        sa.Column("token", sa.String(), nullable=False, comment="there if, and only if, its transaction was committed"),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("entered_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("token", name="pk_commits"),
    )
    op.create_index("ix_commits_entered_at", "commits", ["project", "entered_at"])
    op.create_table(
        "batches",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False, comment="a later one fences earlier ones of its run"),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("view", sa.String(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("ranges", sa.JSON(), nullable=False, comment="what it was asked for, as merged ranges"),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.project"], name="fk_batches_project_projects"),
        sa.PrimaryKeyConstraint("id", name="pk_batches"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_batches_run", "batches", ["project", "view", "run_id", "id"])
    op.create_table(
        "attempts",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False, comment="its epoch"),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("view", sa.String(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("batch_id", BIG_ID, nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("step", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False, comment="begun, validated, published, failed, abandoned or swept"),
        sa.Column("message", sa.String(), server_default="", nullable=False),
        sa.Column("start_at", INSTANT, nullable=False),
        sa.Column("end_at", INSTANT, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("finished_at", INSTANT),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name="fk_attempts_batch_id_batches"),
        sa.ForeignKeyConstraint(["project"], ["projects.project"], name="fk_attempts_project_projects"),
        sa.PrimaryKeyConstraint("id", name="pk_attempts"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_attempts_batch", "attempts", ["batch_id"])
    op.create_index("ix_attempts_recent", "attempts", ["project", "id"])
    op.create_index("ix_attempts_run", "attempts", ["project", "view", "run_id", "id"])
    op.create_table(
        "entities",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.project"], name="fk_entities_project_projects"),
        sa.PrimaryKeyConstraint("project", "name", name="pk_entities"),
    )
    op.create_table(
        "entity_keys",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("entity", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.project"], name="fk_entity_keys_project_projects"),
        sa.PrimaryKeyConstraint("project", "entity", "position", name="pk_entity_keys"),
    )
    op.create_table(
        "feature_services",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), server_default="", nullable=False),
        sa.Column("description", sa.String(), server_default="", nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.project"], name="fk_feature_services_project_projects"),
        sa.PrimaryKeyConstraint("project", "name", name="pk_feature_services"),
    )
    op.create_table(
        "features",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("view", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("type", sa.String()),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("description", sa.String(), server_default="", nullable=False),
        sa.Column("pii", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.project"], name="fk_features_project_projects"),
        sa.PrimaryKeyConstraint("project", "view", "name", name="pk_features"),
    )
    op.create_index("ix_features_name", "features", ["project", "name"])
    op.create_table(
        "lineage_edges",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("output_namespace", sa.String(), nullable=False),
        sa.Column("output_name", sa.String(), nullable=False),
        sa.Column("revision", sa.String(), nullable=False),
        sa.Column("output_column", sa.String(), nullable=False, comment="empty: the whole data set"),
        sa.Column("input_namespace", sa.String(), nullable=False),
        sa.Column("input_name", sa.String(), nullable=False),
        sa.Column("input_column", sa.String(), nullable=False, comment="empty: the whole data set"),
        sa.Column("transformation", sa.String(), server_default="", nullable=False),
        sa.Column("masking", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.project"], name="fk_lineage_edges_project_projects"),
        sa.PrimaryKeyConstraint(
            "project",
            "output_namespace",
            "output_name",
            "revision",
            "output_column",
            "input_namespace",
            "input_name",
            "input_column",
            name="pk_lineage_edges",
        ),
    )
    op.create_index("ix_lineage_edges_input", "lineage_edges", ["project", "input_namespace", "input_name", "input_column"])
    op.create_table(
        "lineage_events",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("event_time", INSTANT, nullable=False),
        sa.Column("event_type", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("job_namespace", sa.String(), nullable=False),
        sa.Column("job_name", sa.String(), nullable=False),
        sa.Column("parent_run_id", sa.String()),
        sa.Column("parent_job_name", sa.String()),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("recorded_at", INSTANT, nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False, comment="at forwarding it that failed"),
        sa.Column("last_error", sa.String(), comment="once settled: why the backend refused it"),
        sa.Column("settled_at", INSTANT, comment="when the OpenLineage backend accepted or refused it; null: not yet"),
        sa.ForeignKeyConstraint(["project"], ["projects.project"], name="fk_lineage_events_project_projects"),
        sa.PrimaryKeyConstraint("id", name="pk_lineage_events"),
        sa.UniqueConstraint("project", "run_id", "event_type", "job_namespace", "job_name", name="uq_lineage_events_once"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_lineage_events_job", "lineage_events", ["project", "job_name", "event_time"])
    op.create_index("ix_lineage_events_parent", "lineage_events", ["project", "parent_run_id"])
    op.create_index("ix_lineage_events_pending", "lineage_events", ["project", "settled_at", "id"])
    op.create_table(
        "lineage_outputs",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("namespace", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("revision", sa.String(), nullable=False, comment="the rows of lineage_edges that hold now"),
        sa.Column("job_namespace", sa.String(), nullable=False),
        sa.Column("job_name", sa.String(), nullable=False),
        sa.Column("event_time", INSTANT, nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.project"], name="fk_lineage_outputs_project_projects"),
        sa.PrimaryKeyConstraint("project", "namespace", "name", "job_namespace", "job_name", name="pk_lineage_outputs"),
    )
    op.create_table(
        "on_demand_features",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("overlay", sa.String(), nullable=False, comment="empty: live"),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("language", sa.String(), nullable=False, comment="sql or python"),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("definition", sa.JSON(), nullable=False),
        sa.Column("description", sa.String(), server_default="", nullable=False),
        sa.Column("registered_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.project"], name="fk_on_demand_features_project_projects"),
        sa.PrimaryKeyConstraint("project", "overlay", "name", name="pk_on_demand_features"),
    )
    op.create_table(
        "service_features",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("service", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("view", sa.String(), nullable=False, comment="on_demand for an on-demand feature"),
        sa.Column("feature", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=True, comment="the name under which the view is joined"),
        sa.Column("join_keys", sa.JSON(), nullable=False, comment="key of the view to column of the reader"),
        sa.ForeignKeyConstraint(["project"], ["projects.project"], name="fk_service_features_project_projects"),
        sa.PrimaryKeyConstraint("project", "service", "position", name="pk_service_features"),
    )
    op.create_index("ix_service_features_view", "service_features", ["project", "view", "feature"])
    op.create_table(
        "source_columns",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.project"], name="fk_source_columns_project_projects"),
        sa.PrimaryKeyConstraint("project", "source", "position", name="pk_source_columns"),
    )
    op.create_table(
        "sources",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), comment="null until a registered view reads it"),
        sa.Column("path", sa.String()),
        sa.Column("event_time", sa.String(), comment="null for a dimension"),
        sa.Column("updated_at_column", sa.String()),
        sa.Column("definition", sa.JSON()),
        sa.Column("schema_recorded_at", INSTANT),
        sa.ForeignKeyConstraint(["project"], ["projects.project"], name="fk_sources_project_projects"),
        sa.PrimaryKeyConstraint("project", "name", name="pk_sources"),
    )
    op.create_table(
        "stores",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False, comment="without password"),
        sa.Column("store_id", sa.String(), nullable=False),
        sa.Column("recorded_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.project"], name="fk_stores_project_projects"),
        sa.PrimaryKeyConstraint("project", "kind", name="pk_stores"),
    )
    op.create_table(
        "view_inputs",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("view", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False, comment="events, dimension, snapshot or history"),
        sa.Column("input", sa.String(), nullable=False, comment="the source or view that is read"),
        sa.ForeignKeyConstraint(["project"], ["projects.project"], name="fk_view_inputs_project_projects"),
        sa.PrimaryKeyConstraint("project", "view", "alias", name="pk_view_inputs"),
    )
    op.create_index("ix_view_inputs_input", "view_inputs", ["project", "input"])
    op.create_table(
        "view_versions",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("view", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False, comment="the project's version that brought it"),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("step", sa.JSON(), nullable=False),
        sa.Column("registered_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.project"], name="fk_view_versions_project_projects"),
        sa.PrimaryKeyConstraint("project", "view", "version", name="pk_view_versions"),
    )
    op.create_index("ix_view_versions_fingerprint", "view_versions", ["project", "fingerprint"])
    op.create_table(
        "views",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False, comment="the row of view_versions that is live"),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("live_generation", sa.Integer(), nullable=False),
        sa.Column("entity", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False, comment="snapshot or event"),
        sa.Column("step", sa.String(), nullable=False, comment="aggregate, composite, sql or python"),
        sa.Column("schedule", sa.String(), nullable=False),
        sa.Column("timezone", sa.String(), nullable=False),
        sa.Column("start_at", INSTANT, nullable=False),
        sa.Column("end_at", INSTANT),
        sa.Column("lag_seconds", sa.Float(), nullable=False),
        sa.Column("ttl_seconds", sa.Float()),
        sa.Column("online", sa.Boolean(), nullable=False),
        sa.Column("pipeline", sa.String(), server_default="", nullable=False),
        sa.Column("owner", sa.String(), server_default="", nullable=False),
        sa.Column("description", sa.String(), server_default="", nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("module", sa.String(), server_default="", nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("registered_at", INSTANT, nullable=False, comment="of the live version"),
        sa.Column("retired_at", INSTANT, comment="when it left the definitions"),
        sa.ForeignKeyConstraint(["project"], ["projects.project"], name="fk_views_project_projects"),
        sa.PrimaryKeyConstraint("project", "name", name="pk_views"),
    )
    op.create_index("ix_views_owner", "views", ["project", "owner"])
    op.create_table(
        "attempt_intervals",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("attempt_id", BIG_ID, nullable=False),
        sa.Column("view", sa.String(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("start_at", INSTANT, nullable=False),
        sa.Column("end_at", INSTANT, nullable=False),
        sa.Column("outcome", sa.String(), nullable=False, comment="pending, passed, blocked, published or overtaken"),
        sa.Column("rows", sa.BigInteger(), comment="null until validated"),
        sa.Column("quarantined_rows", sa.BigInteger()),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_attempt_intervals_attempt_id_attempts"),
        sa.PrimaryKeyConstraint("attempt_id", "start_at", name="pk_attempt_intervals"),
    )
    op.create_index(
        "ix_attempt_intervals_view", "attempt_intervals", ["project", "view", "generation", "start_at", "end_at"]
    )
    op.create_table(
        "attempt_pins",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("attempt_id", BIG_ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("view", sa.String(), nullable=False),
        sa.Column("start_at", INSTANT, nullable=False),
        sa.Column("end_at", INSTANT, nullable=False),
        sa.Column(
            "sequence", sa.BigInteger(), nullable=False, comment="of tiles: the newest publication when they were read"
        ),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_attempt_pins_attempt_id_attempts"),
        sa.PrimaryKeyConstraint("attempt_id", "position", name="pk_attempt_pins"),
    )
    op.create_index("ix_attempt_pins_view", "attempt_pins", ["project", "view", "sequence"])
    op.create_table(
        "attempt_sources",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("attempt_id", BIG_ID, nullable=False),
        sa.Column("source", sa.String(), nullable=False, comment="identity of the source"),
        sa.Column("change_id", sa.BigInteger(), nullable=False, comment="the newest change of the source that was known"),
        sa.Column("start_at", INSTANT, comment="the range of event time that was read; null: from the first event"),
        sa.Column("end_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_attempt_sources_attempt_id_attempts"),
        sa.PrimaryKeyConstraint("attempt_id", "source", name="pk_attempt_sources"),
    )
    op.create_index("ix_attempt_sources_source", "attempt_sources", ["project", "source", "change_id"])
    op.create_table(
        "check_results",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("attempt_id", BIG_ID, nullable=False),
        sa.Column("start_at", INSTANT, nullable=False),
        sa.Column("end_at", INSTANT, nullable=False, comment="neighbouring intervals with an equal result share a row"),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("severity", sa.String(), nullable=False),
        sa.Column("columns", sa.JSON(), nullable=False),
        sa.Column("violations", sa.BigInteger(), nullable=False),
        sa.Column("samples", sa.JSON(), nullable=False, comment="keys of some offending rows"),
        sa.Column("message", sa.String(), server_default="", nullable=False),
        sa.Column("sql", sa.String(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_check_results_attempt_id_attempts"),
        sa.PrimaryKeyConstraint("id", name="pk_check_results"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_check_results_attempt", "check_results", ["attempt_id", "start_at"])
    op.create_table(
        "data_files",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("attempt_id", BIG_ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("start_at", INSTANT, nullable=False),
        sa.Column("end_at", INSTANT, nullable=False),
        sa.Column("schema_id", sa.String(), nullable=False),
        sa.Column("checksum", sa.String(), comment="SHA-256 of its bytes when it was written; null: not known"),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_data_files_attempt_id_attempts"),
        sa.PrimaryKeyConstraint("attempt_id", "position", name="pk_data_files"),
    )
    op.create_index("ix_data_files_path", "data_files", ["project", "path"])
    op.create_table(
        "online_marks",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("view", sa.String(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column(
            "life", sa.String(), nullable=False,
            comment="the online store's when it was last written: what another one began cannot be settled",
        ),
        sa.Column("entered", sa.BigInteger(), nullable=False, comment="the newest ticket when that life was first seen"),
        sa.Column("issued", sa.BigInteger(), nullable=False, comment="the newest ticket"),
        sa.Column("settled", sa.BigInteger(), nullable=False, comment="the newest ticket that the store has acknowledged"),
        sa.ForeignKeyConstraint(["project"], ["projects.project"], name="fk_online_marks_project_projects"),
        sa.PrimaryKeyConstraint("project", "view", "generation", name="pk_online_marks"),
    )  # fmt: skip
    op.create_table(
        "outbox",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("view", sa.String(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("attempt_id", BIG_ID, nullable=False),
        sa.Column("start_at", INSTANT, nullable=False),
        sa.Column("end_at", INSTANT, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.String()),
        sa.Column("done_at", INSTANT),
        sa.Column("ticket", sa.BigInteger(), comment="of its rows in the online store; null: pending, or superseded"),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_outbox_attempt_id_attempts"),
        sa.ForeignKeyConstraint(["project"], ["projects.project"], name="fk_outbox_project_projects"),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_attempt", "outbox", ["attempt_id"])
    op.create_index("ix_outbox_pending", "outbox", ["project", "done_at", "id"])
    op.create_table(
        "publications",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("view", sa.String(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("start_at", INSTANT, nullable=False),
        sa.Column("end_at", INSTANT, nullable=False),
        sa.Column("attempt_id", BIG_ID, nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("published_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_publications_attempt_id_attempts"),
        sa.ForeignKeyConstraint(["project"], ["projects.project"], name="fk_publications_project_projects"),
        sa.PrimaryKeyConstraint("project", "sequence", name="pk_publications"),
    )
    op.create_index("ix_publications_attempt", "publications", ["attempt_id"])
    op.create_index("ix_publications_range", "publications", ["project", "view", "generation", "end_at", "start_at"])
    op.create_table(
        "overlays",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False, comment="next, or an environment's"),
        sa.Column("held", sa.Boolean(), nullable=False, comment="whether it waits to be flipped by hand"),
        sa.Column("revision", sa.Integer(), nullable=False, comment="grows with every change of what it holds"),
        sa.Column("services", sa.JSON(), nullable=False, comment="the feature services of an environment"),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.project"], name="fk_overlays_project_projects"),
        sa.PrimaryKeyConstraint("project", "name", name="pk_overlays"),
    )
    op.create_table(
        "overlay_views",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("overlay", sa.String(), nullable=False),
        sa.Column("view", sa.String(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("step", sa.JSON(), nullable=False),
        sa.Column("registered_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.project"], name="fk_overlay_views_project_projects"),
        sa.PrimaryKeyConstraint("project", "overlay", "view", name="pk_overlay_views"),
    )
    op.create_index("ix_overlay_views_view", "overlay_views", ["project", "view"])
    op.create_table(
        "flips",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False, comment="the project's version that the flip brought"),
        sa.Column("view", sa.String(), nullable=False),
        sa.Column("old_version", sa.BigInteger(), nullable=False),
        sa.Column("old_generation", sa.Integer(), nullable=False),
        sa.Column("new_generation", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False, comment="of what became live"),
        sa.Column("old_services", sa.JSON(), nullable=False, comment="feature services that the flip replaced"),
        sa.Column("flipped_at", INSTANT, nullable=False),
        sa.Column("rolled_back_at", INSTANT),
        sa.Column(
            "sequence", sa.BigInteger(), nullable=False, comment="readers as of this one and later ones see the new one"
        ),
        sa.Column("rolled_back_sequence", sa.BigInteger(), comment="and as of this one the old one again"),
        sa.ForeignKeyConstraint(["project"], ["projects.project"], name="fk_flips_project_projects"),
        sa.PrimaryKeyConstraint("project", "version", "view", name="pk_flips"),
    )
    op.create_index("ix_flips_view", "flips", ["project", "view", "version"])
    op.create_table(
        "snapshot_pins",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False, comment="everything stays readable as of it"),
        sa.Column("until_at", INSTANT, nullable=False, comment="from then on the pin keeps nothing"),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.project"], name="fk_snapshot_pins_project_projects"),
        sa.PrimaryKeyConstraint("project", "name", name="pk_snapshot_pins"),
    )
    op.create_table(
        "retired_attempts",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("attempt_id", BIG_ID, nullable=False),
        sa.Column("view", sa.String(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column(
            "reason", sa.String(), nullable=False, comment="superseded, unreachable (its whole generation is) or overtaken"
        ),
        sa.Column("first_sequence", sa.BigInteger(), nullable=False, comment="readers as of this one and later ones saw it"),
        sa.Column("gone_sequence", sa.BigInteger(), nullable=False, comment="readers as of this one do not see it any more"),
        sa.Column("superseded_at", INSTANT, comment="when the last of it was superseded, or became unreachable"),
        sa.Column("retired_at", INSTANT, nullable=False, comment="from then on reads are refused"),
        sa.Column("deleted_at", INSTANT, comment="when its files were gone; null: not yet"),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_retired_attempts_attempt_id_attempts"),
        sa.PrimaryKeyConstraint("attempt_id", name="pk_retired_attempts"),
    )
    op.create_index("ix_retired_attempts_view", "retired_attempts", ["project", "view", "generation"])
    op.create_index("ix_retired_attempts_pending", "retired_attempts", ["project", "deleted_at"])
    op.create_table(
        "unreachable_generations",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("view", sa.String(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False, comment="the newest of the project when that was found"),
        sa.Column("since", INSTANT, nullable=False, comment="when that was found"),
        sa.Column("swept_at", INSTANT, comment="when its files and its online rows were gone; null: not yet"),
        sa.ForeignKeyConstraint(["project"], ["projects.project"], name="fk_unreachable_generations_project_projects"),
        sa.PrimaryKeyConstraint("project", "view", "generation", name="pk_unreachable_generations"),
    )
    op.create_table(
        "damaged_files",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("attempt_id", BIG_ID, nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column(
            "problem",
            sa.String(),
            nullable=False,
            comment="missing, or changed: its bytes are not those that were written",
        ),
        sa.Column("found_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_damaged_files_attempt_id_attempts"),
        sa.PrimaryKeyConstraint("attempt_id", "path", name="pk_damaged_files"),
    )
    op.create_index("ix_damaged_files_project", "damaged_files", ["project"])
    op.create_table(
        "observed_sources",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False, comment="identity of the source"),
        sa.Column("name", sa.String(), nullable=False, comment="under which it was last read"),
        sa.Column("digest", sa.String(), nullable=False, comment="of the files below: equal means that nothing changed"),
        sa.Column("observed_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.project"], name="fk_observed_sources_project_projects"),
        sa.PrimaryKeyConstraint("project", "source", name="pk_observed_sources"),
    )
    op.create_table(
        "observed_files",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False, comment="identity of the source"),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column(
            "version", sa.String(), nullable=False, comment="changes whenever the content does: size and time of change"
        ),
        sa.Column("start_at", INSTANT, comment="the times in it; null: from the beginning"),
        sa.Column("end_at", INSTANT, comment="null: without end"),
        sa.Column("is_empty", sa.Boolean(), nullable=False, comment="has no row with a time"),
        sa.PrimaryKeyConstraint("project", "source", "path", name="pk_observed_files"),
    )
    op.create_table(
        "source_changes",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False, comment="in the order of commits within a project"),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False, comment="identity of the source"),
        sa.Column("start_at", INSTANT, comment="rows at these times may differ; null: from the beginning"),
        sa.Column("end_at", INSTANT, comment="null: without end"),
        sa.Column("observed_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.project"], name="fk_source_changes_project_projects"),
        sa.PrimaryKeyConstraint("id", name="pk_source_changes"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_source_changes_source", "source_changes", ["project", "source", "id"])
    op.create_table(
        "source_extracts",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False, comment="in the order of the states that were read"),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False, comment="identity of the source"),
        sa.Column("path", sa.String(), comment="in the offline store; null where there was nothing new"),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("replaces", sa.Boolean(), nullable=False, comment="what was copied before does not count any more"),
        sa.Column("cursor", sa.String(), comment="the greatest value of the cursor so far, as text; null: none"),
        sa.Column("start_at", INSTANT, comment="rows at these times differ from before; null: from the beginning"),
        sa.Column("end_at", INSTANT, comment="null: without end"),
        sa.Column("is_empty", sa.Boolean(), nullable=False, comment="no row differs from before"),
        sa.Column("extracted_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.project"], name="fk_source_extracts_project_projects"),
        sa.PrimaryKeyConstraint("id", name="pk_source_extracts"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_source_extracts_source", "source_extracts", ["project", "source", "id"])


def downgrade() -> None:  # noqa: PLR0915
    op.drop_index("ix_source_extracts_source", table_name="source_extracts")
    op.drop_table("source_extracts")
    op.drop_index("ix_source_changes_source", table_name="source_changes")
    op.drop_table("source_changes")
    op.drop_table("observed_files")
    op.drop_table("observed_sources")
    op.drop_index("ix_damaged_files_project", table_name="damaged_files")
    op.drop_table("damaged_files")
    op.drop_table("unreachable_generations")
    op.drop_index("ix_retired_attempts_pending", table_name="retired_attempts")
    op.drop_index("ix_retired_attempts_view", table_name="retired_attempts")
    op.drop_table("retired_attempts")
    op.drop_table("snapshot_pins")
    op.drop_index("ix_flips_view", table_name="flips")
    op.drop_table("flips")
    op.drop_index("ix_overlay_views_view", table_name="overlay_views")
    op.drop_table("overlay_views")
    op.drop_table("overlays")
    op.drop_index("ix_publications_range", table_name="publications")
    op.drop_index("ix_publications_attempt", table_name="publications")
    op.drop_table("publications")
    op.drop_index("ix_outbox_pending", table_name="outbox")
    op.drop_index("ix_outbox_attempt", table_name="outbox")
    op.drop_table("outbox")
    op.drop_index("ix_data_files_path", table_name="data_files")
    op.drop_table("data_files")
    op.drop_index("ix_check_results_attempt", table_name="check_results")
    op.drop_table("check_results")
    op.drop_index("ix_attempt_sources_source", table_name="attempt_sources")
    op.drop_table("attempt_sources")
    op.drop_index("ix_attempt_pins_view", table_name="attempt_pins")
    op.drop_table("attempt_pins")
    op.drop_index("ix_attempt_intervals_view", table_name="attempt_intervals")
    op.drop_table("attempt_intervals")
    op.drop_index("ix_views_owner", table_name="views")
    op.drop_table("views")
    op.drop_index("ix_view_versions_fingerprint", table_name="view_versions")
    op.drop_table("view_versions")
    op.drop_index("ix_view_inputs_input", table_name="view_inputs")
    op.drop_table("view_inputs")
    op.drop_table("stores")
    op.drop_table("sources")
    op.drop_table("source_columns")
    op.drop_index("ix_service_features_view", table_name="service_features")
    op.drop_table("service_features")
    op.drop_table("on_demand_features")
    op.drop_table("lineage_outputs")
    op.drop_index("ix_lineage_events_pending", table_name="lineage_events")
    op.drop_index("ix_lineage_events_parent", table_name="lineage_events")
    op.drop_index("ix_lineage_events_job", table_name="lineage_events")
    op.drop_table("lineage_events")
    op.drop_index("ix_lineage_edges_input", table_name="lineage_edges")
    op.drop_table("lineage_edges")
    op.drop_index("ix_features_name", table_name="features")
    op.drop_table("features")
    op.drop_table("feature_services")
    op.drop_table("entity_keys")
    op.drop_table("entities")
    op.drop_index("ix_attempts_run", table_name="attempts")
    op.drop_index("ix_attempts_recent", table_name="attempts")
    op.drop_index("ix_attempts_batch", table_name="attempts")
    op.drop_table("attempts")
    op.drop_index("ix_batches_run", table_name="batches")
    op.drop_table("batches")
    op.drop_index("ix_commits_entered_at", table_name="commits")
    op.drop_table("commits")
    op.drop_table("projects")
