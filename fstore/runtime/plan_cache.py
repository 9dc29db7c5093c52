"""The plan of a project, compiled once per content of its definitions.

Takes a project's settings and gives its definitions and its plan. Both are kept as one file per content of the definition
modules, so that parsing a DAG file runs no user code and imports no SQL parser: on a hit it lists the definition files,
compares their sizes and times with those of the last look, and reads what it needs. The plan is compiled without the
schemas of the sources; whoever knows those compiles again (``fstore.plan.compiler``). Losing the cache costs time only.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

import fstore
from fstore.decoding import decode_json
from fstore.definitions.files import FileStamp, scan_definitions
from fstore.definitions.project import Project
from fstore.definitions.serialization import decode_project, encode_project
from fstore.plan.steps import Plan, Step, decode_step, encode_step
from fstore.runtime.garbage import rarely_collected
from fstore.runtime.known_steps import StepFile
from fstore.settings import Settings

_FORMAT = 1
_KEPT_ENTRIES = 20
_TRANSIENT_SECONDS = 60.0
_STALE_TEMPORARY_SECONDS = 3_600
_SETTLED_NS = 2_000_000_000
"""How old a file's times must be for equal times to mean equal contents: file systems count time in steps."""

Value = TypeVar("Value")


class LoadedPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A project's definitions, and its plan without source schemas. ``plan.problems`` holds those of both."""

    project: Project
    plan: Plan


def load_plan(settings: Settings) -> LoadedPlan:
    """Return the plan of a project, from the cache when no definition file has changed.

    On a miss the modules run in a child process (see ``fstore.definitions.loader``) and the plan is compiled. If a module
    timed out or was killed, which may go better the next time, the result counts for a minute only: long enough for the
    parses that are waiting for it now. Raises nothing for broken definitions: they are problems of the plan.
    """
    cache = _Cache(settings)
    return cache.read(_read_plan, fresh=True) or cache.compile()


def load_definitions(settings: Settings) -> Project:
    """Return a project's definitions without compiling them, from a cache of their own."""
    cache = _Cache(settings, "definitions")
    return cache.read(_read_project, fresh=True) or cache.keep(cache.load())


def load_typed_plan(
    settings: Settings,
    project: Project,
    schemas: Mapping[str, Mapping[str, str]],
    compile_typed: Callable[[StepFile], Plan],
) -> Plan:
    """Return the plan of a project whose source schemas are known, from the cache when neither they nor a file changed.

    On a miss ``compile_typed`` makes it, given the steps of the last compilation, so that only what changed is compiled; it
    has to give the same for the same definitions and schemas.
    """
    cache = _Cache(settings, _digest({name: list(columns.items()) for name, columns in sorted(schemas.items())})[:16])
    found = cache.read(_read_plan, fresh=True)
    if found is not None:
        return found.plan
    known = cache.known_steps()
    with rarely_collected():
        plan = compile_typed(known)
    cache.keep_steps(known)
    bare = Project(project=project.project, directory=project.directory, dependencies=project.dependencies,
                   transient=project.transient)  # fmt: skip
    cache.keep(bare, plan)
    return plan


def load_pipeline(settings: Settings, pipeline: str) -> tuple[Step, ...]:
    """Return the steps of one pipeline in dependency order; none when the plan has no such pipeline.

    ``pipeline`` is ``f"{step.pipeline}.{step.schedule.label}"``, or the DAG id, which begins with the project's name. For
    the parse by a task: on a hit it decodes the steps of this pipeline only, so a thousand views cost what ten do, but for
    listing their files; and a module that hangs, in whatever pipeline, is not waited for again while no file changes.
    """
    cache = _Cache(settings)
    names = (pipeline, pipeline.removeprefix(f"{settings.project}."))
    found = cache.read(lambda header, file: _read_pipeline(header, file, names))
    if found is None:
        steps = cache.compile().plan.steps
        keys = {pipeline_key(step) for step in steps}
        wanted = next((name for name in names if name in keys), None)
        found = tuple(step for step in steps if pipeline_key(step) == wanted)
    return found


def pipeline_key(step: Step) -> str:
    """Return the name of the pipeline that a step belongs to, within its project."""
    return f"{step.pipeline}.{step.schedule.label}"


# -- the file of an entry ---------------------------------------------------------------------------------------------


class _Part(msgspec.Struct, frozen=True, array_like=True):
    """Where a part of an entry lies behind the header, and its checksum."""

    offset: int
    length: int
    checksum: int


class _Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of an entry. ``steps`` are in the order of the plan, with the pipeline that each belongs to.

    ``expires_at`` (seconds since the epoch) is there if loading again may give more.
    """

    format: int
    expires_at: float | None
    dependencies: dict[str, str]
    project: _Part
    rest: _Part
    steps: tuple[tuple[str, _Part], ...]


class _Recent(msgspec.Struct, frozen=True, kw_only=True):
    """The last look at the files of a project: if they look the same again, the entry's key is the same."""

    key: str
    stamp: str
    dependencies: tuple[str, ...]


