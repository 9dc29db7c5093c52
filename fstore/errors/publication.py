"""Errors of publishing, and of inputs that are not there."""

from __future__ import annotations

from collections.abc import Mapping

from fstore.errors.root import FStoreError


class PublishError(FStoreError):
    """An attempt that cannot be published."""

    code = "publish_error"


class Fenced(PublishError):
    """A newer attempt of the same run and view has begun: this one is a zombie and must stop."""

    code = "fenced"

    def __init__(self, attempt: int, newer: int | None, view: str) -> None:
        self.attempt, self.newer, self.view = attempt, newer, view
        by = "a later try" if newer is None else f"attempt {newer}"
        super().__init__(
            f"attempt {attempt} of view {view!r} was overtaken by {by} of the same run; it publishes nothing "
            "and its files are left for the sweeper. Nothing needs to be done."
        )


class AttemptUnknown(PublishError):
    """The attempt does not exist, or has not reached the state that this step needs."""

    code = "attempt_unknown"


class InputsChanged(PublishError):
    """A publication pinned as an input was replaced while the attempt was computing."""

    code = "inputs_changed"
    retryable = True


class DefinitionChanged(PublishError):
    """Another definition of the view was registered after the run was prepared; running it again takes that one."""

    code = "definition_changed"
    retryable = True


class NotComplete(PublishError):
    """A new generation lacks intervals that are live. ``missing`` maps views to how many."""

    code = "not_complete"

    def __init__(self, message: str, missing: Mapping[str, int] | None = None) -> None:
        self.missing = dict(missing or {})
        super().__init__(message)


class InputsNotReady(FStoreError):
    """An upstream interval that this view reads is not published yet."""

    code = "inputs_not_ready"
    retryable = True


class InputsImpossible(FStoreError):
    """An upstream can never produce the interval that this view reads."""

    code = "inputs_impossible"
