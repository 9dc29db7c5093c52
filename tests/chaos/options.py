"""What a run of the chaos harness was asked for, and how its parts say how far they are and what they found."""

from __future__ import annotations

import random
import sys
import time
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Options:
    """What every part is given; :meth:`progress` and :meth:`violation` are how it speaks."""

    scenarios: int | None = None
    """How many scenarios a part should run (None: as many as its form of the run needs)."""
    seconds: float | None = None
    """After how many seconds a part should begin nothing new (None: no limit)."""
    seed: int = field(default_factory=lambda: random.SystemRandom().randrange(1_000_000))
    registry: tuple[str, ...] = ("sqlite",)
    online: tuple[str, ...] = ("lmdb",)
    long: bool = False
    jobs: int = 2
    only: str | None = None
    """``<failpoint>#<seed>``, or what else a part printed with a violation: repeat that one scenario."""
    quiet: bool = False
    _drawn_at: float = 0.0

    def progress(self, part: str, done: int, total: int | None, violations: int = 0) -> None:
        """Show how far a part is, a few times a second where somebody looks and every half minute elsewhere."""
        now, looking = time.monotonic(), sys.stderr.isatty()
        if self.quiet or (now - self._drawn_at < (0.2 if looking else 30.0) and done != total):
            return
        self._drawn_at = now
        text = f"{part}: {done:,}" + (f" of {total:,}" if total else "") + f" scenarios, {violations} violations"
        sys.stderr.write(f"\r{text:<78}" + ("\n" if done == total else "") if looking else text + "\n")
        sys.stderr.flush()

    def violation(self, part: str, repeat: str, text: str) -> None:
        """Print a violation and what repeats its scenario."""
        print(f"VIOLATION in {part}: {text}\n  repeat: python -m tests.chaos --parts {part} --only '{repeat}'", flush=True)
