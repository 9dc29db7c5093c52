"""Wait for upstream publications in the triggerer: a trigger, and the one poll that all waiters of a project share.

Takes the ranges of upstream views that a task needs; fires when the registry's log holds all of them, or when the time is
up; what its checks blocked counts as there, for nobody will publish it by itself. However many tasks wait, a triggerer
process asks the registry once per poll and view. Never looks at another DAG's state: what counts is what was published.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime

import msgspec
from airflow.triggers.base import BaseTrigger, TriggerEvent

from fstore.airflow.connections import resolve_settings
from fstore.backends import Backends, open_backends
from fstore.errors import FStoreError, UnknownFeature
from fstore.interval import Interval, format_instant, merge_intervals, parse_instant
from fstore.settings import Settings

POLL_SECONDS = 3.0
"""The time between two looks at the registry."""

Needs = dict[str, tuple[Interval, ...]]
"""Ranges by upstream view; each must be covered by publications."""


class PublicationTrigger(BaseTrigger):
    """Fires ``ready`` when everything needed is published, ``timeout`` at ``until``, else ``error`` with a message."""

    def __init__(
        self, settings: Mapping[str, object], needs: Mapping[str, Sequence[Sequence[str]]], until: str
    ) -> None:  # fmt: skip
        super().__init__()  # type: ignore[no-untyped-call]
        self.settings, self.needs, self.until = dict(settings), dict(needs), until

    @classmethod
    def of(cls, settings: Settings, needs: Needs, until: datetime) -> PublicationTrigger:
        """Return the trigger for values of ours; ``airflow://`` URLs are resolved by the triggerer, so no secret is kept."""
        spans = {
            view: [[format_instant(span.start), format_instant(span.end)] for span in spans]
            for view, spans in sorted(needs.items())
        }
        return cls(msgspec.to_builtins(settings), spans, format_instant(until))

    def serialize(self) -> tuple[str, dict[str, object]]:
        """Return the class and arguments, as Airflow stores them."""
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return path, {"settings": self.settings, "needs": self.needs, "until": self.until}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then yield one event."""
        needs = {
            view: tuple(Interval(parse_instant(start), parse_instant(end)) for start, end in spans)
            for view, spans in self.needs.items()
        }
        left = (parse_instant(self.until) - datetime.now(UTC)).total_seconds()
        poll = shared_poll(msgspec.convert(self.settings, Settings))
        try:
            await asyncio.wait_for(poll.published(needs), max(left, 0.0))
        except TimeoutError:
            yield _event(state="timeout")
        except FStoreError as error:
            yield _event(state="error", message=str(error))
        else:
            yield _event(state="ready")


def _event(**payload: str) -> TriggerEvent:
    return TriggerEvent(payload)  # type: ignore[no-untyped-call]


class SharedPoll:
    """Asks one registry on behalf of all waiters of an event loop; runs only while somebody waits."""

    def __init__(self, settings: Settings, *, seconds: float | None = None) -> None:
        self._settings = settings
        self._seconds = POLL_SECONDS if seconds is None else seconds
        self._waiters: dict[asyncio.Future[None], Needs] = {}
        self._task: asyncio.Task[None] | None = None
        self.looks = 0

    async def published(self, needs: Needs) -> None:
        """Return when everything needed is published. Raises what keeps the registry from ever answering."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = needs
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll())
        try:
            await waiter
        finally:
            self._waiters.pop(waiter, None)

    async def _poll(self) -> None:
        backends: Backends | None = None
        try:
            while self._waiters:
                asked = dict(self._waiters)
                try:
                    backends = backends or open_backends(await asyncio.to_thread(resolve_settings, self._settings))
                    done = await asyncio.to_thread(_satisfied, backends, list(asked.values()))
                except FStoreError as error:
                    if not error.retryable:
                        self._answer(list(asked), error)
                else:
                    self._answer([waiter for waiter, ready in zip(asked, done, strict=True) if ready], None)
                self.looks += 1
                if self._waiters:
                    await asyncio.sleep(self._seconds)
        except Exception as error:  # noqa: BLE001  (whatever it is, the waiters must hear of it)
            self._answer(list(self._waiters), error)
        finally:
            self._task = None  # who comes while this one closes needs another
            if backends is not None:
                await asyncio.to_thread(backends.close)

    @staticmethod
    def _answer(waiters: Sequence[asyncio.Future[None]], error: Exception | None) -> None:
        for waiter in waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)


_polls: dict[tuple[asyncio.AbstractEventLoop, str, str], SharedPoll] = {}


def shared_poll(settings: Settings) -> SharedPoll:
    """Return the poll of a project's registry in the running event loop."""
    key = (asyncio.get_running_loop(), settings.registry_url, settings.project)
    if key not in _polls:
        _polls[key] = SharedPoll(settings)
    return _polls[key]


def _satisfied(backends: Backends, needs: Sequence[Needs]) -> list[bool]:
    """Say for each waiter whether all it needs is settled: published, or blocked by its checks so that nobody will."""
    wanted: dict[str, list[Interval]] = {}
    for one in needs:
        for view, spans in one.items():
            wanted.setdefault(view, []).extend(spans)
    settled = {view: _settled(backends, view, spans) for view, spans in wanted.items()}
    return [
        all(any(have.contains(span) for have in settled[view]) for view, spans in one.items() for span in spans)
        for one in needs
    ]


def _settled(backends: Backends, view: str, spans: Sequence[Interval]) -> list[Interval]:
    first, last = min(span.start for span in spans), max(span.end for span in spans)
    ledger = backends.registry.ledger
    try:
        heads, blocked = ledger.heads(view, start=first, end=last), ledger.blocked(view)
    except UnknownFeature:  # nothing of it was published yet
        return []
    return merge_intervals([*(Interval(head.start, head.end) for head in heads), *blocked])
