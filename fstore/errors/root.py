"""The root of the tree of errors, and what messages are made with."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FStoreError(Exception):
    """The root of every error raised by fstore."""

    code = "fstore_error"
    """A stable name of the error for machines (``--json``, logs, alerts)."""

    retryable = False
    """Whether trying the same thing again may succeed."""


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the closest candidate, or an empty string."""
    close = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


def listing(names: Iterable[str]) -> str:
    """Return names quoted and joined with commas, in order; ``none`` when there are none."""
    return ", ".join(repr(name) for name in names) or "none"


class InjectedFault(FStoreError):
    """What a failpoint raises that a test armed to fail."""

    code = "injected_fault"
    retryable = True
