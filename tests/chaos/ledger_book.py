"""What a ledger has to know, written down naively from DESIGN §5: attempts, batches and the log, by day.

Shares no code with the ledger. Days are numbers; an interval is a day.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from fstore.errors import AttemptUnknown, Fenced, FStoreError, InputsChanged

UPSTREAM, DEPENDENT, EVENTS = "purchases_of_user", "profile", "visits"
VIEWS = (UPSTREAM, DEPENDENT, EVENTS)
ONLINE = (UPSTREAM, EVENTS)


@dataclass(kw_only=True)
class Try:
    """An attempt. Outcomes are by day."""

    id: int
    view: str
    generation: int
    run: str
    batch: int
    fingerprint: str
    pins: list[tuple[int, int]]
    outcomes: dict[int, str]
    filed: bool = False
    state: str = "begun"

    def days(self, *outcomes: str) -> list[int]:
        return [day for day, outcome in sorted(self.outcomes.items()) if outcome in outcomes]

    @property
    def settled(self) -> bool:
        return bool(self.days("published", "overtaken"))

    @property
    def given_up(self) -> bool:
        return self.state in ("abandoned", "swept")


@dataclass(kw_only=True)
class Bundle:
    """A batch."""

    id: int
    view: str
    generation: int
    run: str
    days: frozenset[int]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A publication of the days from ``first`` to before ``last``."""

    sequence: int
    view: str
    generation: int
    first: int
    last: int
    attempt: int


@dataclass
class Book:
    """What the ledger has to know, and the rules by which it changes."""

    tries: list[Try] = field(default_factory=list)
    bundles: list[Bundle] = field(default_factory=list)
    log: list[Entry] = field(default_factory=list)
    live: dict[str, int] = field(default_factory=lambda: dict.fromkeys(VIEWS, 1))
    fingerprints: dict[str, str] = field(default_factory=dict)
    outbox: list[Entry] = field(default_factory=list)
    events: set[str] = field(default_factory=set)

    def heads(self, view: str, generation: int | None = None, upto: int | None = None) -> dict[int, Entry]:
        """The head of every day: the publication of the highest sequence."""
        number = self.live[view] if generation is None else generation
        found: dict[int, Entry] = {}
        for entry in self.log:
            if entry.view == view and entry.generation == number and (upto is None or entry.sequence <= upto):
                for day in range(entry.first, entry.last):
                    if day not in found or entry.sequence > found[day].sequence:
                        found[day] = entry
        return found

    def fenced(self, batch: int, wanted: Iterable[int]) -> bool:
        """Whether a later batch of the same run and view was asked for some of the days."""
        mine = next(bundle for bundle in self.bundles if bundle.id == batch)
        return any(
            other.id > batch and (other.view, other.run) == (mine.view, mine.run) and other.days & set(wanted)
            for other in self.bundles
        )

    def changed(self, attempt: Try) -> set[int]:
        """The days on which the upstream view's head is another one than the attempt read."""
        now = self.heads(UPSTREAM)
        return {day for day, sequence in attempt.pins if day not in now or now[day].sequence != sequence}

    def refusal(self, attempt: Try, wanted: Collection[int] | None) -> type[FStoreError] | None:
        """The error with which publishing has to be refused."""
        asked = attempt.outcomes if wanted is None else wanted
        if attempt.given_up or any(attempt.outcomes.get(day, "pending") == "pending" for day in asked):
            return AttemptUnknown
        passed = [day for day in asked if attempt.outcomes[day] == "passed"]
        if not passed:
            settled = any(attempt.outcomes[day] in ("published", "overtaken") for day in asked)
            return None if settled else AttemptUnknown
        if self.fenced(attempt.batch, passed):
            return Fenced
        return InputsChanged if self.fresh(attempt, passed) and self.changed(attempt) else None

    def fresh(self, attempt: Try, passed: Iterable[int]) -> list[int]:
        """The days whose head is no later attempt's."""
        heads = self.heads(attempt.view, attempt.generation)
        return sorted(day for day in passed if day not in heads or heads[day].attempt < attempt.id)

    def publish(self, attempt: Try, wanted: Collection[int] | None) -> None:
        """Publish what passed."""
        passed = [day for day in attempt.days("passed") if wanted is None or day in wanted]
        fresh = self.fresh(attempt, passed)
        for day in passed:
            attempt.outcomes[day] = "published" if day in fresh else "overtaken"
        appended = [
            Entry(sequence=len(self.log) + number, view=attempt.view, generation=attempt.generation, first=first,
                  last=last, attempt=attempt.id)
            for number, (first, last) in enumerate(stretches(fresh), start=1)
        ]  # fmt: skip
        self.log += appended
        newest = max((day for day in self.heads(attempt.view, attempt.generation)), default=-1) + 1
        if attempt.view in ONLINE:
            self.outbox += [entry for entry in appended if attempt.view == EVENTS or entry.last == newest]
        if passed and not attempt.days("pending", "passed"):
            attempt.state = "published"
        self.events.add(f"run-{attempt.id}")

    def blockers(self, view: str) -> dict[int, Try]:
        """The blocked days, and the attempt whose verdict it is: the newest one that has a verdict."""
        newest: dict[int, Try] = {}
        for attempt in self.tries:
            if (attempt.view, attempt.generation) == (view, self.live[view]):
                for day, outcome in attempt.outcomes.items():
                    if outcome != "pending" and (day not in newest or newest[day].id < attempt.id):
                        newest[day] = attempt
        return {day: attempt for day, attempt in newest.items() if attempt.outcomes[day] == "blocked"}

    def stale(self, view: str) -> list[int]:
        """The days whose head read what was republished since."""
        found = {attempt.id: attempt for attempt in self.tries}
        return sorted(day for day, head in self.heads(view).items() if day in self.changed(found[head.attempt]))

    def finished(self, bundle: Bundle) -> list[int]:
        """The attempts that a batch need not repeat, in the order of their days."""
        chosen: list[Try] = []
        for attempt in sorted(self.tries, key=lambda attempt: -attempt.id):
            whole = set(range(min(attempt.outcomes), max(attempt.outcomes) + 1))
            taken = {day for other in chosen for day in range(min(other.outcomes), max(other.outcomes) + 1)}
            if (
                (attempt.view, attempt.run, attempt.generation) == (bundle.view, bundle.run, bundle.generation)
                and attempt.batch < bundle.id
                and attempt.fingerprint == self.fingerprints[bundle.view]
                and attempt.state in ("begun", "validated", "published")
                and attempt.filed
                and not attempt.days("blocked")
                and not self.changed(attempt)
                and whole <= bundle.days
                and not whole & taken
            ):
                chosen.append(attempt)
        return [attempt.id for attempt in sorted(chosen, key=lambda attempt: min(attempt.outcomes))]


def stretches(chosen: Iterable[int]) -> list[tuple[int, int]]:
    """Days as ranges without a gap."""
    found: list[tuple[int, int]] = []
    for day in sorted(chosen):
        if found and found[-1][1] == day:
            found[-1] = (found[-1][0], day + 1)
        else:
            found.append((day, day + 1))
    return found
