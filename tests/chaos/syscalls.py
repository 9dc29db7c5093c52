"""Fail or kill one materialization at every call of the system that writes, through the fault injection of ``strace``.

One run of a view (tiles, rows, audit, publication, online) is traced first to count its calls that change a store's file:
opens for writing, writes, syncs, renames, links, truncations, removals. Then it is run again once per call and fault:

* ``KILL``: the process is killed as it enters the call;
* ``EIO``: this one call fails, as on a bad block, and the same process tries again where the error says that it may;
* ``ENOSPC``: this call and all later ones of its kind fail in every thread, as on a full disk, until the process has ended.

Then somebody with a sound disk comes: what is visible must be whole, the retry and the maintenance must bring everything up
to date, and every statement of ``tests/chaos/invariants.py`` must hold. The victim is forked from a process that has
everything imported, and traced only from where its work begins, so calls have the same numbers in every run; what it does
in threads is traced as well, and counted per thread. A fault that hit another file than was counted is still a fault.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import random
import re
import shutil
import signal
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from fstore.backends import Backends, open_backends
from fstore.errors import FStoreError
from tests.chaos.history import History
from tests.chaos.invariants import check
from tests.chaos.options import Options
from tests.chaos.tracing import ALL, CALLS, Traced, reason_to_skip, run_traced
from tests.chaos.warm import warm
from tests.chaos.work import Work, converge, mark, task, unmark
from tests.chaos.world import DAYS, World, shared_place

NAME = "syscalls"
VIEW = "totals"
WORK = Work(VIEW, "empty")
FAULTS = {"KILL": "signal=KILL:when={}", "EIO": "error=EIO:when={}", "ENOSPC": "error=ENOSPC:when={}+"}
WHOLE_CALLS = ("openat", "unlink", "unlinkat")
"""Calls that also read or that free room: a full disk fails this one call of them at most."""

TRIES = 3
REPEATED = 5
"""After every so many calls of a kind, everything is done once more at the end, to see that nothing changes."""

_LINE = re.compile(r"^(\d+)\s+(\w+)\((.*)$")
_OPENS_TO_WRITE = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC")


class Point(NamedTuple):
    """A fault at the n-th call of a kind. ``file`` says what was counted there, for people."""

    call: str
    number: int
    fault: str
    file: str = ""

    def __str__(self) -> str:
        return f"{self.call}:{self.number}:{self.fault}"


class Outcome(NamedTuple):
    """What became of a point: ``ended`` is killed, succeeded or the code of the last error."""

    point: Point
    ended: str
    hit: bool
    violations: list[str]


class SmallWorld(World):
    """The world of the kill scenarios with the one state that is needed here, in which nothing is published."""

    def prepare(self) -> None:
        """Make the state ``empty``, and learn what an undisturbed run comes to."""
        self.begin("empty")
        with self.undisturbed() as backends:
            self.run(backends, VIEW, 0, DAYS, "undisturbed")
            self.expected["A"] = self.content(backends, (VIEW,))

    def begin(self, state: str) -> None:
        """Write the project and keep it with empty stores, its views registered."""
        from fstore.runtime.plan_cache import load_plan
        from fstore.runtime.preparation import prepare_steps
        from fstore.settings import load_settings
        from tests.chaos.world import MODULE, VIEWS

        self.root.mkdir(parents=True)
        (self.root / "feature_defs").mkdir()
        (self.root / "pyproject.toml").write_text('[tool.fstore]\nproject = "chaos"\n', encoding="utf-8")
        (self.root / "feature_defs" / "shop.py").write_text(MODULE, encoding="utf-8")
        self.write_source("A")
        self.settings = load_settings(self.root, environ={}, memory_limit="256MB", threads="1")
        with self.undisturbed(create=True) as backends:
            steps = prepare_steps(backends, load_plan(self.settings).project, VIEWS)
            self.steps = {step.view: step for step in steps}
        self.plan = None  # type: ignore[assignment]  (nothing here needs it)
        self._keep(state)


# -- one point ----------------------------------------------------------------------------------------------------------


def count_points(world: World) -> list[Point]:
    """Trace an undisturbed run; return every point of it in the order of the calls."""
    lines, _, status = _run(world)
    if status:
        raise RuntimeError(f"the undisturbed run ended with status {status}")
    return [point for call, number, file in _store_calls(world, lines) for point in _points_at(call, number, file)]


def run_point(world: World, point: Point) -> Outcome:
    """Run the work with one fault, recover, and return what does not hold."""
    path = world.place / "history"
    path.unlink(missing_ok=True)
    violations: list[str] = []
    ended, hit = "nothing", False
    try:
        once = point.fault == "ENOSPC" and point.call in WHOLE_CALLS
        fault = FAULTS["EIO"].replace("EIO", "ENOSPC") if once else FAULTS[point.fault]
        traced = ("-s", "0", "-e", f"trace={point.call}", "-e", f"inject={point.call}:{fault.format(point.number)}")
        lines, events, status = _run(world, traced)
        hit = any("(INJECTED)" in line for line in lines) or status == -signal.SIGKILL
        ended = _ending(events, status)
        path.write_text("".join(json.dumps(event, default=str) + "\n" for event in events), encoding="utf-8")
        violations += _judge(events, status, point)
        violations += _recover(world, path, ended == "succeeded", again=point.number % REPEATED == 0)
    except Exception:  # noqa: BLE001 (whatever it was, it is a violation)
        violations.append("recovering failed:\n" + traceback.format_exc())
    return Outcome(point, ended, hit, violations)


def _points_at(call: str, number: int, file: str) -> Iterator[Point]:
    return (Point(call, number, fault, file) for fault in FAULTS)


def _store_calls(world: World, lines: Sequence[str]) -> list[tuple[str, int, str]]:
    """Return the calls of a trace that change a file below the world's root, with their number among those of a thread."""
    seen: Counter[tuple[str, str]] = Counter()
    found: dict[tuple[str, int], str] = {}
    for line in lines:
        if (matched := _LINE.match(line)) is None or matched[2] not in CALLS:
            continue
        thread, call, rest = matched.groups()
        seen[thread, call] += 1
        if str(world.root) not in rest or (call == "openat" and not _OPENS_TO_WRITE.search(rest)):
            continue
        paths = re.findall(re.escape(str(world.root)) + r"/([^\"<>]*)", rest)
        found.setdefault((call, seen[thread, call]), ", ".join(dict.fromkeys(paths)))
    return [(call, number, file) for (call, number), file in found.items()]


