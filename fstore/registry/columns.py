"""The column types of the registry's tables, and the columns that many of them have.

Instants are UTC with microseconds on both databases: ``timestamptz`` on PostgreSQL, and on SQLite text of fixed width
(``2026-01-01 00:00:00.000000``) that compares, sorts and works with SQLite's date functions.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.types import TypeDecorator


class Instant(TypeDecorator[datetime]):
    """An aware ``datetime`` in UTC, exact to the microsecond."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[Any]:
        """Store text on SQLite, which has no type for instants."""
        text: sa.types.TypeEngine[Any] = sa.String(26)
        return dialect.type_descriptor(text if dialect.name == "sqlite" else sa.DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> object:
        """Write an aware instant; a naive one is a mistake of the caller."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"the registry keeps instants, and {value!r} has no time zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None).isoformat(" ", "microseconds") if dialect.name == "sqlite" else value

    def process_result_value(self, value: object, dialect: Dialect) -> datetime | None:  # noqa: ARG002 (the signature is SQLAlchemy's)
        """Read an aware instant in UTC."""
        if value is None:
            return None
        if isinstance(value, str):
            return datetime.fromisoformat(value).replace(tzinfo=UTC)
        assert isinstance(value, datetime)
        return value.astimezone(UTC)


BigId: sa.types.TypeEngine[int] = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""An id that the database issues; SQLite issues only plain integers."""

Json: sa.types.TypeEngine[Any] = sa.JSON(none_as_null=True)
"""JSON as the exact text that was written: the engine neither parses nor formats it."""

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def project_column() -> sa.Column[str]:
    """Return the column that says which project a row belongs to."""
    return sa.Column("project", sa.String, sa.ForeignKey("projects.project"), nullable=False)


def part_of_project_column() -> sa.Column[str]:
    """Return the project of a row whose parent row is bound to it already: bulk rows are checked once, not twice."""
    return sa.Column("project", sa.String, nullable=False)


def name_column(name: str, comment: str | None = None) -> sa.Column[str]:
    """Return a text column that always has a value."""
    return sa.Column(name, sa.String, nullable=False, comment=comment)


def instant_column(name: str, comment: str | None = None) -> sa.Column[datetime]:
    """Return a column of instants that always has a value."""
    return sa.Column(name, Instant, nullable=False, comment=comment)


def range_columns() -> tuple[sa.Column[datetime], sa.Column[datetime]]:
    """Return the columns of a half-open range of time."""
    return instant_column("start_at"), instant_column("end_at")


def text_column(name: str) -> sa.Column[str]:
    """Return a text column that is empty unless said otherwise."""
    return sa.Column(name, sa.String, nullable=False, server_default="")
