"""The settings of a client: of a project's directory, or of the environment alone, as on a model server."""

from __future__ import annotations

import os
from pathlib import Path

from fstore.errors import SettingsError
from fstore.settings import Settings, load_settings


def client_settings(directory: str | Path | None) -> Settings:
    """Return the settings of the project that the environment names, or at or above a directory. Raises SettingsError."""
    try:
        return load_settings(None if directory is None else Path(directory))
    except SettingsError:
        if directory is not None or not (os.environ.get("FSTORE_PROJECT") and os.environ.get("FSTORE_REGISTRY_URL")):
            raise
    return load_settings(environ={**os.environ, "FSTORE_ROOT": str(Path.cwd())})
