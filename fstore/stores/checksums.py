"""The checksum that a file gets when it is written, by which damage is found later."""

from __future__ import annotations

import hashlib
from pathlib import Path


def file_checksum(local: str) -> str:
    """Return the SHA-256 of a local file's bytes as hex digits; a new file's are still in the page cache."""
    with Path(local).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
