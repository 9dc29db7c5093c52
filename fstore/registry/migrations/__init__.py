"""The revisions of the registry's schema, oldest first.

Kept as plain names, so that opening a registry can compare revisions without loading Alembic.
"""

REVISIONS: tuple[str, ...] = ("0001",)
"""Every revision that this version of fstore knows; the last is the one that it works with."""
