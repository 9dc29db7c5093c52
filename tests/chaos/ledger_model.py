"""The ledger against a naive model of it, day by day: ``LedgerModel`` takes random steps and compares all answers.

The model is a ``Book`` (``ledger_book.py``), which shares no code with the ledger. Any write may be cut off before its COMMIT, which must leave nothing, or right after it, which must leave all.
"""

from __future__ import annotations

import itertools
import tempfile
import uuid
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from fstore import failpoints
from fstore.errors import AttemptUnknown, DefinitionChanged, Fenced, InjectedFault, InputsChanged, PublishError
from fstore.interval import Interval
from fstore.plan.steps import Plan, Step
from fstore.registry.records import CheckResult, Head, Pin, Published, Verdict
from fstore.registry.registry import Registry, create_registry
from fstore.types import DataFile
from tests.chaos.ledger_book import DEPENDENT, EVENTS, UPSTREAM, VIEWS, Book, Bundle, Entry, Try, stretches
from tests.chaos.options import Options
from tests.chaos.stateful import Counted, event, machine_at, run_part
from tests.registry.examples import USER, aggregate, dependent

DAYS = 6
FIRST = datetime(2026, 1, 1, tzinfo=UTC)

days = st.sets(st.integers(0, DAYS - 1), min_size=1)
views = st.sampled_from((UPSTREAM, UPSTREAM, DEPENDENT, DEPENDENT, EVENTS))
runs = st.sampled_from(("scheduled", "backfill"))
picks = st.integers(0, 9)
some = st.sets(st.integers(0, DAYS - 1), max_size=DAYS)
stops = st.sampled_from(
    (None,) * 12
    + ("registry.begun", "publish.locked", "publish.checked", "publish.appended", "publish.enqueued",
       "registry.committing", "registry.committed", "registry.committed")
)  # fmt: skip


# -- the machine ------------------------------------------------------------------------------------------------------


def instant(day: int) -> datetime:
    return FIRST + timedelta(days=day)


def intervals(chosen: Iterable[int]) -> list[Interval]:
    return [Interval(instant(day), instant(day + 1)) for day in sorted(chosen)]


def numbers(found: Iterable[Interval]) -> list[int]:
    assert all(interval.end - interval.start == timedelta(days=1) for interval in found)
    return [(interval.start - FIRST).days for interval in found]


