"""Fill the new generations of changed views, and put them in the place of the live ones when they are complete.

Takes overlay ``next`` of a project, which ``fstore apply`` staged. Each call fills a bounded number of intervals, oldest
first, by running steps as always; when no interval that is live is lacking, the online store is brought up to date and then
one transaction of the registry makes all of them live. Everything is safe to repeat, and to run from several places at once.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from fstore.backends import Backends
from fstore.errors import FStoreError, InputsNotReady, NotComplete, UnknownFeature, did_you_mean
from fstore.interval import Interval
from fstore.plan.steps import Step
from fstore.registry.overlay_records import Flip
from fstore.registry.overlays import NEXT
from fstore.runtime.incarnation import check_incarnation
from fstore.runtime.inputs import resolve_inputs
from fstore.runtime.repair import bring_online
from fstore.runtime.runner import run_step

Progress = Callable[[str, int, int], None]
"""Told the view, and how many of how many intervals that are live its new generation holds."""

_FLIP_TRIES = 5
"""How often a flip looks again because something was published between its parts."""


class FilledView(msgspec.Struct, frozen=True, kw_only=True):
    """One view of the new generations: how many intervals were filled now, how many are still lacking, and what failed."""

    view: str
    generation: int
    filled: int
    lacking: int
    required: int
    code: str = ""
    message: str = ""


class Filled(msgspec.Struct, frozen=True, kw_only=True):
    """What filling came to. ``held`` generations are complete and wait for ``fstore flip``."""

    views: tuple[FilledView, ...] = ()
    flipped: tuple[Flip, ...] = ()
    held: bool = False

    @property
    def failed(self) -> tuple[FilledView, ...]:
        """The views of which something failed."""
        return tuple(view for view in self.views if view.message)


def fill_next(
    backends: Backends, *, limit: int, budget: timedelta | None = None, progress: Progress | None = None
) -> Filled:
    """Fill at most ``limit`` intervals of every view of overlay ``next``, and flip it if it is complete and not held.

    With a ``budget`` no further view is begun once it is used up. An error of one view is recorded, and the others go on.
    """
    overlay = backends.registry.overlays.get(NEXT)
    if overlay is None:
        return Filled()
    began = datetime.now(UTC)
    over = backends.on_overlay(NEXT)
    views: list[FilledView] = []
    for step in in_order([view.step for view in overlay.views]):
        lacking = over.registry.overlays.lacking(views=[step.view]).get(step.view)
        if lacking is None:
            continue  # flipped or dropped meanwhile
        late = budget is not None and datetime.now(UTC) - began > budget
        filled, code, message = (0, "", "") if late else _fill(over, step, lacking.intervals[:limit])
        left = over.registry.overlays.lacking(views=[step.view]).get(step.view)
        generation = next(view.generation for view in overlay.views if view.name == step.view)
        views.append(
            FilledView(
                view=step.view, generation=generation, filled=filled, code=code, message=message,
                lacking=len(left.intervals) if left else 0, required=left.required if left else 0,
            )
        )  # fmt: skip
        if progress:
            progress(step.view, views[-1].required - views[-1].lacking, views[-1].required)
    if overlay.held or any(view.lacking for view in views):
        return Filled(views=tuple(views), held=overlay.held)
    try:
        return Filled(views=tuple(views), flipped=flip_next(backends))
    except NotComplete:  # something was published in the meantime: the next call fills it
        return Filled(views=tuple(views))


def _fill(over: Backends, step: Step, intervals: Sequence[Interval]) -> tuple[int, str, str]:
    """Run the intervals of a step whose inputs are there; return how many were published, and what failed: code, text."""
    if not intervals:
        return 0, "", ""
    ready = resolve_inputs(over.registry, step, intervals).ready
    if not ready:
        return 0, "", ""
    try:
        result = run_step(over, step, ready, f"{NEXT}-{uuid.uuid4().hex[:12]}")
    except InputsNotReady:
        return 0, "", ""
    except FStoreError as error:
        return 0, error.code, str(error)
    blocked = len(result.report.blocked)
    message = f"{blocked} interval(s) did not pass their checks" if blocked else ""
    return len(result.materialized.intervals), "", message


def flip_next(backends: Backends) -> tuple[Flip, ...]:
    """Put the new generations in the place of the live ones, in one transaction.

    The online store has their newest publications before any reader can ask for them. Raises NotComplete, StoreError, and
    RegistryRestored when the stores know more than the registry.
    """
    check_incarnation(backends)
    for remaining in reversed(range(_FLIP_TRIES)):
        overlay = backends.registry.overlays.get(NEXT)
        over = backends.on_overlay(NEXT)
        online = {view.name: bring_online(over, view) for view in (overlay.views if overlay else ()) if view.step.online}
        try:
            return backends.registry.overlays.flip(online)
        except NotComplete as error:
            if not remaining or any(error.missing.get(view, 0) > 1 for view in error.missing):
                raise
    raise AssertionError("the loop returns or raises")


def roll_back(backends: Backends, view: str | None) -> tuple[Flip, ...]:
    """Make live again what the latest flip of a view replaced, with everything of that flip that it reads or that reads it.

    None: all of the latest flip. Returns what was undone. Raises UnknownFeature when there is nothing to roll back, and
    RegistryRestored when the stores know more than the registry.
    """
    check_incarnation(backends)
    overlays = backends.registry.overlays
    standing = [flip for flip in overlays.flips() if flip.rolled_back_at is None]
    chosen = [flip for flip in standing if view in (None, flip.view)]
    if not chosen:
        if view is not None:
            backends.registry.view(view)  # an unknown one is an error of its own
        known = sorted({flip.view for flip in standing})
        what = "nothing was flipped" if view is None else f"view {view!r} was never flipped, or was rolled back already"
        raise UnknownFeature(
            f"{what}.{did_you_mean(view or '', known)}" + (f" There are: {', '.join(known)}." if known else "")
        )
    same = [flip for flip in standing if flip.version == chosen[0].version]
    together = {flip.view for flip in same} if view is None else _connected(backends, view, {flip.view for flip in same})
    overlays.roll_back(together, chosen[0].version)
    return tuple(flip for flip in same if flip.view in together)


def _connected(backends: Backends, view: str, among: set[str]) -> set[str]:
    """Return the views among some that a view reads or that read it, directly or through one another."""
    edges: dict[str, set[str]] = {name: set() for name in among}
    for registered in backends.registry.views():
        for upstream in registered.step.upstream:
            if registered.name in among and upstream in among:
                edges[registered.name].add(upstream)
                edges[upstream].add(registered.name)
    found, waiting = {view}, [view]
    while waiting:
        fresh = edges[waiting.pop()] - found
        found |= fresh
        waiting += sorted(fresh)
    return found


def in_order(steps: Sequence[Step]) -> list[Step]:
    """Return steps so that each comes after those that it reads; ties by name."""
    waiting = {step.view: step for step in sorted(steps, key=lambda step: step.view)}
    ordered: list[Step] = []
    while waiting:
        ready = [step for step in waiting.values() if not any(name in waiting for name in step.upstream)]
        ordered.extend(waiting.pop(step.view) for step in ready or list(waiting.values()))
    return ordered
