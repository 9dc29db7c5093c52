"""Whether the server lives, and whether it can answer: the two probes.

Live is a process that answers. Ready is one that is not draining and reaches the registry and the online store; the answer
says what it does not reach. What was found holds for a second, so that probes cost the stores nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from fstore.backends import Backends
from fstore.errors import FStoreError, StoreMissing
from fstore.serving.exchange import Answer, Received
from fstore.serving.lifecycle import Lifecycle
from fstore.serving.media import JSON_TYPE

_HOLDS_SECONDS = 1.0
_PATIENCE = 2.0
"""For how many seconds a part may think before it counts as unreachable."""


class Check(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One part: whether it can be used, and else the error's code and message."""

    ok: bool
    code: str = ""
    detail: str = ""


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether requests should come here, and why not."""

    ready: bool
    checks: dict[str, Check]


class Health:
    """Answers the probes of one worker."""

    def __init__(self, backends: Backends, lifecycle: Lifecycle) -> None:
        self._backends, self._lifecycle = backends, lifecycle
        self._found: dict[str, Check] = {}
        self._checked_at = float("-inf")
        self._checking = asyncio.Lock()

    async def live(self, _received: Received) -> Answer:
        """Answer ``GET /health/live``."""
        return Answer(body=[b'{"live":true}'], content_type=JSON_TYPE)

    async def ready(self, _received: Received) -> Answer:
        """Answer ``GET /health/ready``: 200, or 503 with what is wrong."""
        async with self._checking:
            if time.monotonic() - self._checked_at > _HOLDS_SECONDS:
                registry, online = await asyncio.gather(self._check(self._see_registry), self._check(self._see_online))
                self._found, self._checked_at = {"registry": registry, "online store": online}, time.monotonic()
        checks = dict(self._found)
        if self._lifecycle.draining:
            checks["server"] = Check(ok=False, code="draining", detail="this process is about to end")
        readiness = Readiness(ready=all(check.ok for check in checks.values()), checks=checks)
        return Answer(
            body=[msgspec.json.encode(readiness)], content_type=JSON_TYPE, status=200 if readiness.ready else 503,
            headers=() if readiness.ready else ((b"retry-after", b"1"),),
        )  # fmt: skip

    def _see_registry(self) -> None:
        self._backends.registry.version()

    def _see_online(self) -> None:
        """Open the store, which compares its id with the registry's, or ask an opened one: a flushed store has none."""
        if self._backends.online.store_id() is None:
            raise StoreMissing("the online store was never created, or was flushed: every read needs it filled again")

    async def _check(self, see: Callable[[], None]) -> Check:
        try:
            await asyncio.wait_for(asyncio.to_thread(see), _PATIENCE)
        except FStoreError as error:
            return Check(ok=False, code=error.code, detail=str(error))
        except TimeoutError:
            return Check(ok=False, code="deadline_exceeded", detail=f"no answer within {_PATIENCE:g} s")
        return Check(ok=True)