def _run(world: World, what: Sequence[str] = ALL) -> Traced:
    """Do the work from its beginning in a traced process."""
    world.restore(WORK.state)
    return run_traced(partial(_try, world), world.place / "trace", what)


def _try(world: World, history: History) -> None:
    """Do the work as a task that tries again while its error says that it may help."""
    mark(history)
    backends: Backends | None = None
    for _ in range(TRIES):
        try:
            if backends is None:
                backends = open_backends(world.settings)
            world.run(backends, VIEW, 0, DAYS, "run")
        except Exception as error:  # noqa: BLE001 (one that is not of fstore is noted as one without a code)
            code = error.code if isinstance(error, FStoreError) else None
            retryable = error.retryable if isinstance(error, FStoreError) else None
            text = str(error) if code else "".join(traceback.format_exception(error))[-3000:]
            history.add("failed", run="run", error=type(error).__name__, code=code, retryable=retryable, text=text)
            if not retryable:
                break
        else:
            history.add("succeeded", run="run")
            break
    if backends is not None:
        backends.close()


def _ending(events: Sequence[dict[str, object]], status: int) -> str:
    if status == -signal.SIGKILL:
        return "killed"
    last = next((event for event in reversed(events) if event["what"] in ("failed", "succeeded")), {"what": "nothing"})
    return str(last["what"] if last["what"] != "failed" else last["code"] or last["error"])


def _judge(events: Sequence[dict[str, object]], status: int, point: Point) -> Iterator[str]:
    """The process ended as it should, and every error that left it may be retried."""
    if status not in (0, -signal.SIGKILL) or (status and point.fault != "KILL"):
        yield f"the process ended with status {status}"
    for event in events:
        if event["what"] == "failed" and event["retryable"] is not True:
            yield f"it failed with {event['error']} (code {event['code']}, retryable {event['retryable']}): {event['text']}"


def _recover(world: World, path: Path, succeeded: bool, *, again: bool) -> list[str]:
    """Look at what the victim left, retry it, do what scheduled runs and the maintenance do, and check everything."""
    history = History(path, "retry")
    mark(history)
    try:
        with open_backends(world.settings) as backends:
            found = list(_half_visible(world, backends, succeeded))
            if not task(world, history, WORK, "run", backends):
                found.append("the retry failed")
            if converge(world, backends, (VIEW,)) is None:
                found.append("it did not converge")
            return found + check(world, backends, path, {"A"}, (VIEW,), (VIEW,) if again else None)
    finally:
        unmark()
        history.close()


