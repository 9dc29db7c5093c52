"""The registry's tables of versions that are not live yet, and of what was live before.

An overlay is a named set of views with steps and generations of their own over the live ones: ``next``, which is filled
beside them and then takes their place, or a development environment. Nothing here runs a query.
"""

from __future__ import annotations

import sqlalchemy as sa

from fstore.registry.columns import Instant, Json, instant_column, metadata, name_column, project_column

overlays = sa.Table(
    "overlays",
    metadata,
    project_column(),
    name_column("name", "next, or an environment's"),
    sa.Column("held", sa.Boolean, nullable=False, comment="whether it waits to be flipped by hand"),
    sa.Column("revision", sa.Integer, nullable=False, comment="grows with every change of what it holds"),
    sa.Column("services", Json, nullable=False, comment="the feature services of an environment"),
    instant_column("created_at"),
    sa.PrimaryKeyConstraint("project", "name"),
)

overlay_views = sa.Table(
    "overlay_views",
    metadata,
    project_column(),
    name_column("overlay"),
    name_column("view"),
    sa.Column("generation", sa.Integer, nullable=False),
    name_column("fingerprint"),
    sa.Column("step", Json, nullable=False),
    instant_column("registered_at"),
    sa.PrimaryKeyConstraint("project", "overlay", "view"),
    sa.Index("ix_overlay_views_view", "project", "view"),
)

flips = sa.Table(
    "flips",
    metadata,
    project_column(),
    sa.Column("version", sa.BigInteger, nullable=False, comment="the project's version that the flip brought"),
    name_column("view"),
    sa.Column("old_version", sa.BigInteger, nullable=False),
    sa.Column("old_generation", sa.Integer, nullable=False),
    sa.Column("new_generation", sa.Integer, nullable=False),
    name_column("fingerprint", "of what became live"),
    sa.Column("old_services", Json, nullable=False, comment="feature services that the flip replaced"),
    instant_column("flipped_at"),
    sa.Column("rolled_back_at", Instant),
    sa.Column("sequence", sa.BigInteger, nullable=False, comment="readers as of this one and later ones see the new one"),
    sa.Column("rolled_back_sequence", sa.BigInteger, comment="and as of this one the old one again"),
    sa.PrimaryKeyConstraint("project", "version", "view"),
    sa.Index("ix_flips_view", "project", "view", "version"),
)
