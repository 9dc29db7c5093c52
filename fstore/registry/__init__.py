"""What is known: definitions, the publication log, the outbox and lineage, in tables that SQL can query.

The one package that imports SQLAlchemy. Start at ``registry.open_registry``.
"""