def _half_visible(world: World, backends: Backends, succeeded: bool) -> Iterator[str]:
    """What readers see before anybody recovers is whole; all of it where the victim said so."""
    seen, wanted = world.content(backends, (VIEW,))[VIEW], world.expected["A"][VIEW]
    for end, text in seen.items():
        if text != wanted.get(end):
            yield f"half visible: {VIEW} at {end} is {text}, undisturbed {wanted.get(end)}"
    if succeeded and seen.keys() != wanted.keys():
        yield f"it succeeded, and {sorted(wanted.keys() - seen.keys())} are not published"


# -- many points --------------------------------------------------------------------------------------------------------


class Report(NamedTuple):
    """The outcomes of some points, and how many points there are."""

    outcomes: list[Outcome]
    points: int
    calls: int


def run_points(options: Options, *, sampled: int | None = None) -> Report:
    """Run every point, or a sample by seed of which every call and fault has its share."""
    place = shared_place()
    world = SmallWorld(place / "0")
    worlds: list[World] = [world]
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: shutil.rmtree(place, ignore_errors=True))
        stack.enter_context(warm(place))
        world.prepare()
        points = count_points(world)
        chosen = (
            [point for point in points if str(point) == options.only] if options.only else _sample(points, sampled, options)
        )
        if options.only and not chosen:
            chosen = [Point(*(int(part) if part.isdigit() else part for part in options.only.split(":")))]  # type: ignore[arg-type]
        for number in range(1, max(1, min(options.jobs, len(chosen)))):
            worlds.append(_copied(world, place / str(number)))
        outcomes = _in_processes(worlds, chosen, options)
        return Report(outcomes, len(points), len(points) // len(FAULTS))


def run(options: Options) -> tuple[int, int]:
    """Run the part of ``python -m tests.chaos --long``: every point."""
    if (reason := reason_to_skip()) is not None:
        print(f"{NAME}: skipped: {reason}", flush=True)
        return 0, 0
    report = run_points(options, sampled=options.scenarios)
    by_call = Counter(outcome.point.call for outcome in report.outcomes)
    endings = Counter(outcome.ended for outcome in report.outcomes)
    print(f"{NAME}: {report.calls} calls x {len(FAULTS)} faults = {report.points} points of one materialization")
    print(
        f"{NAME}: run by call {dict(by_call)}; ended {dict(endings)}; {sum(o.hit for o in report.outcomes)} hit", flush=True
    )
    return len(report.outcomes), sum(bool(outcome.violations) for outcome in report.outcomes)


def _copied(world: World, place: Path) -> World:
    from fstore.settings import load_settings

    copy = SmallWorld(place)
    shutil.copytree(world.place, place)
    copy.settings = load_settings(copy.root, environ={}, memory_limit="256MB", threads="1")
    copy.steps, copy.expected, copy.store_ids = world.steps, world.expected, world.store_ids
    return copy


def _sample(points: list[Point], sampled: int | None, options: Options) -> list[Point]:
    """Return points chosen by the seed: the faults in turn, and of each the rare calls as often as the frequent ones."""
    chance = random.Random(options.seed)
    if sampled is None or sampled >= len(points):
        return chance.sample(points, len(points))  # so that stopping early is fair
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in chance.sample(points, len(points)):
        groups.setdefault((point.call, point.fault), []).append(point)
    chosen: list[Point] = []
    while len(chosen) < sampled:
        for fault in FAULTS:
            if calls := [call for (call, other), left in groups.items() if other == fault and left]:
                chosen.append(groups[chance.choice(calls), fault].pop())
    return chosen[:sampled]


def _in_processes(worlds: Sequence[World], points: Sequence[Point], options: Options) -> list[Outcome]:
    """Share points between processes, one per world."""
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    workers = [
        context.Process(target=_work, args=(world, points[number :: len(worlds)], results, options.seconds))
        for number, world in enumerate(worlds)
    ]
    for worker in workers:
        worker.start()
    outcomes: list[Outcome] = []
    running, violations = len(workers), 0
    while running:
        outcome = results.get()
        if outcome is None:
            running -= 1
            continue
        outcomes.append(outcome)
        for text in outcome.violations:
            where = f"{outcome.point} of {outcome.point.file or 'a store file'}"
            options.violation(NAME, str(outcome.point), f"{where}: {text if '  File' in text else text[:600]}")
        violations += bool(outcome.violations)
        options.progress(NAME, len(outcomes), len(points), violations)
    for worker in workers:
        worker.join()
    return outcomes


def _work(world: World, points: Sequence[Point], results: object, seconds: float | None) -> None:
    deadline = time.monotonic() + seconds if seconds is not None else None
    try:
        for point in points:
            if deadline is not None and time.monotonic() > deadline:
                break
            results.put(run_point(world, point))  # type: ignore[attr-defined]
    finally:
        results.put(None)  # type: ignore[attr-defined]
