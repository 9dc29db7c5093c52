"""Memory for what is decoded and soon forgotten: the system's allocator instead of Arrow's own.

Arrow's allocator asks for huge pages, and the kernel clears each of them whole: up to a fifth of a
read and 70 MB, for a million rows. Who chose another allocator keeps it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

import pyarrow as pa

_changing = threading.Lock()
os.register_at_fork(before=_changing.acquire, after_in_parent=_changing.release, after_in_child=_changing.release)
_inside = 0


@contextlib.contextmanager
def system_memory() -> Iterator[None]:
    """Have Arrow give the system's memory to readers that are opened within; they use it for as long as they live.

    ``pyarrow`` has no argument for that, only one setting for all: keep the block short. Other threads may be within, too.
    """
    global _inside  # noqa: PLW0603  (it counts who is within, as the setting is one for all)
    with _changing:
        ours = _inside > 0 or pa.default_memory_pool().backend_name == "mimalloc"
        if ours and not _inside:
            pa.set_memory_pool(pa.system_memory_pool())
        _inside += ours
    try:
        yield
    finally:
        with _changing:
            _inside -= ours
            if ours and not _inside:
                pa.set_memory_pool(pa.mimalloc_memory_pool())
