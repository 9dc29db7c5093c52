"""What must hold in every state of the market, between two states, and once everybody has ended: one line per broken promise.

Everything is read as readers read it: heads from the ledger, rows through the engine and from the online store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple

from fstore.registry.records import Head
from fstore.runtime.delivery import apply_outbox
from fstore.runtime.materialize import materialize_attempt
from fstore.runtime.repair import repair_online
from fstore.stores.encoding import row_sequence
from tests.chaos.market import DAY, DAYS, EVERY_KEY, VIEWS, Market, Publication, State, keys_of

Owners = Mapping[int, int]
"""Who made the rows of an attempt: its task's number; base rows are nobody's."""

Row = tuple[int, ...]

FIRST_DAY = {"k0": (0,), "k1": (0,)}
"""The rows of visits on the day before."""


class Seen(NamedTuple):
    """What online readers see of a view."""

    floor: int
    rows: dict[str, bytes | None]


class Checker:
    """Checks the states of one market. It remembers what it has read, since many states hold the same files."""

    def __init__(self, market: Market, views: Sequence[str] = VIEWS) -> None:
        self.market, self.views = market, views
        self._read: set[object] = set()

    # -- a state ------------------------------------------------------------------------------------------------------

    def state(self, state: State, owners: Owners) -> Iterator[str]:
        """Check the state that the market is in."""
        broken = list(self._log(state))
        yield from broken
        for view in () if broken else self.views:
            publications = self.market.publications(state, view)
            yield from self._offline(state, owners, view, publications)
            yield from self._online(state, owners, view, publications)

    def _log(self, state: State) -> Iterator[str]:
        log = sorted(state.rows["publications"])
        if [row[0] for row in log] != list(range(1, len(log) + 1)) or state.rows["projects"][0][1] != len(log):
            yield f"sequences are {[row[0] for row in log]}, the project's is {state.rows['projects'][0][1]}"
        entries = {row[4] for row in state.rows["outbox"]}
        if lost := [row[0] for row in log if row[0] not in entries]:
            yield f"publications {lost} have no entry in the outbox"
        outcomes = {row[0]: [] for row in state.rows["attempts"]}
        for row in state.rows["attempt_intervals"]:
            outcomes[row[0]].append(row[4])
        for attempt, found in outcomes.items():
            if ("published" in found) != any(row[5] == attempt for row in log):
                yield f"attempt {attempt} is {found} and has{'' if 'published' in found else ' a'} publication in the log"
        completed = sum(row[0] == "COMPLETE" for row in state.rows["lineage_events"])
        if completed < len({row[5] for row in log}):
            yield f"{len({row[5] for row in log})} attempts are published and {completed} have a COMPLETE event"
        for view in VIEWS:
            newest = 0
            for publication in self.market.publications(state, view):
                if publication.attempt < newest:
                    yield f"attempt {publication.attempt} of {view} published over the later {newest}"
                newest = max(newest, publication.attempt)
                pins = [row for row in state.rows["attempt_pins"] if row[0] == publication.attempt]
                if view == "ranks" and not pins:
                    yield f"publication {publication.sequence} of ranks has no pinned input"
                for pin in pins:
                    between = [
                        p for p in self.market.publications(state, pin[1]) if pin[4] < p.sequence < publication.sequence
                    ]
                    if between:
                        yield f"{view} was published from publication {pin[4]} of {pin[1]}, although there was {between[0]}"

    def _offline(self, state: State, owners: Owners, view: str, publications: list[Publication]) -> Iterator[str]:
        files = tuple(sorted((name, content) for name, content in state.files.items() if name.startswith(f"market/{view}/")))
        key = (view, publications[-1], owners.get(publications[-1].attempt), files)
        if key in self._read:
            return
        heads = self.market.backends.registry.ledger.heads(view)
        yield from self.rows_read(state, owners, view, heads)
        self._read.add(key)

    def rows_read(self, state: State, owners: Owners, view: str, heads: list[Head]) -> Iterator[str]:
        """Check that readers get all rows of the newest publication of the newest day, and no other."""
        publication = self.market.publications(state, view)[-1]
        start, end = (
            (DAY.start, DAY.end) if view == "visits" else (DAYS[0].end + timedelta(1, 0, 0) - timedelta(0, 1), DAY.end)
        )
        names = ("maker", "base") if view == "ranks" else ("maker",)
        try:
            rows = self.market.read(view, heads)
        except Exception as error:  # noqa: BLE001 (whatever it was, what is published cannot be read)
            yield f"{view} cannot be read: {error}"
            return
        found = sorted(
            (row["user_id"], *(row[name] for name in names)) for row in rows if start <= row["event_timestamp"] <= end
        )
        wanted = sorted((key, *row) for key, row in self.market.rows(state, owners, view, publication).items())
        if found != wanted:
            yield f"offline, {view} is {found} and publication {publication.sequence} has {wanted}"

    def _online(self, state: State, owners: Owners, view: str, publications: list[Publication]) -> Iterator[str]:
        seen = Seen(*self.market.stored(view))
        known = {publication.sequence: publication for publication in publications}
        for key, stored in seen.rows.items():
            if stored is None:
                continue
            publication = known.get(row_sequence(stored))
            if publication is None:
                yield f"online, {view} of {key} has sequence {row_sequence(stored)}, which is not in the log"
            elif stored != self._wanted(state, owners, view, publication, key):
                yield f"online, {view} of {key} is not what publication {publication.sequence} has"
        settled = {row[4] for row in state.rows["outbox"] if row[2] == view and not row[9]}
        newest = publications[-1].sequence
        for sequence in settled:
            if seen.floor < sequence and (view == "visits" or newest == sequence):
                yield f"the outbox entry of publication {sequence} of {view} is settled, and the floor is {seen.floor}"
        if seen.floor not in known:
            yield f"the floor of {view} is {seen.floor}, which is not in the log"
        else:
            for key in self._touched(state, owners, view, known[seen.floor]):
                stored = seen.rows[key]
                if stored is None or row_sequence(stored) < seen.floor:
                    yield f"the floor of {view} is {seen.floor}, and the row of {key} is not there"

    def _touched(self, state: State, owners: Owners, view: str, publication: Publication) -> set[str]:
        """Return the keys that a publication brings online."""
        keys = set(self.market.rows(state, owners, view, publication))
        if view == "visits":
            keys.update(*(keys_of(owners.get(p.attempt, 0)) for p in self._before(state, view, publication)[-1:]))
        return keys

    def _before(self, state: State, view: str, publication: Publication) -> list[Publication]:
        return [p for p in self.market.publications(state, view) if p.sequence < publication.sequence]

    def _wanted(self, state: State, owners: Owners, view: str, publication: Publication, key: str) -> bytes | None:
        """Return what a publication has of a key, as it is stored."""
        row: Row | None = self.market.rows(state, owners, view, publication).get(key)
        instant = DAY.end
        if view == "visits":
            instant = (DAY if row else DAYS[0]).start + timedelta(hours=1)
            row = row or FIRST_DAY.get(key)
            return self.market.packed(view, instant, row, publication.sequence)
        return None if row is None else self.market.packed(view, instant, row, publication.sequence)

    # -- a step -------------------------------------------------------------------------------------------------------

    def online_of_all(self) -> dict[str, Seen]:
        """Return what is online, to compare with what is there after a step."""
        return {view: Seen(*self.market.stored(view)) for view in self.views}

    def step(self, before: State, after: State, online: Mapping[str, Seen], seen: Mapping[str, Seen]) -> Iterator[str]:
        """Check what must hold between the state before a step and the one after it."""
        known = {row[0] for row in before.rows["publications"]}
        batch_of = {row[0]: row[4] for row in before.rows["attempts"]}
        batches = {row[0]: row for row in before.rows["batches"]}
        for row in after.rows["publications"]:
            if row[0] in known:
                continue
            mine = batches[batch_of[row[5]]]
            later = [batch[0] for batch in batches.values() if batch[1:4] == mine[1:4] and batch[0] > mine[0]]
            if later:
                yield f"attempt {row[5]} of {row[1]}, of batch {mine[0]}, was published after the same run began batch {later[0]}"
        for view, was in online.items():
            now = seen[view]
            if now.floor < was.floor:
                yield f"the floor of {view} went back from {was.floor} to {now.floor}"
            for key in EVERY_KEY:
                old, new = was.rows[key], now.rows[key]
                if old is not None and (new is None or row_sequence(new) < row_sequence(old)):
                    yield f"online, {view} of {key} went back from sequence {row_sequence(old)} to {new and row_sequence(new)}"

    # -- the end ------------------------------------------------------------------------------------------------------

    def end(self, state: State, owners: Owners) -> Iterator[str]:
        """Check the state that everybody has left: nothing is pending, online is what the log says, repeating changes nothing."""
        if pending := [row[4] for row in state.rows["outbox"] if row[9]]:
            yield f"publications {pending} are pending in the outbox"
        for view in self.views:
            newest = self.market.publications(state, view)[-1]
            seen = Seen(*self.market.stored(view))
            if view != "visits" and seen.floor != newest.sequence:
                yield f"the floor of {view} is {seen.floor}, the newest publication {newest.sequence}"
            for key, stored in seen.rows.items():
                hidden = stored is None or (view != "visits" and row_sequence(stored) < seen.floor)
                found = None if hidden or stored is None else stored[8:]
                wanted = self._wanted(state, owners, view, newest, key)
                if found is None and view == "visits" and wanted == self.market.packed(view, DAY.end, None, newest.sequence):
                    continue  # a key that never was there needs no tombstone
                if found != (None if wanted is None else wanted[8:]):
                    yield f"in the end, {view} of {key} online is not what publication {newest.sequence} has"
        yield from self._stale(state)
        seen = self.online_of_all()
        attempts = sorted({p.attempt for view in self.views for p in self.market.publications(state, view)} & owners.keys())
        for attempt in attempts:
            materialize_attempt(self.market.backends, attempt)
        apply_outbox(self.market.backends)
        repair_online(self.market.backends)
        again = self.market.take()
        tables = ("publications", "outbox", "attempts", "attempt_intervals", "data_files", "lineage_events")
        if seen != self.online_of_all() or again.files != state.files:
            yield "doing it again changed what readers see"
        for table in tables:
            if again.rows[table] != state.rows[table]:
                yield f"doing it again changed {table}"

    def _stale(self, state: State) -> Iterator[str]:
        newest = self.market.publications(state, "ranks")[-1]
        (pinned,) = (row[4] for row in state.rows["attempt_pins"] if row[0] == newest.attempt)
        stale = pinned != self.market.publications(state, "prices")[-1].sequence
        found = self.market.backends.registry.ledger.stale("ranks")
        if found != ([DAY] if stale else []):
            yield f"stale intervals of ranks are {found}, its pinned publication is {pinned}"
