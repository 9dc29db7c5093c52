"""A project as JSON, for the loader's child process and the plan cache.

Keys stay in the order in which the project holds them, which is canonical already and which class bodies give a meaning
(the order of features); the same project always gives the same bytes.
"""

from __future__ import annotations

import msgspec

from fstore.decoding import decode_json
from fstore.definitions.project import Project


def encode_project(project: Project) -> bytes:
    """Return a project as JSON."""
    return msgspec.json.encode(project)


def decode_project(data: bytes | str) -> Project:
    """Return the project that :func:`encode_project` wrote. Raises msgspec.DecodeError on anything else."""
    return decode_json(data, Project)
