"""Delete rows in Redis that nobody can read any more: the script, and what it is told.

Of a row 24 bytes are looked at: its sequence, its time and its schema, which is 0 for a tombstone. A row is judged and
deleted within the server, so a writer beside it loses nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from fstore.stores.online import instant_micros

FORGET: Final = """
local high, low = tonumber(ARGV[1]), tonumber(ARGV[2])
local before_high, before_low, everything = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1'
local count = 0
for i = 1, #KEYS do
  local header = redis.call('GETRANGE', KEYS[i], 0, 23)
  if #header == 24 then
    local row_high, row_low, time_high, time_low = struct.unpack('>I4I4i4I4', header)
    local done = row_high < high or (row_high == high and row_low <= low)
    local old = time_high < before_high or (time_high == before_high and time_low < before_low)
    local tombstone = string.sub(header, 17, 24) == string.rep(string.char(0), 8)
    if everything or (done and (old or tombstone)) then
      count = count + redis.call('UNLINK', KEYS[i])
    end
  end
end
return count
"""

EVERYTHING: Final = (b"0", b"0", b"0", b"0", b"1")
"""Arguments that delete every row."""


def forget_arguments(sequence: int, before: datetime | None) -> tuple[bytes, ...]:
    """Return the arguments for rows up to a sequence that are tombstones or older than an instant (None: tombstones)."""
    oldest = -(1 << 63) if before is None else instant_micros(before)
    halves = (sequence >> 32, sequence & 0xFFFFFFFF, oldest >> 32, oldest & 0xFFFFFFFF, 0)
    return tuple(str(half).encode() for half in halves)
