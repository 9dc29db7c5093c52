"""Entities: the things that features describe."""

from __future__ import annotations

from fstore.definitions.location import Named


class Entity(Named, frozen=True, kw_only=True):
    """A thing that features describe, such as a user, and the columns that identify it.

    ``join_keys`` maps column names to types (integers, string, bool or date), in the order of the composite key. A key is
    never null: source rows without one are ignored and counted.
    """

    join_keys: dict[str, str]
    description: str = ""
