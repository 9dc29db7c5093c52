"""Two tries that validate one attempt, of which one stood still until the other had published: nothing published changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fstore.errors import AttemptUnknown, PublishError, StoreCorrupt
from fstore.failpoints import arm, at_hit, disarm
from fstore.runtime.compute import compute_attempt
from fstore.runtime.materialize import materialize_attempt
from fstore.runtime.repair import SWEEP_AFTER, sweep
from fstore.runtime.retention import verify
from fstore.runtime.validate import validate_attempt
from tests.projects import SmallProject
from tests.runtime.conftest import ORDERS, write_orders

VIEW = "user_orders"
CAR = {"user_id": "c", "ordered_at": "2026-01-01T11:00", "amount": 5000.0, "item": "car"}


def computed(project: SmallProject) -> int:
    write_orders(project, [*ORDERS, CAR])
    intervals = project.intervals(VIEW, "2026-01-01", "2026-01-03")
    return compute_attempt(project.backends, project.step(VIEW), intervals, "r").attempt


def identities(project: SmallProject, attempt: int) -> dict[str, tuple[int, int]]:
    """Return which files, by path, an attempt's recorded ones are on disk, and when they were written."""
    offline = project.backends.offline
    found = {
        file.path: Path(offline.full_path(file.path)).stat()
        for file in project.backends.registry.ledger.files([attempt])[attempt]
    }
    return {path: (status.st_ino, status.st_mtime_ns) for path, status in found.items()}


def test_a_zombie_writes_nothing_over_what_its_retry_published(project: SmallProject) -> None:
    attempt = computed(project)
    published: dict[str, tuple[int, int]] = {}

    def retried_meanwhile(_: str) -> None:
        validate_attempt(project.backends, attempt)
        materialize_attempt(project.backends, attempt)
        published.update(identities(project, attempt))

    arm("validate.audited", at_hit(1, retried_meanwhile))
    try:
        with pytest.raises(PublishError, match="is published already and cannot be changed"):
            validate_attempt(project.backends, attempt)
    finally:
        disarm()
    assert len(published) == 1
    assert identities(project, attempt) == published, "the very same files"
    found = verify(project.backends, None)
    assert (found.damaged, found.unsummed) == ((), 0)


def test_what_the_zombie_wrote_is_swept_and_what_counts_stays(project: SmallProject) -> None:
    attempt = computed(project)
    directory = Path(project.backends.offline.full_path(project.backends.offline.attempt_directory(VIEW, 1, attempt)))
    arm("validate.audited", at_hit(1, lambda _: validate_attempt(project.backends, attempt) and None))
    try:  # both tries go to their end, and the one that stood still is the last to record its files
        report = validate_attempt(project.backends, attempt)
    finally:
        disarm()
    assert len(list(directory.glob("audited-*"))) == len(list(directory.glob("quarantine-*"))) == 2
    assert sweep(project.backends, datetime.now(UTC) + SWEEP_AFTER - timedelta(hours=1)) == 0
    assert len(list(directory.glob("audited-*"))) == 2, "what is not published may still be recorded by either"
    materialize_attempt(project.backends, attempt)
    rows = project.published(VIEW)
    assert sweep(project.backends, datetime.now(UTC) + timedelta(hours=1)) == 0
    assert len(list(directory.glob("audited-*"))) == 2, "not before its time"
    assert sweep(project.backends, datetime.now(UTC) + SWEEP_AFTER + timedelta(minutes=1)) == 0
    (audited,), (aside,) = list(directory.glob("audited-*")), list(directory.glob("quarantine-*"))
    assert [audited.name] == [Path(file.path).name for file in project.backends.registry.ledger.files([attempt])[attempt]]
    assert report.quarantine_file is not None
    assert aside.name == Path(report.quarantine_file).name
    assert validate_attempt(project.backends, attempt).quarantine_file == report.quarantine_file
    assert project.published(VIEW) == rows
    assert list(directory.glob("part-*")), "what was computed stays beside it"


@pytest.mark.parametrize("moment", ["validate.audited", "validate.set_aside"])
def test_an_attempt_that_is_swept_while_it_is_audited_was_given_up_and_not_damaged(
    project: SmallProject, moment: str
) -> None:
    attempt = computed(project)
    swept: list[int] = []
    arm(moment, at_hit(1, lambda _: swept.append(sweep(project.backends, datetime.now(UTC) + timedelta(days=100)))))
    try:
        with pytest.raises(AttemptUnknown, match="published nothing for too long and its files were deleted"):
            validate_attempt(project.backends, attempt)
    finally:
        disarm()
    assert swept == [1]


def test_a_file_that_is_gone_while_it_is_audited_is_damage(project: SmallProject) -> None:
    attempt = computed(project)
    (file,) = project.backends.registry.ledger.files([attempt])[attempt]
    arm("validate.audited", at_hit(1, lambda _: Path(project.backends.offline.full_path(file.path)).unlink()))
    try:
        with pytest.raises(StoreCorrupt, match="is gone or damaged"):
            validate_attempt(project.backends, attempt)
    finally:
        disarm()
