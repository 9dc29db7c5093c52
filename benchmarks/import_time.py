"""What importing the definition language costs over starting Python.

Every definition module begins with ``from fstore import …``, and every load of a project starts a process that does. Runs
``python -c pass`` and the import by turns, and gives the median difference as a share of the 100 ms that are allowed.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

BUDGET_MS = 100
RUNS = 15
IMPORT = "from fstore import Entity, FeatureView, agg, check, expr"


def run_ms(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return (time.perf_counter() - started) * 1000


def main() -> None:
    for code in ("pass", IMPORT):  # once each, so that files are in memory and compiled
        run_ms(code)
    pairs = [(run_ms("pass"), run_ms(IMPORT)) for _ in range(RUNS)]
    bare, whole = (statistics.median(column) for column in zip(*pairs, strict=True))
    cost = statistics.median(after - before for before, after in pairs)
    print(
        f"import_time ratio={cost / BUDGET_MS:.2f} {cost:.0f} ms over bare Python ({bare:.0f} ms bare, {whole:.0f} ms with "
        f"the import; median of {RUNS} pairs; budget {BUDGET_MS} ms)"
    )


if __name__ == "__main__":
    main()
