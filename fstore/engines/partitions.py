"""Columns that the directories of a source spell out, as in ``country=DE/day=2026-01-01/part.parquet``.

Takes the files of a source and gives the partition columns with their types: ``int64`` or ``date`` where every value is
written as one, else ``string``. Files that do not all have the same partition columns have none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

from fstore.engines.source_files import SourceFiles

NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"

_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def partition_columns(found: SourceFiles) -> dict[str, str]:
    """Return the partition columns of a source and their types, in order of the directories."""
    values: dict[str, set[str]] = {}
    names: set[tuple[str, ...]] = set()
    for file in found.files:
        pairs = [
            part.partition("=") for part in file.path.removeprefix(found.base).strip("/").split("/")[:-1] if "=" in part
        ]
        names.add(tuple(name for name, _, _ in pairs))
        for name, _, value in pairs:
            values.setdefault(name, set()).add(unquote(value))
    if len(names) != 1:
        return {}
    return {name: _type_of(values[name] - {NULL_PARTITION}) for name in names.pop()}


def _type_of(values: Iterable[str]) -> str:
    texts = list(values)
    if texts and all(_INTEGER.fullmatch(text) for text in texts):
        return "int64"
    if texts and all(_DATE.fullmatch(text) for text in texts):
        return "date"
    return "string"