def _read_part(file: BinaryIO, start: int, part: _Part) -> bytes:
    file.seek(start + part.offset)
    data = file.read(part.length)
    if zlib.crc32(data) != part.checksum:
        raise ValueError("the checksum of a part is wrong")
    return data


def _read_project(header: _Header, file: BinaryIO) -> Project:
    return decode_project(_read_part(file, file.tell(), header.project))


def _read_plan(header: _Header, file: BinaryIO) -> LoadedPlan:
    start = file.tell()
    project = decode_project(_read_part(file, start, header.project))
    rest = decode_json(_read_part(file, start, header.rest), Plan)
    steps = tuple(decode_step(_read_part(file, start, part)) for _, part in header.steps)
    return LoadedPlan(project=project, plan=msgspec.structs.replace(rest, steps=steps))


def _read_pipeline(header: _Header, file: BinaryIO, names: Sequence[str]) -> tuple[Step, ...]:
    start = file.tell()
    for name in names:
        parts = [part for pipeline, part in header.steps if pipeline == name]
        if parts:
            return tuple(decode_step(_read_part(file, start, part)) for part in parts)
    return ()


def _encode_entry(loaded: LoadedPlan, dependencies: dict[str, str]) -> Iterator[bytes]:
    """Yield the lines of an entry: the header, the project, the plan without its steps, and every step."""
    rest = msgspec.json.encode(msgspec.structs.replace(loaded.plan, steps=()))
    lines = [encode_project(loaded.project), rest, *(encode_step(step).encode() for step in loaded.plan.steps)]
    parts: list[_Part] = []
    offset = 0
    for line in lines:
        parts.append(_Part(offset, len(line), zlib.crc32(line)))
        offset += len(line) + 1
    header = _Header(
        format=_FORMAT,
        expires_at=time.time() + _TRANSIENT_SECONDS if loaded.project.transient else None,
        dependencies=dependencies,
        project=parts[0],
        rest=parts[1],
        steps=tuple(zip(map(pipeline_key, loaded.plan.steps), parts[2:], strict=True)),
    )
    for line in (msgspec.json.encode(header), *lines):
        yield line + b"\n"


# -- the directory of entries -----------------------------------------------------------------------------------------


