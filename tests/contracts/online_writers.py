"""What the child processes of the online store's contract run: writers that race, and one that is killed."""

from __future__ import annotations

import random
import sys
from multiprocessing.connection import Connection

from fstore.stores.lmdb import LmdbStore
from fstore.stores.online import OnlineStore, OnlineView
from fstore.stores.redis import RedisStore
from fstore.stores.redis_cluster import RedisClusterStore

VIEW = OnlineView(project="shop", view="user_purchases", generation=1)
KEYS = [f"user-{n}".encode() for n in range(300)]


def open_store(url: str) -> OnlineStore:
    match url.partition(":")[0]:
        case "lmdb":
            return LmdbStore(url.removeprefix("lmdb:"), "shop")
        case "redis+cluster":
            return RedisClusterStore(url, "shop")
        case _:
            return RedisStore(url, "shop")


def row(sequence: int, text: bytes = b"") -> bytes:
    """A row as a store sees it: a header, and bytes that are none of its business."""
    return sequence.to_bytes(8, "big") + bytes(8) + text


def race(url: str, seed: int) -> None:
    """Write what :func:`race_rows` says, in its order."""
    store = open_store(url)
    for keys, rows in race_rows(seed):
        store.write_rows(VIEW, keys, rows)
    store.close()


def race_rows(seed: int) -> list[tuple[list[bytes], list[bytes]]]:
    """Batches of rows whose content tells the writer, with sequences that no other writer has."""
    random_ = random.Random(seed)
    batches = []
    for _ in range(60):
        sequence = random_.randrange(10_000) * 10 + seed
        keys = random_.sample(KEYS, random_.randrange(1, len(KEYS)))
        batches.append((keys, [row(sequence, b"writer %d" % seed)] * len(keys)))
    return batches


def write_until_killed(url: str, acknowledged: Connection) -> None:
    """Write publication after publication, and say of each when it was acknowledged."""
    store = open_store(url)
    for sequence in range(1, sys.maxsize):
        store.write_rows(VIEW, KEYS, [row(sequence, b"%d " % sequence * 40)] * len(KEYS))
        acknowledged.send(sequence)
