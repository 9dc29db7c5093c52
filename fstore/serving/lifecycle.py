"""The life of a worker: serving, then draining, then gone.

On SIGTERM readiness goes down at once, while requests are served as before for the drain time, so that a load balancer can
look elsewhere first; every answer then closes its connection. After that the server stops accepting and finishes what it has
begun. SIGINT does not drain.
"""

from __future__ import annotations

import asyncio
import signal
from types import FrameType


class Lifecycle:
    """Whether this worker is draining."""

    def __init__(self) -> None:
        self.draining = False

    def drain_on_terminate(self, seconds: float) -> None:
        """Put the drain time before what SIGTERM does now. To be called on the main thread, in a running loop."""
        loop = asyncio.get_running_loop()
        stop = signal.getsignal(signal.SIGTERM)

        def finish() -> None:
            signal.signal(signal.SIGTERM, stop)
            signal.raise_signal(signal.SIGTERM)

        def begin() -> None:
            if not self.draining:
                self.draining = True
                loop.call_later(seconds, finish)

        def terminate(_signal: int, _frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(begin)

        signal.signal(signal.SIGTERM, terminate)
