"""The registry's tables of what is kept for how long: pins, deleted attempts, unreachable generations and damaged files.

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

snapshot_pins = sa.Table(
    "snapshot_pins",
    metadata,
    project_column(),
    name_column("name"),
    sa.Column("sequence", sa.BigInteger, nullable=False, comment="everything stays readable as of it"),
    instant_column("until_at", "from then on the pin keeps nothing"),
    instant_column("created_at"),
    sa.PrimaryKeyConstraint("project", "name"),
)

retired_attempts = sa.Table(
    "retired_attempts",
    metadata,
    part_of_project_column(),
    sa.Column("attempt_id", BigId, sa.ForeignKey("attempts.id"), nullable=False),
    name_column("view"),
    sa.Column("generation", sa.Integer, nullable=False),
    name_column("reason", "superseded, unreachable (its whole generation is) or overtaken"),
    sa.Column("first_sequence", sa.BigInteger, nullable=False, comment="readers as of this one and later ones saw it"),
    sa.Column("gone_sequence", sa.BigInteger, nullable=False, comment="readers as of this one do not see it any more"),
    sa.Column("superseded_at", Instant, comment="when the last of it was superseded, or became unreachable"),
    instant_column("retired_at", "from then on reads are refused"),
    sa.Column("deleted_at", Instant, comment="when its files were gone; null: not yet"),
    sa.PrimaryKeyConstraint("attempt_id"),
    sa.Index("ix_retired_attempts_view", "project", "view", "generation"),
    sa.Index("ix_retired_attempts_pending", "project", "deleted_at"),
)

unreachable_generations = sa.Table(
    "unreachable_generations",
    metadata,
    project_column(),
    name_column("view"),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False, comment="the newest of the project when that was found"),
    instant_column("since", "when that was found"),
    sa.Column("swept_at", Instant, comment="when its files and its online rows were gone; null: not yet"),
    sa.PrimaryKeyConstraint("project", "view", "generation"),
)

damaged_files = sa.Table(
    "damaged_files",
    metadata,
    part_of_project_column(),
    sa.Column("attempt_id", BigId, sa.ForeignKey("attempts.id"), nullable=False),
    name_column("path"),
    name_column("problem", "missing, or changed: its bytes are not those that were written"),
    instant_column("found_at"),
    sa.PrimaryKeyConstraint("attempt_id", "path"),
    sa.Index("ix_damaged_files_project", "project"),
)
