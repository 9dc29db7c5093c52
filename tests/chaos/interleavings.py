"""All interleavings of two attempts, and random ones of more: ``python -m tests.chaos --parts interleavings``.

Two attempts of eight steps each can be interleaved in 16 over 8 = 12,870 ways. What they do is the product's own code on the
real ledger, files and online store, one step at a time (``tests/chaos/replay.py``). Ways that lead to the same state go on as
one: a step is done once in each distinct state, and the ways that lead to it are counted, so that all of them are covered and
their number is exact. Random interleavings of three to eight writers stop at every single call instead.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from typing import NamedTuple

from fstore.runtime.delivery import apply_outbox
from fstore.runtime.repair import repair_online, sweep
from tests.chaos.market import Market, State
from tests.chaos.options import Options
from tests.chaos.replay import NOW, SLOTS, Task, advance, recording, whose
from tests.chaos.statements import Checker, Seen
from tests.chaos.world import shared_place

STEPS = len(SLOTS)
ALL = math.comb(2 * STEPS, STEPS)
"""How many interleavings of two attempts there are: 12,870."""

ENDS = {"succeeded", "Fenced", "InputsChanged"}
"""How a task may end that nobody swept: it did its work, was overtaken by its own retry, or must be done again."""


class Pair(NamedTuple):
    """Two tasks at the same interval: the view and the run of each."""

    first: tuple[str, str]
    second: tuple[str, str]

    @property
    def views(self) -> tuple[str, ...]:
        """The views that change."""
        return tuple(dict.fromkeys((self.first[0], self.second[0])))


PAIRS = {
    "retry": Pair(("prices", "run"), ("prices", "run")),
    "backfills": Pair(("prices", "run"), ("prices", "other")),
    "upstream": Pair(("prices", "run"), ("ranks", "run")),
    "events": Pair(("visits", "run"), ("visits", "other")),
}
"""A retry beside its zombie; backfills of two runs, of a snapshot view and of an event view; upstream beside dependent."""


class Node(NamedTuple):
    """A state of everything, and one way that leads to it."""

    state: State
    online: dict[str, Seen]
    tasks: tuple[Task, ...]
    way: str


class Explored(NamedTuple):
    """What exploring a pair came to: interleavings, distinct states, steps done, and violations with a way to each."""

    ways: int
    states: int
    steps: int
    ends: dict[str, int]
    violations: list[tuple[str, str]]


@contextlib.contextmanager
def opened_market(*, recorded: bool = True) -> Iterator[Market]:
    """Make a market, with its calls recorded if asked for, and delete it afterwards."""
    place = shared_place()
    try:
        with contextlib.closing(Market(place / "market")) as market, recording() if recorded else contextlib.nullcontext():
            yield market
    finally:
        shutil.rmtree(place, ignore_errors=True)


def owners_of(market: Market, tasks: Sequence[Task]) -> dict[int, int]:
    """Return who made the rows of each attempt."""
    return dict(itertools.chain.from_iterable(whose(market.backends, task).items() for task in tasks))


# -- all of two -------------------------------------------------------------------------------------------------------


def explore(market: Market, pair: Pair) -> Explored:
    """Go through all interleavings of a pair, from state to state."""
    checker = Checker(market, pair.views)
    market.put(market.base)
    works = [market.work(*pair.first), market.work(*pair.second)]
    start = Node(market.base, checker.online_of_all(), (Task(1), Task(2)), "")
    level: dict[object, tuple[Node, int]] = {"": (start, 1)}
    violations: list[tuple[str, str]] = []
    checked: set[str] = set()
    states, steps = 1, 0
    for _ in range(2 * STEPS):
        after: dict[object, tuple[Node, int]] = {}
        for node, ways in level.values():
            for number, task in enumerate(node.tasks):
                if task.slot == STEPS:
                    continue
                found = _stepped(market, checker, node, number, works[number], violations, checked)
                steps += task.outcome is None
                key = (found.state.digest, *(each.digest for each in found.tasks))
                known = after.get(key)
                after[key] = (found, ways) if known is None else (known[0], known[1] + ways)
        level = after
        states += len(level)
    ends: dict[str, int] = {}
    for node, ways in level.values():
        name = ", ".join(task.outcome or "unfinished" for task in node.tasks)
        ends[name] = ends.get(name, 0) + ways
        violations.extend((node.way, text) for text in _ended(market, checker, node))
    return Explored(sum(ways for _, ways in level.values()), states, steps, ends, violations)


def _stepped(market, checker, node, number, work, violations, checked) -> Node:  # type: ignore[no-untyped-def]
    task, way = node.tasks[number], node.way + "AB"[number]
    if task.outcome is not None:
        moved = (*node.tasks[:number], advance(task, work), *node.tasks[number + 1 :])
        return node._replace(tasks=moved, way=way)
    market.put(node.state)
    found = _done(market, checker, node, number, work, way, fine=False)
    violations.extend((way, text) for text in found[1])
    if found[0].state.digest not in checked:
        checked.add(found[0].state.digest)
        violations.extend((way, text) for text in checker.state(found[0].state, owners_of(market, found[0].tasks)))
    return found[0]


def _done(market, checker, node, number, work, way, *, fine) -> tuple[Node, list[str]]:  # type: ignore[no-untyped-def]
    """Let one task take a step in the state that the market is in."""
    task = node.tasks[number]
    moved = advance(task, work, fine=fine)
    state = market.take()
    tasks = (*node.tasks[:number], moved, *node.tasks[number + 1 :])
    if state.digest == node.state.digest:
        return Node(node.state, node.online, tasks, way), []
    online = checker.online_of_all()
    return Node(state, online, tasks, way), list(checker.step(node.state, state, node.online, online))


def _ended(market: Market, checker: Checker, node: Node) -> Iterator[str]:
    """Check a state in which both have taken all their steps."""
    market.put(node.state)
    for task in node.tasks:
        if task.outcome not in ENDS:
            yield f"a task ended as {task.outcome}"
    if not any(task.outcome == "succeeded" for task in node.tasks):
        yield "neither of the two succeeded"
    yield from checker.end(node.state, owners_of(market, node.tasks))


def follow(market: Market, pair: Pair, way: str) -> list[str]:
    """Go one way, such as ``AAAABBBBBBBBAAAA``, to its end, and return what was broken on it."""
    checker = Checker(market, pair.views)
    market.put(market.base)
    node = Node(market.base, checker.online_of_all(), (Task(1), Task(2)), "")
    works = [market.work(*pair.first), market.work(*pair.second)]
    violations: list[tuple[str, str]] = []
    for letter in way:
        if node.tasks["AB".index(letter)].outcome is None:
            node = _stepped(market, checker, node, "AB".index(letter), works["AB".index(letter)], violations, set())
        if violations:
            return [text for _, text in violations]
    return list(_ended(market, checker, node))


# -- some of many -----------------------------------------------------------------------------------------------------


class Plan(NamedTuple):
    """Who writes (view and run; ``-`` maintains), and whose turn it is; afterwards they end one after another."""

    writers: tuple[tuple[str, str], ...]
    turns: tuple[int, ...]


def planned(seed: int) -> Plan:
    """Return the random plan of a seed."""
    chance = random.Random(seed)
    views = ["prices", "prices", "prices", "visits", "visits", "ranks", "ranks", "-"]
    writers = tuple((chance.choice(views), chance.choice(("run", "run", "other"))) for _ in range(chance.randint(3, 8)))
    turns: list[int] = []
    while len(turns) < 12 * len(writers):
        turns.extend([chance.randrange(len(writers))] * chance.randint(1, 14))
    return Plan(writers, tuple(turns))


def play(market: Market, plan: Plan) -> list[str]:
    """Let the writers of a plan take turns, each for one recorded call, and return what was broken."""
    checker = Checker(market)
    market.put(market.base)
    works = [market.work(*writer) if writer[0] != "-" else (lambda: _maintain(market)) for writer in plan.writers]
    node = Node(market.base, checker.online_of_all(), tuple(Task(number + 1) for number in range(len(works))), "")
    swept = any(view == "-" for view, _ in plan.writers)
    turns = itertools.chain(plan.turns, *(itertools.repeat(number, 400) for number in range(len(works))))
    for number in turns:
        if node.tasks[number].outcome is not None:
            continue
        before = node.state
        node, broken = _done(market, checker, node, number, works[number], "", fine=True)
        owners = owners_of(market, node.tasks)
        if node.state is not before:
            broken += checker.state(node.state, owners)
        if broken:
            return broken
    allowed = ENDS | ({"AttemptUnknown"} if swept else set())
    if odd := [task.outcome for task in node.tasks if task.outcome not in allowed]:
        return [f"tasks ended as {odd}"]
    apply_outbox(market.backends)  # of those that ended in between, as the maintenance DAG does
    repair_online(market.backends)
    return list(checker.end(market.take(), owners_of(market, node.tasks)))


def _maintain(market: Market) -> None:
    apply_outbox(market.backends)
    repair_online(market.backends)
    sweep(market.backends, NOW + timedelta(seconds=1), after=timedelta(0))


def shrunk(market: Market, plan: Plan, tries: int = 60) -> Plan:
    """Return a plan of fewer writers and turns that breaks something as well, as small as some tries find it."""
    left = iter(range(tries))
    while (
        smaller := next((each for each in _smaller(plan) if next(left, None) is not None and play(market, each)), None)
    ) is not None:
        plan = smaller
    return plan


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Return the plan without each of its writers, and without parts of its turns, large ones first."""
    for gone in range(len(plan.writers) if len(plan.writers) > 1 else 0):
        writers = tuple(writer for number, writer in enumerate(plan.writers) if number != gone)
        yield Plan(writers, tuple(turn - (turn > gone) for turn in plan.turns if turn != gone))
    size = len(plan.turns)
    while size:
        for start in range(0, len(plan.turns), size):
            yield Plan(plan.writers, plan.turns[:start] + plan.turns[start + size :])
        size //= 2


