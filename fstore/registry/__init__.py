"""What is known: definitions, the publication log, reports and lineage, in ordinary SQL tables."""
