"""Which empty online stores are made again by themselves."""

from __future__ import annotations

import msgspec
import pytest

from fstore.locality import renews_itself

SERVER = "postgresql+psycopg://fstore:secret@db.internal:5432/features"


@pytest.mark.parametrize(
    ("online", "registry", "renews"),
    [
        ("lmdb:.fstore/online", "sqlite:///registry.db", True),
        ("redis://localhost:6379/0", "sqlite:///registry.db", True),
        ("lmdb:.fstore/online", "postgresql://fstore:secret@127.0.0.1:5432/features", True),
        ("redis://user:secret@redis:6379/0?socket_timeout=2", SERVER, True),
        ("rediss+cluster://h1:6379,h2:6379", SERVER, True),
        ("lmdb:.fstore/online", SERVER, False),
        ("unix:///run/redis.sock", SERVER, False),
        ("redis://localhost:6379/0", SERVER, False),
        ("redis://:secret@127.0.0.1/0", SERVER, False),
        ("redis://[::1]:6379/0", SERVER, False),
        ("redis+sentinel://h1:26379,localhost:26379/main/0", SERVER, False),
        ("redis://:se#cret@redis:6379/0", SERVER, False),
        ("lmdb:.fstore/online", "postgresql:///features?host=db.internal", False),
    ],
)
def test_a_store_of_one_machine_is_renewed_only_beside_its_registry(online: str, registry: str, renews: bool) -> None:
    class Urls(msgspec.Struct):
        online_url: str
        registry_url: str

    assert renews_itself(Urls(online_url=online, registry_url=registry)) is renews  # type: ignore[arg-type]
