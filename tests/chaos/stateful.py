"""What the stateful models share: how many examples, from which seed, how a failure is printed and steps are counted.

A model is a Hypothesis state machine that does the same to the product and to a naive Python model of it, which shares no
code with the product, and compares the two after every step. ``FSTORE_CHAOS_EXAMPLES`` and ``FSTORE_CHAOS_STEPS`` make the
tests longer.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable
from functools import partial

import hypothesis
import msgspec
from hypothesis import HealthCheck, Verbosity, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, run_state_machine_as_test

from tests.chaos.options import Options


class Counted(RuleBasedStateMachine):
    """A state machine that knows how many steps all of its runs took."""

    taken = 0
    told: Callable[[int], None] | None = None

    @invariant()
    def count(self) -> None:
        """Count the step that was just taken."""
        kind = type(self)
        kind.taken += 1
        if kind.told is not None:
            kind.told(kind.taken)


def sizes(examples: int, steps: int) -> settings:
    """Return the settings of a test with so many examples of so many steps, unless the environment asks for others."""
    return settings(
        max_examples=int(os.environ.get("FSTORE_CHAOS_EXAMPLES") or examples),
        stateful_step_count=int(os.environ.get("FSTORE_CHAOS_STEPS") or steps),
        deadline=None, suppress_health_check=list(HealthCheck), print_blob=True, database=None,
    )  # fmt: skip


def machine_at(kind: type[Counted], **places: object) -> type[Counted]:
    """Return a state machine of its own, with what it needs to know as attributes of the class."""
    return type(kind.__name__, (kind,), {**places, "taken": 0, "told": None})


def run_test(machine: type[Counted], *, examples: int, steps: int) -> None:
    """Run a machine as a test."""
    run_state_machine_as_test(machine, settings=sizes(examples, steps))


def run_part(
    options: Options, part: str, machines: dict[str, type[Counted]], *, examples: int, steps: int
) -> tuple[int, int]:
    """Run machines as a part of the harness, and return how many steps they took and how many violations there were.

    A violation is repeated by the machine's name and the seed.
    """
    done = violations = 0
    chosen, _, seed = (options.only or "").rpartition("#")
    began = time.monotonic()
    for name, machine in machines.items():
        if chosen and name != chosen:
            continue
        start = int(seed) if chosen else options.seed
        more = True
        while more:
            machine.taken = 0
            machine.told = partial(_tell, options, part, done)
            try:
                run_state_machine_as_test(
                    hypothesis.seed(start)(machine), settings=settings(sizes(examples, steps), verbosity=Verbosity.quiet)
                )
            except Exception as error:  # noqa: BLE001 (whatever it is, it is a violation)
                violations += 1
                notes = "\n  ".join(getattr(error, "__notes__", ()))
                options.violation(part, f"{name}#{start}", f"{_last_lines(error)}\n  {notes}")
            done += machine.taken
            wanted = options.seconds is not None and time.monotonic() - began < options.seconds / len(machines)
            enough = options.scenarios is None or done * len(machines) >= options.scenarios
            more, start = not chosen and not violations and (wanted or not enough), start + 1
    return done, violations


def event(run: str) -> str:
    """Return a lineage event of a run that completed."""
    return msgspec.json.encode({
        "eventType": "COMPLETE", "eventTime": "2026-01-01T00:00:00Z", "run": {"runId": run},
        "job": {"namespace": "shop", "name": "job"}, "producer": "https://example.org", "inputs": [], "outputs": [],
    }).decode()  # fmt: skip


def _tell(options: Options, part: str, before: int, taken: int) -> None:
    options.progress(part, before + taken, None)


def _last_lines(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)[-4:])
