"""Prepared online reads: resolved once per list of features, and made anew when definitions have changed.

Asks the registry for its version every few seconds, and at once when the store has rows that the prepared read does not
know. Both clients use one: what may ask the registry, and so wait, is apart from what does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

from fstore.errors import RegistryUnavailable, RetrievalError, StoreCorrupt, StoreUnavailable
from fstore.retrieval.breaker import CircuitBreaker
from fstore.retrieval.features import Wanted, as_texts, select_features
from fstore.retrieval.historical import HistoricalReads
from fstore.retrieval.offline_part import OfflinePart
from fstore.retrieval.on_demand import on_demand_program
from fstore.retrieval.online import PreparedRead
from fstore.retrieval.online_cache import OnlineCache
from fstore.retrieval.online_entities import Entities, OnlineEntities
from fstore.retrieval.online_reading import OnlineReading
from fstore.retrieval.online_response import OnlineResponse
from fstore.stores.online import ViewRows
from fstore.types import Column

if TYPE_CHECKING:
    from fstore.backends import Backends

MOST_ENTITIES = 100_000
"""How many entities one online read may have: a store answers nobody else meanwhile."""

MOST_PREPARED = 1_000
"""How many lists of features are kept prepared at once."""

_PLAN_SECONDS = 5.0
"""For how long a prepared online read is used before the registry is asked whether definitions changed."""

_GRACE_SECONDS = 600.0
"""For how long prepared reads are used while the registry cannot be asked: nobody can change definitions there meanwhile."""

OnUnavailable = Literal["error", "last_known"]
Offline = Literal["error", "allow"]


class Question(NamedTuple):
    """What a reader asks for, apart from the entities; see ``Client.get_online_features``."""

    features: Sequence[Wanted] | None
    service: str | None
    full_names: bool
    offline: Offline


class Terms(NamedTuple):
    """How long a read may take, as an instant of ``time.monotonic()``, and what shall be if the store is away."""

    deadline: float | None
    on_unavailable: OnUnavailable


_NO_TERMS = Terms(None, "error")


def terms_of(timeout: float | None, on_unavailable: OnUnavailable, cache: OnlineCache | None) -> Terms:
    """Return the terms of a read. Raises RetrievalError for what makes no sense."""
    if timeout is None and on_unavailable == "error":
        return _NO_TERMS
    if on_unavailable not in ("error", "last_known"):
        raise RetrievalError(f'on_unavailable must be "error" or "last_known", got {on_unavailable!r}')
    if on_unavailable == "last_known" and cache is None:
        raise RetrievalError(
            'on_unavailable="last_known" needs a cache to remember values in: Client(…, cache=OnlineCache(ttl=…))'
        )
    if timeout is None:
        return Terms(None, on_unavailable)
    if not timeout > 0:
        raise RetrievalError(f"timeout must be more than 0 seconds, got {timeout!r}")
    return Terms(time.monotonic() + timeout, on_unavailable)


class PreparedReads:
    """The prepared reads of one client. ``known`` never waits; ``prepare`` may ask the registry."""

    def __init__(self, backends: Backends, historical: HistoricalReads) -> None:
        self._backends, self._historical = backends, historical
        self._prepared: dict[tuple[tuple[str, ...] | str, bool, str], PreparedRead] = {}
        self._version = -1
        self._checked_at = self._confirmed_at = float("-inf")

    def __len__(self) -> int:
        return len(self._prepared)

    def known(self, question: Question) -> PreparedRead | None:
        """Return the prepared read of a question, or None when the registry has to be asked."""
        if time.monotonic() - self._checked_at > _PLAN_SECONDS or (question.features is None) == (question.service is None):
            return None
        if type(question.features) is list:  # of texts, most of the time, and then it is the name
            try:
                found = self._prepared.get((tuple(question.features), question.full_names, question.offline))
            except TypeError:  # of something that has no hash
                found = None
            if found is not None:
                return found
        return self._prepared.get(_name(question))

    def prepare(self, question: Question) -> PreparedRead:
        """Return the prepared read of a question, made anew when definitions have changed.

        Raises UnknownFeature, FeatureNameClash, RetrievalError, and RegistryUnavailable, unless what is prepared was
        confirmed not long ago.
        """
        if question.offline not in ("error", "allow"):
            raise RetrievalError(f'offline must be "error" or "allow", got {question.offline!r}')
        if time.monotonic() - self._checked_at > _PLAN_SECONDS:
            self._check_version()
        found = self.known(question)
        if found is None:
            found = self._prepare(question)
            if len(self._prepared) >= MOST_PREPARED:  # somebody makes up lists: what is in use is prepared again
                self._prepared.clear()
            self._prepared[_name(question)] = found
        return found

    def _check_version(self) -> None:
        now = time.monotonic()
        try:
            version = self._backends.registry.version()
        except RegistryUnavailable:
            if now - self._confirmed_at > _GRACE_SECONDS:
                raise
            self._checked_at = now
            return
        if version != self._version:
            self._prepared.clear()
        self._version, self._checked_at, self._confirmed_at = version, now, now

    def _prepare(self, question: Question) -> PreparedRead:
        backends = self._backends
        selection = select_features(
            backends.registry, features=as_texts(question.features), service=question.service,
            full_names=question.full_names,
        )  # fmt: skip
        elsewhere = [view for view in selection.views if not view.step.online]
        offline = OfflinePart(elsewhere, self._historical) if elsewhere and question.offline == "allow" else None
        schemas = {view.step.view: _row_schemas(backends, view.step.view) for view in selection.views}
        return PreparedRead(backends.settings.project, selection, schemas, self._how_to_refill,
                            on_demand_program(backends, selection), offline)  # fmt: skip

    def renew(self) -> bool:
        """Ask the registry at the next read, and return whether it has definitions that are not prepared yet."""
        self._checked_at = float("-inf")
        return self._backends.registry.version() != self._version

    def _how_to_refill(self, view: str) -> str:
        """Say how a view that the online store lost gets there again."""
        newest = self._backends.registry.ledger.newest(view)
        if newest is None:
            return f"Nothing of it is published yet: `fstore run --select {view}` computes what is due."
        last = self._backends.registry.view(view).step.schedule.interval_ending_by(newest.end)
        return (
            "Publish its newest interval again: "
            f"`fstore run --select {view} --start {last.start:%Y-%m-%dT%H:%M} --end {last.end:%Y-%m-%dT%H:%M}`."
        )


class OnlineReads:
    """Reads current features of one project; what :class:`~fstore.Client` says of its methods holds here."""

    def __init__(
        self, backends: Backends, clock: Callable[[], datetime], historical: HistoricalReads, cache: OnlineCache | None
    ) -> None:
        self._backends, self._clock, self._cache = backends, clock, cache
        self._plans, self._breaker = PreparedReads(backends, historical), CircuitBreaker()

    def read(
        self, question: Question, entities: Entities | None, request: Mapping[str, Sequence[object]] | None, terms: Terms
    ) -> OnlineResponse:
        """Read the features of entities as they are now."""
        rows = OnlineEntities(entities, request, MOST_ENTITIES)
        plan = self._plans.known(question) or self._plans.prepare(question)
        try:
            return self._answer(plan, rows, terms)
        except StoreCorrupt:  # or a row of a definition that is newer than what was prepared
            if not self._plans.renew():
                raise
        return self._answer(self._plans.prepare(question), rows, terms)

    def _answer(self, plan: PreparedRead, rows: OnlineEntities, terms: Terms) -> OnlineResponse:
        reading = OnlineReading(plan, rows, self._cache)
        found: list[ViewRows] = []
        if reading.keys:
            try:
                with self._breaker:
                    found = self._backends.online.read_views(reading.keys, deadline=terms.deadline)
            except StoreUnavailable as error:
                if terms.on_unavailable == "error":
                    raise
                return reading.last_known(error, self._clock())
        return reading.answer(found, self._clock())


def _name(question: Question) -> tuple[tuple[str, ...] | str, bool, str]:
    """Return what tells a question from others, with features as texts."""
    return as_texts(question.features) or question.service or "", question.full_names, question.offline


def _row_schemas(backends: Backends, view: str) -> list[list[Column]]:
    """Return the feature columns of every version of a view, which its stored rows may have."""
    return [
        [Column(name=feature.name, type=feature.type) for feature in step.features if feature.type is not None]
        for step in backends.registry.versions(view)
    ]
