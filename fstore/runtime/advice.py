"""What to do about what is not as it should be, for one view, or for all views of which the same is to be said.

Wording only: takes what was found out about views, asks nothing and repairs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

Kind: TypeAlias = Literal[
    "missing", "stale", "damaged", "blocked", "failed", "pending", "lost", "behind", "unknown", "project"
]

NAMED = 5
"""How many views are named where the same is said of many."""

_CATCH_UP = "scheduled runs compute up to {detail} at a time, oldest first"

_PROBLEMS: dict[Kind, str] = {
    "missing": "{count:,} due interval(s) are not published; " + _CATCH_UP,
    "stale": "{count:,} interval(s) were computed from what has changed; " + _CATCH_UP,
    "damaged": "the files of {count:,} published interval(s) are damaged or gone",
    "blocked": "{count:,} interval(s) are blocked by their checks (registry table check_results): correct the data or the "
    "check, then compute them by name",
    "failed": "the last attempt failed: {detail}",
    "pending": "publications wait to go online",
    "lost": "the online store has lost it",
    "behind": "the online store does not have the newest publication",
    "unknown": "the online store cannot say how it stands ({detail})",
}

_COMMANDS: dict[Kind, str] = {
    "missing": "fstore run{select}",
    "stale": "fstore repair{view}",
    "damaged": "fstore repair{view}",
    "blocked": "fstore run{select}",
    "failed": "fstore run{select}",
    "pending": "fstore maintain",
    "lost": "fstore repair{view} --online",
    "behind": "fstore repair{view} --online",
    "unknown": "fstore doctor",
}


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it should be, and what to do; ``view`` is empty for the project, ``command`` for nothing.

    ``count`` is how many intervals it is about; ``detail`` what else the problem names: an error, or how many at a time.
    """

    problem: str
    command: str
    view: str = ""
    kind: Kind = "project"
    count: int = 0
    detail: str = ""

    @classmethod
    def about(cls, view: str, kind: Kind, count: int, *, detail: str = "", rest: str = "") -> Advice:
        """Return what is to be said of a view; ``rest`` is added to the command."""
        command = _COMMANDS[kind].format(select=f" --select {view}", view=f" {view}") + rest
        problem = _PROBLEMS[kind].format(count=count, detail=detail)
        return cls(view=view, kind=kind, count=count, detail=detail, problem=problem, command=command)


def joined(advice: Sequence[Advice]) -> list[Advice]:
    """Return advice with that of the same kind and detail in one, in the order of the first; its ``view`` names several."""
    groups: dict[tuple[Kind, str], list[Advice]] = {}
    alone: list[list[Advice]] = []
    for item in advice:
        if item.kind == "project":
            alone.append([item])
        else:
            groups.setdefault((item.kind, item.detail), []).append(item)
    return [group[0] if len(group) == 1 else _of_all(group) for group in (*groups.values(), *alone)]


def _of_all(group: Sequence[Advice]) -> Advice:
    """Return what is to be said of several views; the command is for all that are as these, or names those that are."""
    views = list(dict.fromkeys(item.view for item in group))
    more = f" and {len(views) - NAMED:,} more" if len(views) > NAMED else ""
    kind, detail, count = group[0].kind, group[0].detail, sum(item.count for item in group)
    command = "fstore status --json" if kind == "blocked" else _COMMANDS[kind].format(select="", view="")
    return Advice(
        view=", ".join(views[:NAMED]) + more, kind=kind, count=count, detail=detail,
        problem=_PROBLEMS[kind].format(count=count, detail=detail), command=command,
    )  # fmt: skip
