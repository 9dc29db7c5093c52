"""The registry's tables of what models read: feature services and on-demand features. Nothing here runs a query."""

from __future__ import annotations

import sqlalchemy as sa

from fstore.registry.columns import Json, instant_column, metadata, name_column, project_column, text_column

feature_services = sa.Table(
    "feature_services",
    metadata,
    project_column(),
    name_column("name"),
    text_column("owner"),
    text_column("description"),
    sa.Column("tags", Json, nullable=False),
    sa.PrimaryKeyConstraint("project", "name"),
)

service_features = sa.Table(
    "service_features",
    metadata,
    project_column(),
    name_column("service"),
    sa.Column("position", sa.Integer, nullable=False),
    name_column("view", "on_demand for an on-demand feature"),
    name_column("feature"),
    sa.Column("alias", sa.String, comment="the name under which the view is joined"),
    sa.Column("join_keys", Json, nullable=False, comment="key of the view to column of the reader"),
    sa.PrimaryKeyConstraint("project", "service", "position"),
    sa.Index("ix_service_features_view", "project", "view", "feature"),
)

on_demand_features = sa.Table(
    "on_demand_features",
    metadata,
    project_column(),
    name_column("overlay", "empty: live"),
    name_column("name"),
    sa.Column("type", sa.String, nullable=False),
    name_column("language", "sql or python"),
    name_column("fingerprint"),
    sa.Column("definition", Json, nullable=False),
    text_column("description"),
    instant_column("registered_at"),
    sa.PrimaryKeyConstraint("project", "overlay", "name"),
)