class _Cache:
    """The entries of one project in a directory that several projects may share."""

    def __init__(self, settings: Settings, variant: str = "") -> None:
        """Look at the files of a project; ``variant`` tells entries of the same files apart."""
        self.settings, self.variant = settings, variant
        self.definitions = settings.definitions_dir.resolve()
        self.folder = Path(settings.cache_dir) / "plans"
        identity = hashlib.sha256(f"{settings.project}\n{self.definitions}".encode()).hexdigest()[:16]
        self.recent_file = self.folder / f"recent-{identity}.json"
        self.steps_file = self.folder / f"steps-{identity}.jsonl"
        self.files = _scan(self.definitions)

    def read(self, reader: Callable[[_Header, BinaryIO], Value], *, fresh: bool = False) -> Value | None:
        """Return what a reader makes of the entry of the definitions as they are now.

        None when there is none, it is not whole, or something it depends on has changed; with ``fresh`` also when loading
        again may give more by now.
        """
        if not self.files:
            return None
        recent = self._recent()
        known = recent is not None and recent.stamp == self._stamp(recent.dependencies)
        key = recent.key if recent is not None and known else self._content_key()
        try:
            with self._entry(key).open("rb") as file:
                header = decode_json(file.readline(), _Header)
                expired = header.expires_at is not None and fresh and time.time() > header.expires_at
                if header.format != _FORMAT or expired or not (known or self._confirms(key, header)):
                    return None
                return reader(header, file)
        except (OSError, ValueError):  # msgspec's errors are among them; whatever is wrong with an entry, compiling is right
            return None

    def compile(self) -> LoadedPlan:
        """Load and compile the definitions, and keep the result."""
        # Imported here because a hit, which is every parse of a DAG file but one, must not pay for an SQL parser.
        from fstore.plan.compiler import compile_plan  # noqa: PLC0415

        before = self.files
        key = self._content_key() if before else ""
        project = self.load()
        with rarely_collected():
            loaded = LoadedPlan(project=project, plan=compile_plan(project, {}))
        if key and _scan(self.definitions) == before:
            with contextlib.suppress(OSError):  # a read-only or full disk costs time, not correctness
                self._keep(key, loaded)
        return loaded

    def load(self) -> Project:
        """Load the definitions in a child process."""
        from fstore.definitions.loader import load_project  # noqa: PLC0415

        return load_project(self.definitions, self.settings.project, timeout=self.settings.load_timeout)

    def keep(self, project: Project, plan: Plan | None = None) -> Project:
        """Keep an entry of this variant unless a file changed since it was begun; return the project."""
        if self.files and _scan(self.definitions) == self.files:
            with contextlib.suppress(OSError):  # a read-only or full disk costs time, not correctness
                self._keep(self._content_key(), LoadedPlan(project=project, plan=plan or Plan(project=project.project)))
        return project

    def known_steps(self) -> StepFile:
        """Return the steps of the last compilation with the schemas of the sources."""
        compiled_by = _digest(_FORMAT, fstore.__version__, _code_stamp(), version("duckdb"), version("sqlglot"))
        return StepFile(self.steps_file, compiled_by)

    def keep_steps(self, steps: StepFile) -> None:
        """Keep the steps that a compilation used."""
        if document := steps.document():
            with contextlib.suppress(OSError):  # a read-only or full disk costs time, not correctness
                self.folder.mkdir(parents=True, exist_ok=True)
                _write_atomically(self.steps_file, document)

    def _entry(self, key: str) -> Path:
        return self.folder / f"{key}{'-' if self.variant else ''}{self.variant}.jsonl"

    def _content_key(self) -> str:
        """Return the key of the contents of all definition files, and of everything else that decides the plan."""
        contents = [(stamp.path, _hash_file(f"{self.definitions}/{stamp.path}")) for stamp in self.files]
        return _digest(_FORMAT, *self._environment(), contents)

    def _environment(self) -> tuple[object, ...]:
        python = ".".join(map(str, sys.version_info[:2]))
        return fstore.__version__, _code_stamp(), python, self.settings.project, self.definitions.name

    def _stamp(self, dependencies: Iterable[str]) -> str:
        """Return a digest of the sizes and times of all files that decide the plan; empty when they are too fresh."""
        files = [*self.files, *(_stamp_of(path) for path in dependencies)]
        newest = max((max(file.modified_ns, file.changed_ns) for file in files), default=0)
        settled = newest < time.time_ns() - _SETTLED_NS
        return _digest(*self._environment(), files) if settled else ""

    def _recent(self) -> _Recent | None:
        try:
            recent = decode_json(self.recent_file.read_bytes(), _Recent)
        except (OSError, ValueError):
            return None
        return recent if recent.stamp else None

    def _confirms(self, key: str, header: _Header) -> bool:
        """Whether the files outside of the definitions that an entry depends on have not changed; remember it if so."""
        if any(_hash_file(path) != digest for path, digest in header.dependencies.items()):
            return False
        if stamp := self._stamp(header.dependencies):
            with contextlib.suppress(OSError):
                self._remember(key, stamp, header.dependencies)
        return True

    def _remember(self, key: str, stamp: str, dependencies: Iterable[str]) -> None:
        recent = _Recent(key=key, stamp=stamp, dependencies=tuple(dependencies))
        _write_atomically(self.recent_file, [msgspec.json.encode(recent)])

    def _keep(self, key: str, loaded: LoadedPlan) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        dependencies = {path: _hash_file(path) for path in loaded.project.dependencies}
        _write_atomically(self._entry(key), _encode_entry(loaded, dependencies))
        self._remember(key, self._stamp(dependencies), dependencies)
        self._prune()

    def _prune(self) -> None:
        """Remove the oldest entries, and what writers that were killed left behind."""
        stale = time.time_ns() - _STALE_TEMPORARY_SECONDS * 1_000_000_000
        removed = [file for file in self.folder.glob("*.tmp") if _modified_ns(file) < stale]
        for pattern in ("*.jsonl", "recent-*.json"):
            removed += sorted(self.folder.glob(pattern), key=_modified_ns, reverse=True)[_KEPT_ENTRIES:]
        for file in removed:
            file.unlink(missing_ok=True)


def _scan(directory: Path) -> list[FileStamp]:
    try:
        return scan_definitions(directory)
    except OSError:
        return []


def _digest(*values: object) -> str:
    return hashlib.sha256(msgspec.json.encode(values)).hexdigest()


def _hash_file(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return "unreadable"


def _stamp_of(path: str) -> FileStamp:
    try:
        status = Path(path).stat()
    except OSError:
        return FileStamp(path, -1, 0, 0)
    return FileStamp(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _modified_ns(file: Path) -> int:
    return _stamp_of(str(file)).modified_ns


def _code_stamp() -> list[tuple[str, int, int]]:
    """Return what changes when this package does: a development install keeps its version while its code changes."""
    package = Path(fstore.__file__).parent
    return [
        (entry.name, status.st_size, status.st_mtime_ns)
        for folder in (package, package / "definitions", package / "plan")
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name)
        if entry.name.endswith(".py") and (status := entry.stat())
    ]


def _write_atomically(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file so that readers see the old one or the whole new one."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.stem}-", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(chunks)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
