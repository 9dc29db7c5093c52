"""The names of what a validation writes beside the files that it audits: their audited copy, and the rows set aside.

Every writing has names of its own, so that a process that stood still and goes on never touches what its retry published.
Which of them count is the registry's to say; the others are left over once the attempt is published.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from fstore.types import DataFile

_NAME = re.compile(r"(audited|quarantine)-([0-9a-f]{32})-\d+\.parquet")


def new_writing() -> tuple[str, str]:
    """Return how the names of files begin that no other writing has: of the audited copy, and of the rows set aside."""
    token = uuid.uuid4().hex
    return f"audited-{token}", f"quarantine-{token}"


def quarantine_file(files: Iterable[DataFile]) -> str | None:
    """Return the path of the rows that were set aside when an attempt's recorded files were written; None if none were."""
    for file in files:
        path = PurePosixPath(file.path)
        if path.name.startswith("audited-"):
            return str(path.with_name(path.name.replace("audited-", "quarantine-", 1)))
    return None


def left_over(paths: Iterable[str], files: Sequence[DataFile]) -> list[str]:
    """Return those of an attempt's paths that some validation wrote, and not the one whose files are recorded."""
    recorded = {match[2] for file in files if (match := _NAME.fullmatch(PurePosixPath(file.path).name))}
    found = ((path, _NAME.fullmatch(PurePosixPath(path).name)) for path in paths)
    return [path for path, match in found if match is not None and match[2] not in recorded]
