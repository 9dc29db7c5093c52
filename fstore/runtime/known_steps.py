"""The steps of the last compilation of a project, in one file, so that a change of one view compiles one view.

Takes a path and what the steps were compiled by (versions of code), and gives them by key (``fstore.plan.step_keys``). A
file that is not whole, or was written by other code, counts as empty: losing it costs time only. It decodes what is asked
for, and saves exactly what the latest compilation asked for or made.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import msgspec

from fstore.decoding import decode_json
from fstore.plan.steps import Step, decode_step, encode_step


class _Header(msgspec.Struct, frozen=True):
    environment: str
    checksum: int


class StepFile:
    """The steps in a file, and those that join them; :meth:`document` is what the file should hold next."""

    def __init__(self, path: Path, environment: str) -> None:
        self._environment = environment
        self._stored = _read(path, environment)
        self._used: dict[str, bytes] = {}

    def find(self, key: str) -> Step | None:
        """Return the step with a key."""
        text = self._stored.get(key)
        if text is None:
            return None
        self._used[key] = text
        return decode_step(text)

    def keep(self, key: str, step: Step) -> None:
        """Take note of a step."""
        self._used[key] = encode_step(step).encode()

    def document(self) -> list[bytes]:
        """Return the file's new content: everything that was found or kept; nothing when the file has just that."""
        if self._used.keys() == self._stored.keys():
            return []
        body = b"".join(b"%s\t%s\n" % (key.encode(), text) for key, text in self._used.items())
        return [msgspec.json.encode(_Header(self._environment, zlib.crc32(body))), b"\n", body]


def _read(path: Path, environment: str) -> dict[str, bytes]:
    try:
        first, _, body = path.read_bytes().partition(b"\n")
        header = decode_json(first, _Header)
    except (OSError, ValueError):
        return {}
    if header.environment != environment or header.checksum != zlib.crc32(body):
        return {}
    lines = (line.partition(b"\t") for line in body.splitlines())
    return {key.decode(): text for key, _, text in lines}
