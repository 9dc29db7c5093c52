"""Creating a project's registry and stores: twice, at once, and again after a creation that was cut off."""

from __future__ import annotations

import uuid
from pathlib import Path

import msgspec
import pytest

from fstore import failpoints
from fstore.backends import create_backends
from fstore.errors import StoreError
from tests.chaos.world import Stop, stop
from tests.projects import SmallProject


@pytest.mark.parametrize("at", [1, 2], ids=["the first store", "the second store"])
def test_two_that_create_at_once_agree_on_the_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    project = SmallProject(tmp_path / "small")
    settings = project.settings
    chosen: list[dict[str, str]] = []
    make, turn = uuid.uuid4, 0

    def between() -> uuid.UUID:
        """Let somebody else create everything just when this one, which found nothing, has to name a store."""
        nonlocal turn
        turn += 1
        if turn == at:
            with create_backends(settings) as other:
                chosen.append({store.kind: store.store_id for store in other.registry.stores()})
        return make()

    class Named:
        uuid4 = staticmethod(between)

    monkeypatch.setattr("fstore.backends.uuid", Named)
    with create_backends(settings) as mine:
        assert {store.kind: store.store_id for store in mine.registry.stores()} == chosen[0]
        assert {"offline": mine.offline.store_id(), "online": mine.online.store_id()} == chosen[0]


def test_a_creation_that_is_cut_off_before_the_store_is_there_is_finished_by_the_next(tmp_path: Path) -> None:
    project = SmallProject(tmp_path / "small")
    failpoints.arm("registry.committed", stop)
    try:
        with pytest.raises(Stop):
            create_backends(project.settings)
    finally:
        failpoints.disarm()
    backends = project.backends
    recorded = {store.kind: store.store_id for store in backends.registry.stores()}
    assert recorded == {"offline": backends.offline.store_id(), "online": backends.online.store_id()}
    project.close()


def test_a_store_that_could_not_be_created_may_be_created_elsewhere(tmp_path: Path) -> None:
    project = SmallProject(tmp_path / "small")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    settings = msgspec.structs.replace(project.settings, online_url=f"lmdb:{tmp_path}/link")
    with pytest.raises(StoreError):
        create_backends(settings)
    backends = project.backends
    assert {store.kind: store.url for store in backends.registry.stores()} == {
        "offline": project.settings.offline_url,
        "online": project.settings.online_url,
    }
    assert backends.online.store_id() == backends.registry.store_id("online")
    project.close()
