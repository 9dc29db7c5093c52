"""What the processes of a scenario say they did: one file of JSON lines that all of them append to.

A line is one ``write`` to a descriptor opened with O_APPEND, so lines of processes that are killed in between are whole or
not there. Times are of the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

Event = dict[str, Any]


class History:
    """The history of one scenario, as one process appends to it. ``role`` says which."""

    def __init__(self, path: Path, role: str) -> None:
        self.path, self.role = path, role
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def add(self, what: str, **facts: object) -> None:
        """Append an event."""
        line = {"what": what, "role": self.role, "at": time.monotonic_ns(), **facts}
        os.write(self._descriptor, json.dumps(line, default=str).encode() + b"\n")

    def as_role(self, role: str) -> History:
        """Return the same history as another process appends to it; to be called in that process."""
        return History(self.path, role)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read_history(path: Path, *whats: str) -> list[Event]:
    """Return the events of some kinds (none given: all), in the order in which they were appended."""
    events = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [event for event in events if not whats or event["what"] in whats]
