"""The column types of the registry's tables.

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
