"""OpenLineage events of a step, and their delivery."""
