"""Errors of definitions and settings."""

from __future__ import annotations

from collections.abc import Sequence

from fstore.errors.root import FStoreError


class DefinitionError(FStoreError):
    """One mistake in a definition, with the place where it was made."""

    code = "definition_error"

    def __init__(self, problem: str, *, subject: str = "", file: str = "", line: int = 0, fix: str = "") -> None:
        self.problem, self.subject, self.file, self.line, self.fix = problem, subject, file, line, fix
        super().__init__(str(self))

    def __str__(self) -> str:
        where = f" ({self.file}:{self.line})" if self.file else ""
        head = f"{self.subject}{where}" if self.subject else f"{self.file}:{self.line}" if self.file else ""
        text = f"{head}{' ' if self.subject else ': '}{self.problem}" if head else self.problem
        return f"{text} {self.fix}" if self.fix else text


class DefinitionErrors(FStoreError):
    """All the mistakes of a project, reported together in order of file and line."""

    code = "definition_errors"

    def __init__(self, problems: Sequence[DefinitionError]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.file, problem.line, str(problem))))
        count = len(self.problems)
        lines = [f"{count} definition {'error' if count == 1 else 'errors'}:", *(f"  {p}" for p in self.problems)]
        super().__init__("\n".join(lines))


class SettingsError(FStoreError):
    """A setting, a URL or an optional dependency that is wrong or missing."""

    code = "settings_error"
