"""Settings of a project: where its stores are and what the engine may use.

Read once at the edge (CLI, DAG file, client) from the environment or from ``[tool.fstore]`` in ``pyproject.toml``;
definitions never contain any of it. The environment wins. Relative URLs resolve from the project's root.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Literal

import msgspec

from fstore.errors import SettingsError, did_you_mean
from fstore.interval import parse_duration

_PROJECT_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_ENVIRONMENT_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LAST_PORT = 65535
_LEAST_RETENTION = timedelta(hours=1)
_RESERVED_ENVIRONMENTS = ("next", "live", "production")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one project.

    ``root`` is an absolute directory; the URLs are absolute too. Memory sizes are DuckDB texts such as ``"4GB"``;
    ``threads = 0`` means one per core; timeouts are seconds. ``load_timeout`` is how long one definition module may take to
    import: Airflow gives a whole DAG file 30 seconds by default. A process takes about 0.4 GB more than ``memory_limit``:
    the default keeps it within 4 GB. An interval with more than ``quarantine_cap`` rows to set aside is blocked instead.
    ``retention`` is how long superseded files stay, such as ``"14d"``: at least an hour, because readers and tasks that have
    begun still need them. ``breaking_changes`` says what a run does about a breaking change of something that is live: wait
    for ``fstore apply``, or begin to fill the new generation by itself (``run``). ``environment`` names a development
    environment; empty: production. The settings of ``fstore serve`` begin with ``serve``, hold for one worker, and are in
    bytes, rows and seconds.
    """

    root: str
    project: str
    definitions: str = "feature_defs"
    registry_url: str = "sqlite:///.fstore/registry.db"
    offline_url: str = "file:.fstore/offline"
    online_url: str = "lmdb:.fstore/online"
    memory_limit: str = "3300MB"
    threads: int = 0
    spill_dir: str = ".fstore/spill"
    cache_dir: str = ".fstore/cache"
    load_timeout: float = 10.0
    max_catch_up: int = 400
    quarantine_cap: int = 10_000
    retention: str = "14d"
    breaking_changes: Literal["apply", "run"] = "apply"
    environment: str = ""
    serve_host: str = "127.0.0.1"
    serve_port: int = 8080
    serve_workers: int = 1
    serve_max_body_bytes: int = 64 * 1024 * 1024
    serve_max_keys: int = 10_000
    serve_max_rows: int = 1_000_000
    serve_timeout: float = 30.0
    serve_historical_reads: int = 2
    serve_drain: float = 2.0
    serve_access_log: bool = False

    @property
    def horizon(self) -> timedelta:
        """How long superseded files stay. Raises ValueError for a text that is no duration."""
        return parse_duration(self.retention)

    @property
    def definitions_dir(self) -> Path:
        """The absolute directory of the definition modules."""
        return Path(self.root) / self.definitions


def setting_variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"FSTORE_{name.upper()}"


_ENVIRONMENT = {name: setting_variable(name) for name in Settings.__struct_fields__}


def find_root(start: Path) -> Path:
    """Return the nearest directory at or above ``start`` that holds a ``pyproject.toml`` with ``[tool.fstore]``.

    Raises SettingsError when there is none.
    """
    for directory in (start.resolve(), *start.resolve().parents):
        file = directory / "pyproject.toml"
        if file.is_file() and "fstore" in _tool_tables(file):
            return directory
    raise SettingsError(
        f"no fstore project at {start.resolve()} or above it: no pyproject.toml has a [tool.fstore] table. "
        "Run `fstore init` in the directory that shall become one, or set FSTORE_ROOT."
    )


def check_project_name(name: str, where: str) -> None:
    """Raise SettingsError unless a text is a project name; ``where`` says what to change."""
    if not _PROJECT_NAME.fullmatch(name):
        raise SettingsError(
            f"{name!r} is not a project name: use lower-case letters, digits and underscores, starting with a letter "
            f"({where})"
        )


