"""What the server counts, as text for Prometheus: requests, their duration and their rows, by route.

Every worker counts in a small file of its own in a directory that all of them share, mapped into memory, so that whichever
worker is asked can answer for all; what an ended worker counted stays. Counting costs a few additions and takes no lock: a
worker counts on one thread.
"""

from __future__ import annotations

import bisect
import mmap
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from fstore.serving.problems import STATUSES

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHER = "other"
ROUTES = ("online-features", "historical-features", "batch-features", "scan-historical-features", OTHER)
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds of durations in seconds; what takes longer counts in ``+Inf`` only."""

_STATUS_AT = {status: place for place, status in enumerate(STATUSES)}
_STATUS_AT_OTHER = len(STATUSES)
_SECONDS = len(STATUSES) + 1
_BUCKET_AT = _SECONDS + 1
_ROWS = _BUCKET_AT + len(_BUCKETS) + 1
_RUNNING = _ROWS + 1
_WIDTH = _RUNNING + 1
_BYTES = 8 * _WIDTH * len(ROUTES)


class Metrics:
    """The counts of one worker, and the sum of all workers'."""

    def __init__(self, directory: Path) -> None:
        """Begin to count in a new file of a directory that exists."""
        self._directory = directory
        path = directory / f"{os.getpid()}.counts"
        path.write_bytes(bytes(_BYTES))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _BYTES)
        self._counts = memoryview(self._map).cast("d")
        self._at = {route: place * _WIDTH for place, route in enumerate(ROUTES)}

    def began(self, route: str) -> None:
        """Count a request that begins."""
        self._counts[self._at[route] + _RUNNING] += 1

    def ended(self, route: str, status: int, seconds: float, rows: int) -> None:
        """Count a request that has ended."""
        counts, at = self._counts, self._at[route]
        counts[at + _RUNNING] -= 1
        counts[at + _STATUS_AT.get(status, _STATUS_AT_OTHER)] += 1
        counts[at + _SECONDS] += seconds
        counts[at + _BUCKET_AT + bisect.bisect_left(_BUCKETS, seconds)] += 1
        counts[at + _ROWS] += rows

    def text(self) -> str:
        """Return the counts of all workers in Prometheus' text format."""
        return "\n".join(_lines(*self._summed())) + "\n"

    def close(self) -> None:
        """Stop counting; the file stays for the other workers."""
        self._counts.release()
        self._map.close()

    def _summed(self) -> tuple[Sequence[float], int]:
        """Return the sum of all files, and how many workers run; requests that an ended worker left are not running."""
        total = [0.0] * (_WIDTH * len(ROUTES))
        workers = 0
        for path in sorted(self._directory.glob("*.counts")):
            data = path.read_bytes()
            if len(data) != _BYTES:  # a worker that is just beginning
                continue
            runs = _runs(int(path.stem))
            workers += runs
            for place, value in enumerate(memoryview(data).cast("d")):
                if runs or place % _WIDTH != _RUNNING:
                    total[place] += value
        return total, workers


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _lines(counts: Sequence[float], workers: int) -> Iterator[str]:
    yield from _head("fstore_workers", "gauge", "Worker processes that run.")
    yield f"fstore_workers {workers}"
    at = {route: place * _WIDTH for place, route in enumerate(ROUTES)}
    yield from _head("fstore_http_requests_total", "counter", "Requests that were answered.")
    for route, start in at.items():
        for place, status in enumerate((*STATUSES, "other")):
            if count := counts[start + place]:
                yield f'fstore_http_requests_total{{route="{route}",status="{status}"}} {count:.0f}'
    yield from _head("fstore_http_requests_running", "gauge", "Requests that are being answered.")
    for route, start in at.items():
        yield f'fstore_http_requests_running{{route="{route}"}} {counts[start + _RUNNING]:.0f}'
    yield from _head("fstore_http_rows_total", "counter", "Entity rows that were answered.")
    for route, start in at.items():
        yield f'fstore_http_rows_total{{route="{route}"}} {counts[start + _ROWS]:.0f}'
    yield from _head("fstore_http_request_seconds", "histogram", "Time from a request's head to its answer's end.")
    for route, start in at.items():
        reached = 0.0
        for place, bound in enumerate((*(f"{bucket:g}" for bucket in _BUCKETS), "+Inf")):
            reached += counts[start + _BUCKET_AT + place]
            yield f'fstore_http_request_seconds_bucket{{route="{route}",le="{bound}"}} {reached:.0f}'
        yield f'fstore_http_request_seconds_sum{{route="{route}"}} {counts[start + _SECONDS]:.9g}'
        yield f'fstore_http_request_seconds_count{{route="{route}"}} {reached:.0f}'


def _head(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
