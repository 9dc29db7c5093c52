"""Named places where a process can be made to stop, to fail or to wait, so that surviving it can be proved.

Every place where a write has just become visible, or is about to, calls :func:`failpoint` with its name. Nothing happens
there unless a test, or the variable ``FSTORE_FAILPOINTS`` of a process under test, armed it. A name says what has just
happened (``publish.committed``), so a process that is killed there has done that and nothing after it. Not for production:
an armed process says so on standard error.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Final, TypeAlias

from fstore.errors import InjectedFault, SettingsError, did_you_mean

Action: TypeAlias = Callable[[str], None]
"""What an armed failpoint does; it is given the failpoint's name."""

FAILPOINTS: Final = {
    "batch.begun": "a batch is recorded, none of its chunks is",
    "attempt.begun": "an attempt is recorded, nothing is computed",
    "tiles.begun": "an attempt at tiles is recorded",
    "tiles.written": "the files of tiles are written, and not published",
    "tiles.published": "tiles are published",
    "offline.written": "a file is written under its temporary name",
    "offline.synced": "the file is synced, and not yet under its own name",
    "offline.renamed": "the file has its name; its directory is not synced",
    "offline.visible": "the file would survive a power failure",
    "compute.written": "all files of an attempt are written, and not recorded",
    "compute.recorded": "the files are recorded",
    "validate.audited": "the rows are audited, nothing is recorded",
    "validate.set_aside": "rows in quarantine and the audited copy are written, and not recorded",
    "validate.recorded": "the verdicts are recorded",
    "registry.begun": "a write transaction of the registry is open",
    "registry.committing": "everything of it is written, and it is not committed",
    "registry.committed": "it is committed, and its caller does not know yet",
    "publish.locked": "the project's row is locked",
    "publish.checked": "the fence and the inputs are checked",
    "publish.appended": "the log has the publications, the outbox has not, in an open transaction",
    "publish.enqueued": "the outbox has the work as well, the intervals are not settled, in an open transaction",
    "publish.committed": "an attempt is published, and nothing of it is online",
    "online.begun": "online work is taken up",
    "online.written": "some rows of a publication are in the online store",
    "online.applied": "all rows are, and the floor is not",
    "online.issued": "the registry has given the rows a ticket, and the floor is not raised",
    "online.floor": "the floor is raised",
    "online.forgotten": "some rows that nobody can read are deleted online",
    "outbox.applied": "an entry is applied, and pending",
    "outbox.done": "the entry is settled",
    "lineage.sent": "the OpenLineage backend has an event, and it is pending",
    "lineage.settled": "the event is settled",
    "migration.begun": "the schema is locked, and old",
    "migration.upgraded": "the schema is new, in an open transaction",
    "backup.written": "a backup is written under a temporary name",
    "restore.begun": "nothing of the registry is replaced yet",
    "restore.emptied": "the old rows are deleted, in an open transaction",
    "restore.filled": "the new ones are there, in an open transaction",
    "restore.committed": "the registry is the backup, and its stores do not know",
    "adopt.raised": "sequences and ids are above all that the stores hold, which still refuse to be written",
    "adopt.repaired": "what is online is what the registry says, and the stores still refuse to be written",
    "adopt.offline": "the offline store knows the new incarnation, the online store does not",
    "sweep.abandoned": "attempts are given up, and their files are there",
    "sweep.deleted": "files of some are deleted",
    "sweep.marked": "the sweep is recorded",
    "retain.marked": "superseded attempts are retired, and their files are there",
    "retain.deleted": "files of some are deleted",
    "retain.recorded": "that is recorded",
    "retain.dropped": "the online rows of a generation that nobody can reach are deleted, and that is not recorded",
    "retain.forgotten": "online rows of a view that nobody can read are deleted",
    "repair.entered": "the store's life is in the registry, and nothing of a lost view is written",
    "repair.applied": "a view is online again",
}
"""Every failpoint, and what has just happened there."""

_armed: dict[str, Action] = {}


def failpoint(name: str) -> None:
    """Do what the failpoint is armed with; nothing when it is not."""
    if _armed and (action := _armed.get(name)) is not None:
        action(name)


def arm(name: str, action: Action) -> None:
    """Arm a failpoint of this process, in place of what it was armed with. Raises SettingsError for an unknown name."""
    if name not in FAILPOINTS:
        raise SettingsError(f"there is no failpoint {name!r}.{did_you_mean(name, FAILPOINTS)}")
    _armed[name] = action


def disarm() -> None:
    """Disarm every failpoint of this process."""
    _armed.clear()


# -- actions ----------------------------------------------------------------------------------------------------------


def kill(_: str) -> None:
    """End the process as the kernel's out-of-memory killer does."""
    os.kill(os.getpid(), signal.SIGKILL)


def pause(_: str) -> None:
    """Stop the process until somebody continues it (SIGCONT): a zombie in the making."""
    os.kill(os.getpid(), signal.SIGSTOP)


def fail(name: str) -> None:
    """Raise InjectedFault."""
    raise InjectedFault(f"failpoint {name!r} is armed to fail: {FAILPOINTS[name]}")


def delay(seconds: float) -> Action:
    """Return an action that waits."""
    return lambda _: time.sleep(seconds)


def at_hit(number: int, action: Action) -> Action:
    """Return an action that happens only the ``number``-th time that its failpoint is reached, counted from 1."""
    hits = 0

    def counted(name: str) -> None:
        nonlocal hits
        hits += 1
        if hits == number:
            action(name)

    return counted


def arm_from(text: str) -> None:
    """Arm what a text such as ``publish.committed=kill;online.written=delay:0.5@3`` says.

    Actions are kill, pause, fail and delay:SECONDS; ``@n`` waits for the n-th hit. Raises SettingsError.
    """
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, _, rest = part.partition("=")
        what, _, hit = rest.partition("@")
        arm(name.strip(), _action(part, what.strip(), hit.strip()))
        sys.stderr.write(f"fstore: failpoint {part} is armed: this process is under test\n")


def _action(part: str, what: str, hit: str) -> Action:
    word, _, seconds = what.partition(":")
    plain: dict[str, Action] = {"kill": kill, "pause": pause, "fail": fail}
    try:
        action = delay(float(seconds)) if word == "delay" else plain[what]
        return at_hit(int(hit), action) if hit else action
    except (KeyError, ValueError):
        raise SettingsError(
            f"FSTORE_FAILPOINTS has {part!r}; write name=kill, name=pause, name=fail or name=delay:SECONDS, and @n after it "
            "for the n-th time only"
        ) from None


arm_from(os.environ.get("FSTORE_FAILPOINTS", ""))
