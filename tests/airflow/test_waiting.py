"""The trigger and the poll that waiters share, on a real registry."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from airflow.triggers.base import TriggerEvent

from fstore.airflow import waiting
from fstore.airflow.waiting import PublicationTrigger, SharedPoll
from fstore.errors import RegistryError, StoreError
from fstore.interval import Interval
from fstore.plan.steps import Plan, PlannedEntity
from fstore.registry.records import Verdict
from fstore.registry.registry import create_registry, open_registry
from fstore.settings import Settings
from tests.airflow.steps import KEY, aggregate, at, day

STEP = aggregate()


@pytest.fixture
def settings(tmp_path):
    return Settings(root=str(tmp_path), project="flights", registry_url=f"sqlite:///{tmp_path}/registry.db")


@pytest.fixture
def registry(settings):
    with create_registry(settings.registry_url, settings.project) as registry:
        entity = PlannedEntity(name="carrier", keys=(KEY,))
        registry.register(Plan(project="flights", entities=(entity,), steps=(STEP,)))
        yield registry


def publish(registry, *intervals):
    attempt = registry.ledger.begin(STEP, intervals, f"test/{intervals[0]}")
    registry.ledger.record_files(attempt.id, [])
    registry.ledger.record_verdicts(attempt.id, [Verdict(interval=i, passed=True, rows=0) for i in intervals])
    return registry.ledger.publish(attempt.id)


def span(first, last):
    return Interval(first.start, last.end)


def test_all_waiters_share_one_look_at_the_registry(settings, registry):
    async def scenario():
        poll = SharedPoll(settings, seconds=0.02)
        january = [{STEP.view: (day(2013, 1, number),)} for number in range(1, 21)]
        waiters = [asyncio.create_task(poll.published(needs)) for needs in january]
        whole = asyncio.create_task(poll.published({STEP.view: (span(day(2013, 1, 1), day(2013, 1, 20)),)}))
        while poll.looks < 2:
            await asyncio.sleep(0.01)
        assert not any(waiter.done() for waiter in waiters)
        await asyncio.to_thread(publish, registry, *[day(2013, 1, number) for number in range(1, 11)])
        await asyncio.wait_for(asyncio.gather(*waiters[:10]), 10)
        assert not any(waiter.done() for waiter in [*waiters[10:], whole])
        await asyncio.to_thread(publish, registry, *[day(2013, 1, number) for number in range(11, 21)])
        await asyncio.wait_for(asyncio.gather(*waiters, whole), 10)
        looks = poll.looks
        await asyncio.sleep(0.1)
        assert poll.looks <= looks + 1  # nobody waits, so nobody looks
        return looks

    started = datetime.now(UTC)
    looks = asyncio.run(scenario())
    assert looks <= (datetime.now(UTC) - started) / timedelta(seconds=0.02)


def test_a_poll_starts_again_for_the_next_waiter(settings, registry):
    async def scenario():
        poll = SharedPoll(settings, seconds=0.01)
        publish(registry, day(2013, 1, 1))
        for _ in range(3):
            await asyncio.wait_for(poll.published({STEP.view: (day(2013, 1, 1),)}), 10)

    asyncio.run(scenario())


def test_a_view_that_nobody_registered_yet_is_waited_for(settings, registry):
    async def scenario():
        poll = SharedPoll(settings, seconds=0.01)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(poll.published({"unheard_of": (day(2013, 1, 1),)}), 0.2)
        assert poll.looks > 1

    asyncio.run(scenario())


def test_a_waiter_that_comes_while_the_poll_ends_is_heard(settings, registry, monkeypatch):
    opened = waiting.open_backends

    def open_slowly_closing(given):
        backends = opened(given)
        close = backends.close
        backends.close = lambda: (closing.set(), let_go.wait(10), close())
        return backends

    closing, let_go = threading.Event(), threading.Event()
    monkeypatch.setattr(waiting, "open_backends", open_slowly_closing)

    async def scenario():
        poll = SharedPoll(settings, seconds=0.01)
        publish(registry, day(2013, 1, 1))
        needs = {STEP.view: (day(2013, 1, 1),)}
        await asyncio.wait_for(poll.published(needs), 10)
        await asyncio.to_thread(closing.wait, 10)
        late = asyncio.create_task(poll.published(needs))
        await asyncio.sleep(0)
        let_go.set()
        await asyncio.wait_for(late, 10)

    asyncio.run(scenario())


def test_what_its_checks_blocked_is_not_waited_for(settings, registry):
    publish(registry, day(2013, 1, 1))

    async def scenario():
        poll = SharedPoll(settings, seconds=0.01)
        needs = {STEP.view: (span(day(2013, 1, 1), day(2013, 1, 2)),)}
        waiter = asyncio.create_task(poll.published(needs))
        while poll.looks < 2:
            await asyncio.sleep(0.01)
        assert not waiter.done()
        attempt = await asyncio.to_thread(registry.ledger.begin, STEP, [day(2013, 1, 2)], "blocked")
        verdict = Verdict(interval=day(2013, 1, 2), passed=False, rows=0)
        await asyncio.to_thread(registry.ledger.record_verdicts, attempt.id, [verdict])
        await asyncio.wait_for(waiter, 10)

    asyncio.run(scenario())


def events_of(trigger):
    async def collect():
        return [event async for event in trigger.run()]

    return asyncio.run(collect())


def test_the_trigger_fires_once_everything_is_published(settings, registry):
    publish(registry, day(2013, 1, 1), day(2013, 1, 2))
    until = datetime.now(UTC) + timedelta(seconds=30)
    trigger = PublicationTrigger.of(settings, {STEP.view: (day(2013, 1, 1), day(2013, 1, 2))}, until)
    assert events_of(trigger) == [TriggerEvent({"state": "ready"})]


def test_the_trigger_gives_up_in_time(settings, registry, monkeypatch):
    monkeypatch.setattr(waiting, "POLL_SECONDS", 0.01)
    trigger = PublicationTrigger.of(settings, {STEP.view: (day(2013, 1, 1),)}, datetime.now(UTC) + timedelta(seconds=0.1))
    assert events_of(trigger) == [TriggerEvent({"state": "timeout"})]


def test_the_trigger_reports_a_registry_that_was_never_created(settings):
    trigger = PublicationTrigger.of(settings, {STEP.view: (day(2013, 1, 1),)}, datetime.now(UTC) + timedelta(seconds=30))
    (event,) = events_of(trigger)
    assert event.payload["state"] == "error"
    with pytest.raises((RegistryError, StoreError)) as caught:
        open_registry(settings.registry_url, "flights").state()
    assert event.payload["message"] == str(caught.value)


def test_the_trigger_survives_being_stored(settings):
    hidden = msgspec.structs.replace(settings, registry_url="airflow://registry")
    trigger = PublicationTrigger.of(hidden, {"b": (day(2013, 1, 2),), "a": (day(2013, 1, 1),)}, at(2026, 1, 1))
    path, arguments = trigger.serialize()
    assert path == "fstore.airflow.waiting.PublicationTrigger"
    assert arguments["settings"]["registry_url"] == "airflow://registry"  # no credentials are stored
    assert arguments["needs"] == {
        "a": [["2013-01-01T00:00:00Z", "2013-01-02T00:00:00Z"]],
        "b": [["2013-01-02T00:00:00Z", "2013-01-03T00:00:00Z"]],
    }
    assert PublicationTrigger(**arguments).serialize() == (path, arguments)
