"""The values that retention takes and gives: pins, retired attempts and damaged files. Frozen values without behaviour."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

Reason = Literal["superseded", "unreachable", "overtaken"]
Problem = Literal["missing", "changed"]


class SnapshotPin(msgspec.Struct, frozen=True, kw_only=True):
    """Keeps everything readable as of a sequence until an instant."""

    name: str
    sequence: int
    until: datetime
    created_at: datetime


class Retired(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt whose files are deleted or about to be.

    Reads as of ``first_sequence`` up to before ``gone_sequence`` saw some of it. ``reason`` says why nobody needs it:
    superseded before the horizon, of a generation that nobody can reach, or overtaken before it was ever seen.
    """

    attempt: int
    view: str
    generation: int
    reason: Reason
    first_sequence: int
    gone_sequence: int
    superseded_at: datetime | None
    retired_at: datetime | None = None


class DamagedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is not there, or whose bytes are not those that were written. ``path`` is relative to the store."""

    attempt: int
    path: str
    problem: Problem
    found_at: datetime


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """What is known to be lost of some attempts: those retired, by id, and damaged files by path."""

    retired: dict[int, Retired] = {}
    damaged: dict[str, DamagedFile] = {}


class DeadGeneration(msgspec.Struct, frozen=True, kw_only=True):
    """A generation that nobody can reach since an instant, and whose online rows may still be there."""

    view: str
    generation: int
    since: datetime
