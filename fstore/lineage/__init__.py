"""OpenLineage events of a step's attempts, and their delivery to a backend."""
