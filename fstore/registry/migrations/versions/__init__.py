"""The revisions of the registry, oldest first by name."""
