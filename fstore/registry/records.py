"""The values that the registry takes and gives: attempts, verdicts, publications, heads and registered definitions.

Frozen values without behaviour beyond what their own fields say. Instants are UTC; ranges are half-open.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

import msgspec

from fstore.definitions.checks import CheckKind, Severity
from fstore.interval import Interval
from fstore.plan.steps import Step
from fstore.plan.tile_step import TileStep
from fstore.types import DataFile

State = Literal["begun", "validated", "published", "failed", "abandoned", "swept"]
Outcome = Literal["pending", "passed", "blocked", "published", "overtaken"]


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """A range of an upstream view that an attempt reads, and the publication that was its head.

    Of a data set of tiles, which is read whole, ``sequence`` is the newest publication of the project at that moment: any
    later one of the same data set that overlaps the range is a change.
    """

    view: str
    start: datetime
    end: datetime
    sequence: int


class SourceRead(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt reads of a source: a range of event time, and the newest change of the source that was known then.

    ``source`` is the source's identity; ``start`` None means from its first event.
    """

    source: str
    change: int
    start: datetime | None
    end: datetime


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """How one check went over one interval.

    ``violations`` counts rows (for ``row_count``: 1 when out of bounds); ``samples`` are keys of some offending rows as
    text; ``sql`` finds them all again.
    """

    label: str
    kind: CheckKind
    severity: Severity
    columns: tuple[str, ...] = ()
    violations: int = 0
    samples: tuple[str, ...] = ()
    message: str = ""
    sql: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether an interval may be published, and the report behind it. ``rows`` counts those that would be published."""

    interval: Interval
    passed: bool
    rows: int
    quarantined_rows: int = 0
    results: tuple[CheckResult, ...] = ()


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try at some intervals of a view. Its id is its epoch: a later attempt has a greater one."""

    id: int
    view: str
    generation: int
    run_id: str
    step: Step
    intervals: tuple[Interval, ...]
    pins: tuple[Pin, ...] = ()
    files: tuple[DataFile, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    sources: tuple[SourceRead, ...] = ()
    state: State = "begun"
    created_at: datetime
    batch: int = 0


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """The attempts of one run at a view: disjoint chunks, ascending. A later batch of the same run fences earlier ones."""

    id: int
    view: str
    generation: int
    run_id: str
    ranges: tuple[Interval, ...]
    attempts: tuple[int, ...]
    created_at: datetime


class TileAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try at tiles: merged ranges, and what was read of the source."""

    id: int
    group: str
    run_id: str
    step: TileStep
    ranges: tuple[Interval, ...]
    sources: tuple[SourceRead, ...]


class TileHead(msgspec.Struct, frozen=True, kw_only=True):
    """A maximal range of a data set of tiles and its newest publication; ``known`` is the newest change known per source."""

    start: datetime
    end: datetime
    sequence: int
    attempt: int
    known: dict[str, int]


class AttemptPlace(msgspec.Struct, frozen=True, kw_only=True):
    """What says where the files of an attempt are, to the sweeper."""

    id: int
    view: str
    generation: int


class AttemptSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a view's history. ``rows`` counts validated rows; ``duration`` is None while the attempt runs."""

    id: int
    view: str
    generation: int
    run_id: str
    start: datetime
    end: datetime
    state: State
    message: str
    intervals: int
    blocked: int
    rows: int
    created_at: datetime
    finished_at: datetime | None

    @property
    def duration(self) -> timedelta | None:
        """Time from begin to publication or failure."""
        return None if self.finished_at is None else self.finished_at - self.created_at


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the publication log: the attempt whose rows hold for a range of whole intervals."""

    sequence: int
    view: str
    generation: int
    start: datetime
    end: datetime
    attempt: int
    fingerprint: str
    published_at: datetime


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """What publishing an attempt came to; the same however often it is repeated.

    ``overtaken`` are intervals that a newer attempt of another run has published already.
    """

    publications: tuple[Publication, ...]
    overtaken: tuple[Interval, ...] = ()
    blocked: tuple[Interval, ...] = ()

    @property
    def sequence(self) -> int | None:
        """The newest sequence of the attempt, None if nothing of it was published."""
        return max((publication.sequence for publication in self.publications), default=None)


class Head(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A maximal range whose newest publication is this one."""

    start: datetime
    end: datetime
    sequence: int
    attempt: int
    published_at: datetime
    fingerprint: str


class OnlineWork(msgspec.Struct, frozen=True, kw_only=True):
    """A publication to bring to the online store. For a snapshot view only the range's last interval is needed."""

    view: str
    generation: int
    sequence: int
    start: datetime
    end: datetime
    attempt: int

    @classmethod
    def of(cls, view: str, generation: int, published: Publication | Head) -> OnlineWork:
        """Return the work that a publication of a view is, or what is seen of one."""
        return cls(
            view=view, generation=generation, sequence=published.sequence, start=published.start, end=published.end,
            attempt=published.attempt,
        )  # fmt: skip


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket for rows that the online store has acknowledged, and the newest settled one when it was issued."""

    ticket: int
    settled: int


class OutboxEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Work that a publication left to be done, at least once."""

    id: int
    kind: Literal["online"]
    payload: OnlineWork
    tries: int
    last_error: str | None
    created_at: datetime


class OutboxDepth(msgspec.Struct, frozen=True, kw_only=True):
    """How much work is pending, since when, and how much of it has failed before."""

    pending: int
    failing: int
    oldest_at: datetime | None


class RegisteredView(msgspec.Struct, frozen=True, kw_only=True):
    """A view as registered: its live step and the generation that readers see."""

    name: str
    step: Step
    generation: int
    version: int
    fingerprint: str
    registered_at: datetime


class Change(msgspec.Struct, frozen=True, order=True):
    """One thing that registering changed."""

    kind: Literal["entity", "view", "service", "on_demand"]
    name: str
    action: Literal["added", "changed", "retired"]


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """What registering a plan changed, and the project's version afterwards."""

    version: int
    changes: tuple[Change, ...] = ()


class Raised(msgspec.Struct, frozen=True, kw_only=True):
    """From where a registry goes on after a restore: a new incarnation, and sequence and attempt that are not given out."""

    incarnation: str
    sequence: int
    attempt: int


class RegistryState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a project's registry stands: readers compare it to know whether anything is new."""

    incarnation: str
    version: int
    sequence: int
    published_at: datetime | None
    created_at: datetime


class RegisteredStore(msgspec.Struct, frozen=True, kw_only=True):
    """A store that belongs to the project."""

    kind: str
    url: str
    store_id: str
    recorded_at: datetime


class Dataset(msgspec.Struct, frozen=True, order=True):
    """A data set as OpenLineage names it."""

    namespace: str
    name: str


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """One derivation: ``output`` was made from ``input``. Columns are None for whole data sets.

    ``depth`` counts steps from the data set that was asked about, from 1.
    """

    input: Dataset
    input_column: str | None
    output: Dataset
    output_column: str | None
    transformation: str
    masking: bool
    depth: int


class LineageEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded OpenLineage event; ``payload`` is its JSON."""

    event_time: datetime
    event_type: str
    run_id: str
    job_namespace: str
    job_name: str
    parent_run_id: str | None
    payload: str
