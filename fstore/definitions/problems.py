"""Collecting problems, so that all the mistakes of a project are reported together.

A :class:`Reporter` knows what it speaks about (a view, a feature, a source) and where that was written; a problem's text
goes on from there, as in "feature view 'x' (file:1) *has no entity.*" Nothing is raised.
"""

from __future__ import annotations

from collections.abc import Iterable

from fstore.definitions.location import Location
from fstore.definitions.project import Problem
from fstore.errors import did_you_mean, listing


class Reporter:
    """Collects problems about one subject."""

    def __init__(self, problems: list[Problem], subject: str, location: Location | None) -> None:
        self.problems, self.subject, self.location = problems, subject, location

    def add(self, problem: str, fix: str = "", *, at: Location | None = None) -> None:
        """Record a problem: a verb phrase that ends with a full stop, and how to fix it."""
        place = at or self.location
        file, line = (place.file, place.line) if place else ("", 0)
        self.problems.append(Problem(problem=problem, subject=self.subject, file=file, line=line, fix=fix.strip()))

    def unknown(self, phrase: str, name: str, candidates: Iterable[str], noun: str) -> None:
        """Record that ``phrase`` (a verb and a kind of thing) names something that is not among the candidates."""
        known = list(candidates)
        self.add(f"{phrase} {name!r}, which is not one of {noun}: {listing(known)}.", did_you_mean(name, known))

    def about(self, subject: str, location: Location | None) -> Reporter:
        """Return a reporter of another subject that adds to the same problems."""
        return Reporter(self.problems, subject, location or self.location)
