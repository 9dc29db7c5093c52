"""Less work for Python's garbage collector while many objects are made that stay.

Decoding or compiling a thousand views makes millions of objects, nearly all of which live until the end; walking them again
and again is a quarter of the time. Changes a setting of the whole process for as long as somebody is inside, and nothing of
what is computed.
"""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterator

_YOUNG_OBJECTS = 100_000
"""After how many new objects the collector runs. Syntax trees refer to their parents, so that it cannot just be stopped."""

_guard = threading.Lock()
_inside = 0
_before: tuple[int, int, int] = (0, 0, 0)


@contextlib.contextmanager
def rarely_collected() -> Iterator[None]:
    """Let the collector run rarely within the block; threads that are in it together share the setting."""
    global _inside, _before  # noqa: PLW0603  (the collector is one per process as well)
    with _guard:
        _inside += 1
        if _inside == 1:
            _before = gc.get_threshold()
            if 0 < _before[0] < _YOUNG_OBJECTS:
                gc.set_threshold(_YOUNG_OBJECTS, *_before[1:])
    try:
        yield
    finally:
        with _guard:
            _inside -= 1
            if _inside == 0:
                gc.set_threshold(*_before)