# -- the part of the harness ------------------------------------------------------------------------------------------


def run(options: Options) -> tuple[int, int]:
    """Explore every pair, then play random plans; return how many interleavings there were, and how many were broken."""
    if options.only:
        return _only(options)
    total = broken = 0
    with ProcessPoolExecutor(options.jobs) as pool:
        for name, found in zip(PAIRS, pool.map(_explore_named, PAIRS), strict=True):
            ends = "; ".join(f"{count:,} {end}" for end, count in sorted(found.ends.items()))
            print(f"  {name}: {found.ways:,} interleavings, {found.states:,} states, {found.steps:,} steps ({ends})")
            for way, text in found.violations:
                options.violation("interleavings", f"{name}#{way}", text)
            total, broken = total + found.ways, broken + len(found.violations)
            if found.ways != ALL:
                options.violation("interleavings", name, f"{found.ways:,} of {ALL:,} interleavings were covered")
                broken += 1
            options.progress("interleavings", total, None, broken)
        count = options.scenarios or (2000 if options.long else 30)
        deadline = None if options.seconds is None else time.monotonic() + options.seconds
        share = -(-count // options.jobs)
        seeds = [range(options.seed + at, options.seed + min(count, at + share)) for at in range(0, count, share)]
        played = 0
        for part, failures in pool.map(_play_seeds, seeds, [deadline] * len(seeds)):
            played += part
            for seed, text in failures:
                options.violation("interleavings", f"random#{seed}", text)
            broken += len(failures)
    print(f"  random: {played:,} interleavings of 3 to 8 writers")
    return total + played, broken


def _only(options: Options) -> tuple[int, int]:
    kind, _, what = str(options.only).partition("#")
    with opened_market() as market:
        broken = play(market, planned(int(what))) if kind == "random" else follow(market, PAIRS[kind], what)
    for text in broken:
        options.violation("interleavings", str(options.only), text)
    return 1, len(broken)


def _explore_named(name: str) -> Explored:
    with opened_market() as market:
        return explore(market, PAIRS[name])


def _play_seeds(seeds: Sequence[int], deadline: float | None = None) -> tuple[int, list[tuple[int, str]]]:
    failures: list[tuple[int, str]] = []
    played = 0
    with opened_market() as market:
        for seed in seeds:
            if deadline is not None and time.monotonic() > deadline:
                break
            played += 1
            if broken := play(market, planned(seed)):
                plan = shrunk(market, planned(seed))
                failures.append((seed, f"{broken[0]}; as small as it gets: {plan}"))
    return played, failures
