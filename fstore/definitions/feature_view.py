"""Feature views: the class-body language and the one dataclass that it compiles to.

The class is an authoring layer only. Its body is kept as written; :func:`collect_view` turns it into a :class:`View`, the
frozen value that the plan reads, the registry stores and fingerprints cover. Nothing is checked while a module is being
imported, so that all mistakes of a project can be reported together.
"""

from __future__ import annotations

import inspect
import re
from typing import Literal

import msgspec

from fstore.definitions.aggregation import Aggregation
from fstore.definitions.checks import Check
from fstore.definitions.expression import Expression, Field
from fstore.definitions.location import Location, caller_location
from fstore.errors import did_you_mean

Member = Aggregation | Expression | Field
"""What a class body may assign to make features."""


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """A relation that a SQL or Python view reads, under the alias that its SQL or parameters use.

    ``window`` bounds an event source (``"all"`` for none) and is None for dimensions and views. ``history`` asks for every
    interval of an upstream view that lies in the own one, rather than its newest snapshot.
    """

    alias: str
    kind: Literal["source", "view"]
    name: str
    window: str | None = None
    history: bool = False


class PythonFunction(msgspec.Struct, frozen=True, kw_only=True):
    """The function of a Python view: where it is, what it takes, and its source without comments and docstrings."""

    module: str
    name: str
    parameters: tuple[str, ...]
    source: str


class View(msgspec.Struct, frozen=True, kw_only=True):
    """A feature view as declared: exactly one of ``source`` (aggregates), ``sql`` and ``function`` computes it.

    ``members`` are in the order of the class body, keyed by attribute. ``module`` is the file within ``feature_defs``.
    """

    name: str
    entity: str
    module: str
    location: Location
    description: str = ""
    owner: str = ""
    tags: dict[str, str] = {}
    schedule: str | None = None
    timezone: str = "UTC"
    start: str | None = None
    end: str | None = None
    ttl: str | None = None
    online: bool = True
    pipeline: str | None = None
    source: str | None = None
    inputs: tuple[Input, ...] = ()
    sql: str | None = None
    function: PythonFunction | None = None
    members: dict[str, Member] = {}
    checks: tuple[Check, ...] = ()


class FeatureReference:
    """A feature of a view, as written in Python: ``UserPurchases.trend`` or ``UserPurchases.purchase_count["7d"]``."""

    def __init__(self, view: type[FeatureView], attribute: str, window: str | None = None) -> None:
        self.view, self.attribute, self.window = view, attribute, window
        self.location = caller_location()

    def __getitem__(self, window: str) -> FeatureReference:
        return FeatureReference(self.view, self.attribute, window)

    def __repr__(self) -> str:
        return f"{self.view.__name__}.{self.attribute}" + (f"[{self.window!r}]" if self.window else "")


class ViewHistory:
    """Every interval of a view that lies in the reader's own interval, rather than the newest snapshot."""

    def __init__(self, view: type[FeatureView]) -> None:
        self.view = view


def snake_case(name: str) -> str:
    """Return a class name in snake_case: ``UserPurchases`` is ``user_purchases``, ``HTTPErrors`` is ``http_errors``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """A class body as it was written, its templates' bodies merged in."""

    name: str
    attributes: dict[str, object]
    description: str
    location: Location
    abstract: bool


class _FeatureViewType(type):
    """Keep the class body aside, and answer attribute access with references to features."""

    __body__: Body

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, object]) -> _FeatureViewType:
        attributes: dict[str, object] = {}
        for base in reversed(bases):
            if isinstance(base, _FeatureViewType):
                attributes.update(base.__body__.attributes)
        written = {key: value for key, value in namespace.items() if not key.startswith("__")}
        abstract = bool(written.pop("abstract", False))
        explicit = written.pop("name", None)
        attributes.update(written)
        kept = {key: value for key, value in namespace.items() if key.startswith("__")}
        view = super().__new__(cls, name, bases, kept)
        view.__body__ = Body(
            name=explicit if isinstance(explicit, str) else snake_case(name),
            attributes=attributes,
            description=inspect.cleandoc(str(namespace.get("__doc__") or "")),
            location=caller_location(),
            abstract=abstract,
        )
        return view

    def __getattr__(cls, attribute: str) -> FeatureReference | ViewHistory:
        if attribute.startswith("_"):
            raise AttributeError(attribute)
        if attribute == "history":
            return ViewHistory(cls)  # type: ignore[arg-type]
        if isinstance(cls.__body__.attributes.get(attribute), Member):
            return FeatureReference(cls, attribute)  # type: ignore[arg-type]
        members = [name for name, value in cls.__body__.attributes.items() if isinstance(value, Member)]
        raise AttributeError(f"view {cls.__body__.name!r} has no feature {attribute!r}.{did_you_mean(attribute, members)}")


class FeatureView(metaclass=_FeatureViewType):
    """Inherit from this to declare a feature view; see docs/reference/definitions.md for the class body."""

    abstract = True


SETTINGS = ("entity", "source", "inputs", "schedule", "timezone", "start", "end", "ttl", "owner", "tags", "online",
            "pipeline", "sql", "compute", "checks")  # fmt: skip
"""The attributes of a class body that are settings rather than features."""


def feature_names(attribute: str, member: Member) -> dict[str | None, str]:
    """Return the features that an attribute makes: window to feature name (the window is None where there is none)."""
    base = member.name or attribute
    if isinstance(member, Aggregation):
        return {window: f"{base}_{window}" for window in member.windows}
    return {None: base}
