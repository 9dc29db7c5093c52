"""Kill, stop, fail or delay a process at a failpoint; let the others do what they would; then check that nothing is wrong.

A scenario is a failpoint and a seed, from which everything else follows: what work reaches the failpoint, at which hit, what
happens there, who comes afterwards (a retry, an older or a newer backfill, a sweep, a change of the source, the zombie
itself) and who reads meanwhile. Processes are forked from one that has everything imported and nothing open.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from fstore.backends import Backends, open_backends
from fstore.errors import FStoreError
from tests.chaos import work as work_module
from tests.chaos.history import History, read_history
from tests.chaos.invariants import OVERWRITTEN, check
from tests.chaos.work import WORKS, Fault, Inbox, Work, arm, converge, mark, register, task, unmark
from tests.chaos.world import KEYS, VIEWS, World

ACTIONS = {"kill": 55, "pause": 22, "fail": 13, "delay": 10}
IN_TRANSACTION = ("registry.begun", "registry.committing", "publish.", "migration.")
"""Where a stopped process keeps others waiting: they run beside it and it goes on soon."""

TIMEOUT_SECONDS = 240
PAUSE_SECONDS = 0.05
READ_SECONDS = 0.025
REPEATED = 0.2
"""The share of scenarios in which everything is done once more at the end, to see that nothing changes."""

ASKED_ALL = 0.25
"""The share of scenarios in which every view is asked for what is due at the end, and not only those that were touched."""

TOUCHED = {"totals": ("totals", "ranks"), "ranks": ("ranks",), "purchases": ("purchases",), "all": VIEWS, "restore": VIEWS}
"""Which views a piece of work can leave unpublished or stale: itself and its dependents. Content is compared of all views."""

Hits = dict[Work, Counter[str]]


class Outcome(NamedTuple):
    """What became of a scenario."""

    failpoint: str
    seed: int
    action: str
    violations: list[str]
    zombie: str | None
    """How a stopped process ended once it went on: ``published``, ``refused`` or ``harmless``."""
    overwrites: int
    """How many violations are that something older stands where something newer was."""


def calibrate(world: World) -> Hits:
    """Return how often each piece of work reaches each failpoint; it also warms everything that can be warm."""
    found: Hits = {}
    for work in WORKS:
        world.restore(work.state)
        if work.variant != "A":
            world.write_source(work.variant)
        history = History(world.place / "calibration", "calibration")
        with work_module.counted_hits() as hits:
            backends = open_backends(world.settings)
            try:
                work_module.do(world, backends, work, "calibration")
            finally:
                backends.close()
        history.close()
        found[work] = hits
    return found


def run_scenario(world: World, hits: Hits, failpoint: str, seed: int) -> Outcome:
    """Run one scenario and return what it found."""
    scenario = _Scenario(world, hits, failpoint, seed)
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(TIMEOUT_SECONDS)
    try:
        scenario.run()
    except Exception:  # noqa: BLE001 (whatever it was, it is a violation)
        scenario.violations.append("the scenario itself failed:\n" + traceback.format_exc())
    finally:
        signal.alarm(0)
        scenario.end()
    overwrites = sum(bool(OVERWRITTEN.search(text)) for text in scenario.violations)
    return Outcome(failpoint, seed, scenario.fault.action, scenario.violations, scenario.zombie, overwrites)


class _Scenario:
    def __init__(self, world: World, hits: Hits, failpoint: str, seed: int) -> None:
        self.world, self.random = world, random.Random(f"{failpoint}#{seed}")
        reaching = [work for work in WORKS if hits[work][failpoint]]
        if not reaching:
            raise LookupError(f"no piece of work reaches failpoint {failpoint!r}: add one to tests/chaos/work.py")
        (self.work,) = self.random.choices(reaching, [work.weight for work in reaching])
        (action,) = self.random.choices(list(ACTIONS), list(ACTIONS.values()))
        if self.work.name == "restore" and action != "fail":  # nobody publishes while an operator restores
            action = "kill"
        hit = self.random.randint(1, hits[self.work][failpoint])
        self.fault = Fault(failpoint, hit, action, self.random.uniform(0.005, 0.1))
        self.variants = {self.work.variant}
        self.children: dict[str, int] = {}
        self.violations: list[str] = []
        self.zombie: str | None = None
        self.path = world.place / "history"
        self._backends: Backends | None = None
        self._opened = contextlib.ExitStack()

    @property
    def views(self) -> tuple[str, ...]:
        """What is brought up to date in the end; creating a registry needs no more than one view to be proved."""
        return ("purchases",) if self.work.name == "create" else VIEWS

    @property
    def backends(self) -> Backends:
        if self._backends is None:
            self._backends = self._opened.enter_context(self.world.opened())
            self._opened.enter_context(self._backends.registry.holding())
        return self._backends

    def _close(self) -> None:
        self._opened.close()
        self._backends = None

    def run(self) -> None:
        world, chance = self.world, self.random.random
        world.restore(self.work.state)
        if self.work.variant != "A":  # a file that is written again is a change, whatever is in it
            world.write_source(self.work.variant)
        self.path.unlink(missing_ok=True)
        (world.place / "inbox").unlink(missing_ok=True)
        self.history = History(self.path, "survivor")
        reads = self.work.name not in ("create", "retain", "restore") and chance() < (
            0.4 if self.fault.action == "pause" else 0.1
        )
        if reads:
            self.fork("reader", self._read)
        self.fork("victim", self._be_victim)
        if not self._wait_until_reached():
            self.violations.append(f"{self.fault.failpoint} hit {self.fault.hit} of {self.work} was never reached")
        mark(self.history)
        self._others()
        if "victim" in self.children:
            self.resume()
        if self.work.name == "create":
            register(world)
        if self.work.name == "restore":
            self._close()
        if self.work.name == "forward":
            self.violations.extend(self._forwarded())
        rounds = converge(world, self.backends, self._due())
        if rounds is None:
            self.violations.append("it did not converge")
        if "reader" in self.children:
            os.kill(self.children["reader"], signal.SIGTERM)
            self.wait("reader")
        again = self.work.views if chance() < REPEATED else None
        restored = self.work.name == "restore"
        found = check(world, self.backends, self.path, self.variants, self.views, again, restored=restored)
        self.violations.extend(found)

    def _due(self) -> tuple[str, ...]:
        """Return the views that scheduled runs are to bring up to date: those that were touched, or all."""
        everything = self.random.random() < ASKED_ALL or len(self.variants) > 1 or self.work.variant != "A"
        return self.views if everything or self.work.name == "create" else TOUCHED.get(self.work.name, ())

    def end(self) -> None:
        """Leave nothing behind."""
        for pid in self.children.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        self.children.clear()
        unmark()
        self._close()
        with contextlib.suppress(AttributeError):
            self.history.close()

    # -- who comes afterwards -----------------------------------------------------------------------------------------

    def _others(self) -> None:
        chance, stands = self.random.random, self.fault.action in ("pause", "delay")
        beside = self.fault.action == "delay" or (
            self.fault.action == "pause"
            and (self.fault.failpoint.startswith(IN_TRANSACTION) or read_history(self.path, "reached")[-1]["locked"])
        )
        steps: list[tuple[str, Callable[[], None]]] = []
        if self.work.name == "restore" or chance() < (0.95 if self.fault.action == "pause" else 0.75):
            steps.append(("retry", lambda: self.task("retry", self.work, "run")))
        if self.work.views:
            if chance() < 0.12:
                first = max(0, self.work.first - 1)
                older = self.work._replace(first=first, last=max(first + 1, self.work.last - 2))
                steps.append(("older", lambda: self.task("older", older, "older")))
            if chance() < 0.15:
                newer = self.work._replace(first=min(3, self.work.first + 2), last=5)
                steps.append(("newer", lambda: self.task("newer", newer, "newer")))
        if chance() < 0.08 and not beside and self.work.name not in ("create", "restore"):
            steps.append(("sweep", lambda: self.task("sweep", Work("sweep", ""), "sweep")))
        if chance() < 0.06 and self.work.variant == "A" and self.work.name not in ("create", "restore"):
            steps.append(("change", self._change_source))
        self.random.shuffle(steps)
        if beside:
            names = [name for name, _ in steps if name != "change"]
            for name, do in steps:
                if name == "change":
                    do()
                elif name == names[-1]:
                    break
                else:
                    self.fork(name, lambda do=do: do())
            if names:
                self.fork(names[-1], dict(steps)[names[-1]])
                time.sleep(PAUSE_SECONDS)
            self.resume()
            for name in names:
                self.wait(name)
            return
        resumed = self.random.randint(0, len(steps)) if stands and self.fault.action == "pause" else None
        if resumed is not None and chance() < 0.7:
            resumed = len(steps)  # mostly after the retry has published
        for number, (_, do) in enumerate(steps):
            if number == resumed:
                self.resume()
            do()

    def task(self, role: str, work: Work, run_id: str) -> None:
        """Do a piece of work in this process as somebody else."""
        forked = os.getpid() != self._parent
        history = History(self.path, role)
        mark(history)
        if work.name == "create":
            register(self.world)
        elif not task(self.world, history, work, run_id, None if forked else self.backends) and role in ("older", "newer"):
            history.add("unfinished")
        history.close()
        mark(self.history)

    def _change_source(self) -> None:
        self.world.write_source("B")
        self.variants.add("B")

    def _forwarded(self) -> Iterator[str]:
        """Forward again what is left; say which events the backend lacks, having been told of every one."""
        task(self.world, self.history, self.work, "again", self.backends)
        events = self.backends.registry.lineage.events(limit=10_000)
        if lost := {event.payload for event in events} - Inbox(self.world.place / "inbox").events():
            yield f"{len(lost)} lineage events never reached the backend"
        if pending := self.backends.registry.lineage_outbox.pending(10):
            yield f"{len(pending)} lineage events are not settled"

    def resume(self) -> None:
        """Let a stopped process go on, and see how it ends."""
        if "victim" not in self.children:
            return
        before = len(read_history(self.path, "published"))
        os.kill(self.children["victim"], signal.SIGCONT)
        status = self.wait("victim")
        if self.fault.action != "pause":
            return
        events = [event for event in read_history(self.path) if event["role"] == "victim"]
        if status != 0:
            self.violations.append(f"the zombie ended with status {status}")
        refused = any(event["what"] == "failed" for event in events)
        published = len(read_history(self.path, "published")) > before
        self.zombie = "refused" if refused else "published" if published else "harmless"

    # -- processes ----------------------------------------------------------------------------------------------------

    _parent = 0

    def fork(self, role: str, do: Callable[[], None]) -> None:
        """Run something in a process of its own, which has nothing open."""
        self._parent = os.getpid()
        pid = os.fork()
        if pid:
            self.children[role] = pid
            return
        try:
            _die_with_parent(self._parent)
            self._backends, self._inherited, self.world.engine = None, self.world.engine, None  # it cannot be used here
            do()
        except BaseException:  # noqa: BLE001 (the process ends here)
            traceback.print_exc()
            os._exit(70)
        finally:
            os._exit(0)

    def wait(self, role: str) -> int:
        """Wait for a process to end and return its status."""
        _, status = os.waitpid(self.children.pop(role), 0)
        return status

    def _be_victim(self) -> None:
        history = History(self.path, "victim")
        mark(history)
        arm(self.world, history, self.fault)
        task(self.world, history, self.work, "run", tries=1)

    def _wait_until_reached(self) -> bool:
        """Wait until the victim is where its fault is."""
        if self.fault.action == "delay":
            while not read_history(self.path, "reached"):
                done, _ = os.waitpid(self.children["victim"], os.WNOHANG)
                if done:
                    del self.children["victim"]
                    break
                time.sleep(0.002)
        else:
            done, status = os.waitpid(self.children["victim"], os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                del self.children["victim"]
        return bool(read_history(self.path, "reached"))

    def _read(self) -> None:
        """Read online all the while, and offline now and then; note what is new."""
        ended = [False]
        signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
        history = History(self.path, "reader")
        rows: dict[str, dict[str, str | None]] = {view: {} for view in VIEWS}
        floors = dict.fromkeys(VIEWS, 0)
        content: dict[str, object] = {}
        turn = 0
        with open_backends(self.world.settings) as backends:
            while not ended[-1]:
                for view, seen in self.world.online(backends).items():
                    now = {key: row.hex() if row is not None else None for key, row in zip(KEYS, seen.rows, strict=True)}
                    floor = seen.floor.sequence if seen.floor else 0
                    new = {key: row for key, row in now.items() if row != rows[view].get(key)}
                    if new or floor != floors[view]:
                        history.add("online", view=view, floor=floor, rows=new)
                    rows[view], floors[view] = now, floor
                if turn % 20 == 0:
                    for view in VIEWS:
                        with contextlib.suppress(FStoreError):
                            found = self.world.content(backends, (view,))[view]
                            if found != content.get(view):
                                history.add("offline", view=view, content=found)
                                content[view] = found
                turn += 1
                time.sleep(READ_SECONDS)


def _too_long(*_: object) -> None:
    raise TimeoutError(f"a scenario took more than {TIMEOUT_SECONDS} s")


_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with_parent(parent: int) -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(71)