def load_settings(start: Path | None = None, *, environ: Mapping[str, str] | None = None, **overrides: str) -> Settings:
    """Return the settings of the project at ``start`` (default: FSTORE_ROOT, else the working directory).

    Keyword overrides win over the environment, and that wins over ``pyproject.toml``. Raises SettingsError on an unknown
    setting, a value of the wrong type or a directory that is no project.
    """
    environ = os.environ if environ is None else environ
    if environ.get("FSTORE_ROOT") and start is None:
        root = Path(environ["FSTORE_ROOT"]).resolve()
        if not root.is_dir():
            raise SettingsError(f"FSTORE_ROOT is {environ['FSTORE_ROOT']!r}, which is not a directory")
    else:
        root = find_root(start or Path.cwd())
    file = root / "pyproject.toml"
    table = _tool_tables(file).get("fstore", {}) if file.is_file() else {}
    if not isinstance(table, dict):
        raise SettingsError(f"{file}: tool.fstore has to be a table, as in [tool.fstore], and is {table!r}")
    values: dict[str, object] = {}
    for name, value in table.items():
        if name not in _ENVIRONMENT or name == "root":
            raise SettingsError(f"{file}: [tool.fstore] has no setting {name!r}.{did_you_mean(name, _ENVIRONMENT)}")
        values[name] = value
    for name, variable in _ENVIRONMENT.items():
        if name != "root" and environ.get(variable):
            values[name] = environ[variable]
    values.update({name: value for name, value in overrides.items() if value})
    values["root"] = str(root)
    values.setdefault("project", re.sub(r"[^a-z0-9_]+", "_", root.name.lower()).strip("_") or "default")
    try:
        settings = msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"a setting of the project at {root} is wrong: {error}") from None
    check_project_name(settings.project, "setting `project`, or FSTORE_PROJECT")
    _check_ranges(settings)
    return msgspec.structs.replace(
        settings,
        registry_url=_absolute(settings.registry_url, root),
        offline_url=_absolute(settings.offline_url, root),
        online_url=_absolute(settings.online_url, root),
        spill_dir=str(root / settings.spill_dir),
        cache_dir=str(root / settings.cache_dir),
    )


def _check_ranges(settings: Settings) -> None:
    """Refuse numbers that mean nothing."""
    least = {"threads": 0, "max_catch_up": 1, "quarantine_cap": 0, "serve_port": 0, "serve_workers": 1,
             "serve_max_body_bytes": 1, "serve_max_keys": 1, "serve_max_rows": 1, "serve_historical_reads": 1,
             "serve_drain": 0}  # fmt: skip
    for name, minimum in least.items():
        value = getattr(settings, name)
        if value < minimum:
            raise SettingsError(f"setting {name!r} is {value}, and has to be at least {minimum}")
    if settings.serve_port > _LAST_PORT:
        raise SettingsError(f"setting 'serve_port' is {settings.serve_port}, and has to be at most {_LAST_PORT}")
    name = settings.environment
    if name and (name in _RESERVED_ENVIRONMENTS or not _ENVIRONMENT_NAME.fullmatch(name)):
        raise SettingsError(
            f"{name!r} is not a name of an environment: use lower-case letters, digits, - and _, starting with a letter, "
            f"and none of {', '.join(_RESERVED_ENVIRONMENTS)} (--env, or FSTORE_ENVIRONMENT)"
        )
    try:
        problem = "" if settings.horizon >= _LEAST_RETENTION else f"{settings.retention} is too short"
    except ValueError as error:
        problem = str(error)
    if problem:
        raise SettingsError(
            f"setting 'retention' is {settings.retention!r}, and has to be a duration of at least an hour, as in \"14d\": "
            f"{problem}"
        )
    for name in ("load_timeout", "serve_timeout"):
        if not getattr(settings, name) > 0:
            raise SettingsError(f"setting {name!r} is {getattr(settings, name):g}, and has to be more than 0 seconds")


def _tool_tables(file: Path) -> dict[str, object]:
    try:
        tools = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"{file} cannot be read: {error}") from None
    return tools if isinstance(tools, dict) else {}


def _absolute(url: str, root: Path) -> str:
    """Resolve the path of a local URL from the project's root; other URLs stay as they are."""
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite" and rest.startswith("///"):
        return f"sqlite:///{root / rest[3:]}"
    if scheme in ("file", "lmdb"):
        return f"{scheme}:{root / rest.removeprefix('//')}"
    return url
