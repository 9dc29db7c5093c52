"""Work of many transactions holds the registry, so that none of them has to connect to it again."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from fstore.backends import Backends

P = ParamSpec("P")
R = TypeVar("R")


def holding(work: Callable[Concatenate[Backends, P], R]) -> Callable[Concatenate[Backends, P], R]:
    """Let a function hold the registry of its first argument while it runs; one may call another."""

    @functools.wraps(work)
    def run(backends: Backends, /, *arguments: P.args, **named: P.kwargs) -> R:
        with backends.registry.holding():
            return work(backends, *arguments, **named)

    return run
