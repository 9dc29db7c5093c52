"""The files of a definitions directory: which there are, and which are modules of their own.

Only names and file statuses; nothing is read or imported. Listing a thousand files takes milliseconds, because every parse
of a DAG file does it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class FileStamp(NamedTuple):
    """A file's path relative to the definitions directory, with what changes when the file does."""

    path: str
    size: int
    modified_ns: int
    changed_ns: int


TWIN_SUFFIXES = (".yaml", ".yml", ".sql")
"""The suffixes of definitions that are not Python."""


def scan_definitions(directory: Path | str) -> list[FileStamp]:
    """Return every definition file below a directory, sorted by path; hidden files and folders are left out.

    Definition files are Python modules and twins, which are YAML or SQL.

    Empty when the directory does not exist; raises OSError when it cannot be read.
    """
    found: list[FileStamp] = []
    waiting = [(str(directory), "")]
    while waiting:
        folder, prefix = waiting.pop()
        try:
            entries = os.scandir(folder)
        except (FileNotFoundError, NotADirectoryError):
            continue
        with entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name == "__pycache__":
                    continue
                if entry.name.endswith((".py", *TWIN_SUFFIXES)) and entry.is_file():
                    status = entry.stat()
                    path = prefix + entry.name
                    found.append(FileStamp(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, f"{prefix}{entry.name}/"))
    found.sort()
    return found


def definition_files(directory: Path) -> list[Path]:
    """Return the path of every Python file below a definitions directory, in order."""
    return [directory / stamp.path for stamp in scan_definitions(directory) if stamp.path.endswith(".py")]


def twin_files(directory: Path) -> list[Path]:
    """Return the path of every YAML and SQL file below a definitions directory, in order."""
    return [directory / stamp.path for stamp in scan_definitions(directory) if stamp.path.endswith(TWIN_SUFFIXES)]


def is_collected(directory: Path, file: Path) -> bool:
    """Whether a file declares something of its own, rather than only when another module imports it."""
    return not any(part.startswith("_") for part in file.relative_to(directory).parts)


def module_name(directory: Path, file: Path) -> str:
    """Return the dotted name under which a definition file is imported."""
    parts = [directory.name, *file.relative_to(directory).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
