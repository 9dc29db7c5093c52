"""The values that overlays take and give: staged views, overlays and flips. Frozen values without behaviour."""

from __future__ import annotations

from datetime import datetime

import msgspec

from fstore.plan.steps import PlannedService
from fstore.registry.records import RegisteredView


class StagedView(msgspec.Struct, frozen=True, kw_only=True):
    """The generation of an overlay in which a view goes on; ``adopted`` if the same definition had published it before."""

    view: str
    generation: int
    adopted: bool = False


class Overlay(msgspec.Struct, frozen=True, kw_only=True):
    """Views with steps and generations of their own over the live ones; ``held`` ones wait to be flipped by hand."""

    name: str
    held: bool
    views: tuple[RegisteredView, ...]
    services: tuple[PlannedService, ...]
    created_at: datetime


class Flip(msgspec.Struct, frozen=True, kw_only=True):
    """One view whose generation took the place of another; ``version`` is the project's that all views of a flip share.

    ``old_version`` is 0 for a view that was not live before. ``sequence`` is the flip's own in the publication
    log: reads as of it and later see the new generation.
    """

    version: int
    view: str
    old_version: int
    old_generation: int
    new_generation: int
    fingerprint: str
    sequence: int
    flipped_at: datetime
    rolled_back_at: datetime | None = None
