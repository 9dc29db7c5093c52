"""Decoders that many threads ask for at once, in a process that has made none."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest

from fstore import decoding
from fstore.plan.steps import decode_step, encode_step
from fstore.retrieval import arrow_memory
from tests.retrieval.publishing import features, make_step

SCRIPT = """
import sys, threading
from fstore.plan.steps import decode_step, encode_step

sys.setswitchinterval(1e-6)
text, found, all_there = sys.stdin.read(), [], threading.Barrier(16)

def decode():
    all_there.wait()
    found.append(encode_step(decode_step(text)))

threads = [threading.Thread(target=decode) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert found == [text] * 16
"""


def test_threads_that_decode_the_first_step_at_once_do_no_harm() -> None:
    step = make_step(
        "orders", features=features(("n", "int64", 0)), ttl=timedelta(days=3), end=datetime(2026, 2, 1, tzinfo=UTC)
    )
    text = encode_step(step)
    assert decode_step(text) == step
    for _ in range(8):  # half of them ended by a signal when each thread let msgspec find out for itself
        done = subprocess.run([sys.executable, "-c", SCRIPT], input=text, text=True, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("lock", [decoding._MAKING, arrow_memory._changing])
def test_a_child_does_not_wait_for_a_thread_that_it_has_not(lock: threading.Lock) -> None:
    held, forked = threading.Event(), threading.Event()
    statuses: list[int] = []

    def hold() -> None:
        with lock:
            held.set()
            forked.wait(1)  # a fork that waits for the lock comes afterwards

    def fork() -> None:
        held.wait()
        if pid := os.fork():
            forked.set()
            statuses.append(os.waitpid(pid, 0)[1])
        else:
            os._exit(0 if lock.acquire(timeout=10) else 1)

    threads = [threading.Thread(target=hold), threading.Thread(target=fork)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0]
