"""Small files of the offline store that are replaced, unlike all others: what the store was told about its registry."""

from __future__ import annotations

from pathlib import Path

from fstore.stores.offline import OfflineStore
from fstore.stores.offline_errors import store_error


def read_note(store: OfflineStore, relative: str) -> bytes | None:
    """Return the content of a small file, or None where there is none."""
    try:
        with store.filesystem.open_input_stream(store.full_path(relative)) as stream:
            content: bytes = stream.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise store_error(error, relative, store.url) from error
    return content


def write_note(store: OfflineStore, relative: str, content: bytes) -> None:
    """Put a small file in the place of the one that was there, whole or not at all."""
    with store.writing(relative) as path:
        Path(path).write_bytes(content)
