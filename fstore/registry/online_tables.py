"""The registry's table of what the online store has acknowledged."""

from __future__ import annotations

import sqlalchemy as sa

from fstore.registry.columns import metadata, name_column, project_column

online_marks = sa.Table(
    "online_marks",
    metadata,
    project_column(),
    name_column("view"),
    sa.Column("generation", sa.Integer, nullable=False),
    name_column("life", "the online store's when it was last written: what another one began cannot be settled"),
    sa.Column("entered", sa.BigInteger, nullable=False, comment="the newest ticket when that life was first seen"),
    sa.Column("issued", sa.BigInteger, nullable=False, comment="the newest ticket"),
    sa.Column("settled", sa.BigInteger, nullable=False, comment="the newest ticket that the store has acknowledged"),
    sa.PrimaryKeyConstraint("project", "view", "generation"),
)