class LedgerModel(Counted):
    """Random steps at a ledger; ``url`` is that of a registry, in which every run has a project of its own."""

    url = ""

    @initialize()
    def begin_project(self) -> None:
        self.book = Book()
        self.registry: Registry = create_registry(self.url, f"p{uuid.uuid4().hex}")
        events = aggregate(EVENTS, kind="event")
        self.steps: dict[str, Step] = {UPSTREAM: aggregate(), DEPENDENT: dependent(), EVENTS: events}
        self.register()
        self.answers: dict[tuple[str, int, int | datetime], list[Head]] = {}
        self.results: dict[int, Published] = {}

    def register(self, *rebuild: str) -> None:
        plan = Plan(project=self.registry.project, entities=(USER,), steps=tuple(self.steps.values()))
        self.registry.register(plan, rebuild=rebuild)
        self.book.fingerprints = {view: step.fingerprint for view, step in self.steps.items()}

    def teardown(self) -> None:
        if hasattr(self, "registry"):
            self.everything_agrees()
            self.registry.close()

    # -- parts ----------------------------------------------------------------------------------------------------------

    def do(self, call: Callable[[], Any], refused: type[Exception] | None, stop: str | None) -> tuple[bool, Any]:
        """Call, cut off where asked, and return whether it took place, and its result (None: it was not heard)."""
        if stop:
            failpoints.arm(stop, failpoints.fail)
        try:
            result = call()
        except InjectedFault:
            assert stop != "registry.committed" or refused is None, f"committed instead of {refused}"
            return stop == "registry.committed", None
        except (Fenced, InputsChanged, AttemptUnknown, PublishError, DefinitionChanged) as error:
            if refused is not type(error):
                raise AssertionError(f"expected {refused}, and it raised {error!r}") from error
            return False, None
        finally:
            failpoints.disarm()
        assert refused is None, f"expected {refused}, and it took place"
        return True, result

    def picked(self, pick: int) -> Try:
        return self.book.tries[-1 - pick % len(self.book.tries)]

    @property
    def ledger(self) -> Any:
        return self.registry.ledger

    # -- batches and attempts -------------------------------------------------------------------------------------------

    @rule(view=views, chosen=days, run=runs)
    def begin_batch(self, view: str, chosen: set[int], run: str) -> None:
        batch = self.ledger.begin_batch(self.steps[view], intervals(chosen), run)
        assert all(batch.id > other.id for other in self.book.bundles)
        assert [((r.start - FIRST).days, (r.end - FIRST).days) for r in batch.ranges] == stretches(chosen)
        assert (batch.view, batch.run_id, batch.generation, batch.attempts) == (view, run, self.book.live[view], ())
        self.book.bundles.append(
            Bundle(id=batch.id, view=view, generation=batch.generation, run=run, days=frozenset(chosen))
        )

    @rule(view=views, chosen=days, run=runs, stop=stops)
    def begin(self, view: str, chosen: set[int], run: str, stop: str | None) -> None:
        self._begin(view, chosen, run, None, stop)

    @precondition(lambda self: self.book.bundles)
    @rule(pick=picks, chosen=days, stop=stops)
    def begin_in_batch(self, pick: int, chosen: set[int], stop: str | None) -> None:
        bundle = self.book.bundles[-1 - pick % len(self.book.bundles)]
        self._begin(bundle.view, (chosen & bundle.days) or bundle.days, bundle.run, bundle, stop)

    def _begin(self, view: str, chosen: Iterable[int], run: str, bundle: Bundle | None, stop: str | None) -> None:
        heads = self.book.heads(UPSTREAM)
        chosen = [day for day in sorted(chosen) if view != DEPENDENT or day in heads]
        if not chosen:
            return
        pins = [(day, heads[day].sequence) for day in chosen] if view == DEPENDENT else []
        refused = Fenced if bundle is not None and self.book.fenced(bundle.id, chosen) else None
        given = [Pin(view=UPSTREAM, start=instant(day), end=instant(day + 1), sequence=number) for day, number in pins]
        happened, attempt = self.do(
            lambda: self.ledger.begin(
                self.steps[view], intervals(chosen), run, given, batch=None if bundle is None else bundle.id
            ),
            refused, stop,
        )  # fmt: skip
        if not happened:
            return
        attempt = attempt or self.ledger.attempt(self.ledger.history(limit=1)[0].id)
        assert all(attempt.id > other.id for other in self.book.tries), "epochs grow"
        if bundle is None:
            assert all(attempt.batch > other.id for other in self.book.bundles), "batches grow"
            bundle = Bundle(id=attempt.batch, view=view, generation=attempt.generation, run=run, days=frozenset(chosen))
            self.book.bundles.append(bundle)
        self.book.tries.append(Try(
            id=attempt.id, view=view, generation=self.book.live[view], run=run, batch=bundle.id, pins=pins,
            fingerprint=self.steps[view].fingerprint, outcomes=dict.fromkeys(chosen, "pending"),
        ))  # fmt: skip

    @rule(view=views)
    def begin_with_an_old_definition(self, view: str) -> None:
        old = msgspec.structs.replace(self.steps[view], fingerprint="old")
        self.do(lambda: self.ledger.begin(old, intervals({0}), "scheduled"), DefinitionChanged, None)

    @precondition(lambda self: self.book.tries)
    @rule(pick=picks, stop=stops)
    def record_files(self, pick: int, stop: str | None) -> None:
        attempt = self.picked(pick)
        file = DataFile(path=f"{attempt.id}", rows=1, bytes=1, start=instant(0), end=instant(DAYS), schema_id="s")
        refused = AttemptUnknown if attempt.given_up else PublishError if attempt.settled else None
        if self.do(lambda: self.ledger.record_files(attempt.id, [file]), refused, stop)[0]:
            attempt.filed = True

    @precondition(lambda self: self.book.tries)
    @rule(pick=picks, blocked=some, left_out=some, whole=st.booleans(), stop=stops)
    def record_verdicts(self, pick: int, blocked: set[int], left_out: set[int], whole: bool, stop: str | None) -> None:
        attempt = self.picked(pick)
        judged = [day for day in attempt.outcomes if whole or day not in left_out]
        verdicts = [
            Verdict(
                interval=intervals([day])[0], passed=day not in blocked, rows=1,
                results=(CheckResult(label="c", kind="not_null", severity="error", violations=int(day in blocked)),),
            )
            for day in judged
        ]  # fmt: skip
        refused = AttemptUnknown if attempt.given_up else PublishError if attempt.settled else None
        if self.do(lambda: self.ledger.record_verdicts(attempt.id, verdicts), refused, stop)[0]:
            attempt.outcomes.update({day: "blocked" if day in blocked else "passed" for day in judged})
            if not attempt.days("pending"):
                attempt.state = "validated"

    @precondition(lambda self: self.book.tries)
    @rule(pick=picks, part=st.none() | days, stop=stops)
    def publish(self, pick: int, part: set[int] | None, stop: str | None) -> None:
        attempt = self.picked(pick)
        wanted = None if part is None else (part & set(attempt.outcomes)) or None
        before = len(self.book.log)
        happened, result = self.do(
            lambda: self.ledger.publish(
                attempt.id, intervals=None if wanted is None else intervals(wanted),
                lineage_events=lambda _: [event(f"run-{attempt.id}")],
            ),
            self.book.refusal(attempt, wanted), stop,
        )  # fmt: skip
        if not happened:
            return
        self.book.publish(attempt, wanted)
        if result is None:
            return
        asked = set(attempt.outcomes) if wanted is None else wanted
        assert numbers(result.overtaken) == [day for day in attempt.days("overtaken") if day in asked]
        assert numbers(result.blocked) == [day for day in attempt.days("blocked") if day in asked]
        shown = [e for e in self.book.log if e.attempt == attempt.id and asked & set(range(e.first, e.last))]
        assert [p.sequence for p in result.publications] == [entry.sequence for entry in shown]
        if wanted is None:
            assert self.results.setdefault(attempt.id, result) == result, "repeating it gives another answer"
        for entry in self.book.log[before:]:
            key = (entry.view, entry.generation, entry.sequence)
            self.answers[key] = self.ledger.heads(entry.view, generation=entry.generation, as_of=entry.sequence)

    @precondition(lambda self: self.book.tries)
    @rule(pick=picks, blocked=some, stop=stops)
    def run_to_the_end(self, pick: int, blocked: set[int], stop: str | None) -> None:
        """The usual way of an attempt, so that long histories come about."""
        if not self.picked(pick).settled:
            self.record_files(pick=pick, stop=None)
            self.record_verdicts(pick=pick, blocked=blocked & {0, 1}, left_out=set(), whole=True, stop=None)
        self.publish(pick=pick, part=None, stop=stop)

    @rule(view=views, chosen=days, asked=st.lists(runs, min_size=1, max_size=2), backwards=st.booleans())
    def run_whole(self, view: str, chosen: set[int], asked: list[str], backwards: bool) -> None:
        """Begin one attempt or two and then publish: zombies, overtaken ones, and republished upstreams come about."""
        before = len(self.book.tries)
        for run in asked:
            self._begin(view, chosen, run, None, None)
        begun = range(len(self.book.tries) - before)
        for pick in begun if backwards else reversed(begun):
            self.run_to_the_end(pick=pick, blocked=set(), stop=None)

    @precondition(lambda self: self.book.tries)
    @rule(pick=picks, stop=stops)
    def fail(self, pick: int, stop: str | None) -> None:
        attempt = self.picked(pick)
        if self.do(lambda: self.ledger.fail(attempt.id, "no"), None, stop)[0]:
            attempt.state = attempt.state if attempt.state == "published" or attempt.given_up else "failed"

    @precondition(lambda self: len(self.book.tries) > 4)
    @rule(mark=st.booleans(), stop=stops)
    def sweep(self, mark: bool, stop: str | None) -> None:
        """Give up what is not published and is not one of the last two, as the sweep does."""
        begun = self.ledger.attempt(self.book.tries[-2].id).created_at
        dead = [t for t in self.book.tries if t.state not in ("published", "swept") and not t.settled]
        dead = [t for t in dead if self.ledger.attempt(t.id).created_at < begun]
        happened, found = self.do(lambda: self.ledger.abandon(begun), None, stop)
        if happened:
            assert found is None or [each.id for each in found] == [t.id for t in dead]
            for attempt in dead:
                attempt.state = "abandoned"
            if mark:
                self.ledger.mark_swept([t.id for t in self.book.tries if t in dead or t.settled])
                for attempt in dead:
                    attempt.state = "swept"

    @precondition(lambda self: self.book.bundles)
    @rule(pick=picks, taken=st.booleans(), stop=stops)
    def take_over(self, pick: int, taken: bool, stop: str | None) -> None:
        bundle = self.book.bundles[-1 - pick % len(self.book.bundles)]
        batch = self.ledger.batch(bundle.id)
        found = [attempt.id for attempt in self.ledger.finished(self.steps[bundle.view], batch)]
        assert found == self.book.finished(bundle)
        if not taken or not found:
            return
        refused = Fenced if self.book.fenced(bundle.id, bundle.days) else None
        if self.do(lambda: self.ledger.take_over(batch, found), refused, stop)[0]:
            for attempt in self.book.tries:
                if attempt.id in found:
                    attempt.batch = bundle.id

    # -- definitions and the outbox -------------------------------------------------------------------------------------

    @rule(view=views, rebuild=st.booleans())
    def redefine(self, view: str, rebuild: bool) -> None:
        self.steps[view] = msgspec.structs.replace(self.steps[view], fingerprint=uuid.uuid4().hex)
        self.register(*[view] * rebuild)
        number = self.registry.view(view).generation
        if rebuild:
            used = [t.generation for t in self.book.tries if t.view == view] + [self.book.live[view]]
            assert number > max(used), "a new generation is empty"
        else:
            assert number == self.book.live[view]
        self.book.live[view] = number

    @precondition(lambda self: self.book.outbox)
    @rule(pick=picks, stop=stops)
    def settle(self, pick: int, stop: str | None) -> None:
        entry = self.book.outbox[-1 - pick % len(self.book.outbox)]
        ids = [e.id for e in self.registry.outbox.pending(limit=10_000) if e.payload.sequence == entry.sequence]
        if self.do(lambda: self.registry.outbox.done(ids), None, stop)[0]:
            self.book.outbox.remove(entry)

    # -- what must hold -------------------------------------------------------------------------------------------------

    @invariant()
    def the_log_agrees(self) -> None:
        found = self.ledger.publications(limit=100_000)
        assert [entry.sequence for entry in found] == list(range(1, len(found) + 1)), "sequences have a gap"
        assert [
            (e.sequence, e.view, e.generation, e.start, e.end, e.attempt) for e in found
        ] == [
            (e.sequence, e.view, e.generation, instant(e.first), instant(e.last), e.attempt) for e in self.book.log
        ]  # fmt: skip
        assert all(left.published_at <= right.published_at for left, right in itertools.pairwise(found))
        assert self.registry.state().sequence == len(found)
        waiting = [entry.payload for entry in self.registry.outbox.pending(limit=100_000)]
        assert [(w.view, w.generation, w.sequence, w.start, w.end, w.attempt) for w in waiting] == [
            (e.view, e.generation, e.sequence, instant(e.first), instant(e.last), e.attempt) for e in self.book.outbox
        ]
        assert {row.run_id for row in self.registry.lineage.events(limit=100_000)} == self.book.events

    @invariant()
    def a_view_agrees(self) -> None:
        self.look(VIEWS[type(self).taken % 3])

    def look(self, view: str) -> None:
        """Compare every answer about a view."""
        ledger, book = self.ledger, self.book
        heads = book.heads(view)
        self.same_heads(ledger.heads(view), heads)
        part = {day: entry for day, entry in heads.items() if 1 <= day < 4}
        self.same_heads(ledger.heads(view, start=instant(1), end=instant(4)), part)
        newest = ledger.newest(view)
        assert (newest and (newest.end, newest.sequence)) == (
            (instant(max(heads) + 1), heads[max(heads)].sequence) if heads else None
        )
        everything = intervals(range(DAYS))
        assert numbers(ledger.unpublished(view, everything)) == [day for day in range(DAYS) if day not in heads]
        assert numbers(ledger.stale(view)) == book.stale(view)
        assert ledger.damaged(view) == []
        blockers = book.blockers(view)
        assert numbers(ledger.blocked(view)) == sorted(blockers)
        again = [
            day for day, attempt in blockers.items()
            if attempt.fingerprint == book.fingerprints[view] and day not in book.changed(attempt)
        ]  # fmt: skip
        assert numbers(ledger.blocked_again(self.steps[view])) == sorted(again)

    @precondition(lambda self: self.book.log)
    @rule(pick=picks, view=views)
    def look_back(self, pick: int, view: str) -> None:
        """Ask for a view as it was."""
        upto = 1 + pick % len(self.book.log)
        for generation in range(1, self.book.live[view] + 1):
            expected = self.book.heads(view, generation, upto)
            self.same_heads(self.ledger.heads(view, generation=generation, as_of=upto), expected)
        entry = next(p for p in self.ledger.publications(limit=100_000) if p.sequence == upto)
        last = max(p.sequence for p in self.ledger.publications(limit=100_000) if p.published_at <= entry.published_at)
        found = self.ledger.heads(view, as_of=entry.published_at)
        self.same_heads(found, self.book.heads(view, upto=last))

    def everything_agrees(self) -> None:
        """Compare all that is known of all, when a run of steps is over."""
        for view in VIEWS:
            self.look(view)
        for (view, generation, upto), answer in self.answers.items():
            assert self.ledger.heads(view, generation=generation, as_of=upto) == answer, "the past changed"
        for attempt in self.book.tries:
            found = self.ledger.attempt(attempt.id)
            assert (found.state, found.batch, found.generation) == (attempt.state, attempt.batch, attempt.generation)
            assert numbers(found.intervals) == sorted(attempt.outcomes)

    @staticmethod
    def same_heads(found: list[Head], expected: dict[int, Entry]) -> None:
        seen = {}
        for head in found:
            for day in range((head.start - FIRST).days, (head.end - FIRST).days):
                seen[day] = (head.sequence, head.attempt)
        assert seen == {day: (entry.sequence, entry.attempt) for day, entry in expected.items()}
        pairs = itertools.pairwise(found)
        assert all(a.end < b.start or a.sequence != b.sequence for a, b in pairs), "ranges are not maximal"


def run(options: Options) -> tuple[int, int]:
    """Run the model as a part of the harness, on every registry asked for."""
    from scripts.servers import postgres_server

    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="fstore-ledger-"))
        urls = {}
        if "sqlite" in options.registry or options.long:
            urls["sqlite"] = f"sqlite:///{directory}/registry.db"
        if "postgresql" in options.registry or options.long:
            server = stack.enter_context(postgres_server())
            urls["postgresql"] = urlunsplit(urlsplit(server.url)._replace(scheme="postgresql"))
        machines = {name: machine_at(LedgerModel, url=url) for name, url in urls.items()}
        return run_part(options, "ledger-model", machines, examples=200 if options.long else 4, steps=40)
