"""The table of transactions that took place."""

from __future__ import annotations

import sqlalchemy as sa

from fstore.registry.columns import instant_column, metadata, part_of_project_column

commits = sa.Table(
    "commits",
    metadata,
    sa.Column("token", sa.String, primary_key=True, comment="there if, and only if, its transaction was committed"),
    part_of_project_column(),
    instant_column("entered_at"),
    sa.Index("ix_commits_entered_at", "project", "entered_at"),
)
