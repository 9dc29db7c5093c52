"""The registry's tables of sources as they were last seen: files, changes, and what was copied out of databases.

Part of :mod:`fstore.registry.tables`, under the same rules.
"""

from __future__ import annotations

import sqlalchemy as sa

from fstore.registry.columns import (
    BigId,
    Instant,
    instant_column,
    metadata,
    name_column,
    part_of_project_column,
    project_column,
)

observed_sources = sa.Table(
    "observed_sources",
    metadata,
    project_column(),
    name_column("source", "identity of the source"),
    name_column("name", "under which it was last read"),
    name_column("digest", "of the files below: equal means that nothing changed"),
    instant_column("observed_at"),
    sa.PrimaryKeyConstraint("project", "source"),
)

observed_files = sa.Table(
    "observed_files",
    metadata,
    part_of_project_column(),
    name_column("source", "identity of the source"),
    name_column("path"),
    name_column("version", "changes whenever the content does: size and time of change"),
    sa.Column("start_at", Instant, comment="the times in it; null: from the beginning"),
    sa.Column("end_at", Instant, comment="null: without end"),
    sa.Column("is_empty", sa.Boolean, nullable=False, comment="has no row with a time"),
    sa.PrimaryKeyConstraint("project", "source", "path"),
)

source_changes = sa.Table(
    "source_changes",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True, comment="in the order of commits within a project"),
    project_column(),
    name_column("source", "identity of the source"),
    sa.Column("start_at", Instant, comment="rows at these times may differ; null: from the beginning"),
    sa.Column("end_at", Instant, comment="null: without end"),
    instant_column("observed_at"),
    sa.Index("ix_source_changes_source", "project", "source", "id"),
    sqlite_autoincrement=True,
)

source_extracts = sa.Table(
    "source_extracts",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True, comment="in the order of the states that were read"),
    project_column(),
    name_column("source", "identity of the source"),
    sa.Column("path", sa.String, comment="in the offline store; null where there was nothing new"),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("replaces", sa.Boolean, nullable=False, comment="what was copied before does not count any more"),
    sa.Column("cursor", sa.String, comment="the greatest value of the cursor so far, as text; null: none"),
    sa.Column("start_at", Instant, comment="rows at these times differ from before; null: from the beginning"),
    sa.Column("end_at", Instant, comment="null: without end"),
    sa.Column("is_empty", sa.Boolean, nullable=False, comment="no row differs from before"),
    instant_column("extracted_at"),
    sa.Index("ix_source_extracts_source", "project", "source", "id"),
    sqlite_autoincrement=True,
)
