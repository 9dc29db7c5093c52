"""Delete rows of the embedded store that nobody can read any more, a bounded part of them in each transaction.

Takes the number of a view and a way to run write transactions. What is deleted is decided row by row within the transaction
that deletes it, so a writer beside it loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import lmdb

from fstore.failpoints import failpoint

Found: TypeAlias = tuple[int, bytes | None]
"""How many rows were deleted, and the key to go on from (None: done)."""
Run: TypeAlias = "Callable[[Callable[[lmdb.Transaction[bytes]], Found]], Found]"

_ROWS = 50_000


def delete_rows(run: Run, prefixes: tuple[bytes, ...], chosen: Callable[[bytes], bool]) -> int:
    """Delete the chosen rows among those whose keys begin with one of the prefixes, and return how many."""
    deleted = 0
    for prefix in prefixes:
        start: bytes | None = prefix
        while start is not None:
            gone, start = run(partial(_delete_some, prefix, start, chosen))
            deleted += gone
            failpoint("online.forgotten")
    return deleted


def _delete_some(
    prefix: bytes, start: bytes, chosen: Callable[[bytes], bool], transaction: lmdb.Transaction[bytes]
) -> Found:
    looked = gone = 0
    with transaction.cursor() as cursor:
        found = cursor.set_range(start)
        while found and cursor.key().startswith(prefix):
            if looked == _ROWS:
                return gone, cursor.key()
            looked += 1
            if chosen(cursor.value()):
                gone += 1
                cursor.delete()  # and the cursor is at the next row
                found = bool(cursor.key())
            else:
                found = cursor.next()
    return gone, None
