"""Feature views: the class-body language and the one dataclass that it compiles to.

The class is an authoring layer only. Its body is kept as written; ``collect.collect_view`` turns it into a :class:`View`,
the frozen value that the plan reads, the registry stores and fingerprints cover. Nothing is checked while a module is being
imported, so that all mistakes of a project can be reported together.
"""

from __future__ import annotations

import inspect
import re
import sys
from typing import Literal, cast

import msgspec

from fstore.definitions.aggregation import Aggregation
from fstore.definitions.checks import Check
from fstore.definitions.expression import Expression, Field
from fstore.definitions.location import Location, caller_location, defining_module, frame_location
from fstore.definitions.view_tests import TestMethod, test_method
from fstore.errors import did_you_mean, listing

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


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """Something outside of a Python view's function that decides what it computes: a function, a class or a file.

    ``file`` is relative to the project's root; ``module`` (dotted) and ``name`` say which function or class of it, and are
    empty for a whole file. ``content`` is the source, normalized like that of the view, or the file's SHA-256.
    """

    file: str
    module: str = ""
    name: str = ""
    content: str


FrameKind = Literal["arrow", "pandas", "polars"]
"""The libraries whose tables and columns a function may take."""


class PythonFunction(msgspec.Struct, frozen=True, kw_only=True):
    """The function of a Python view: where it is, what it takes, and its source without comments and docstrings.

    ``module`` is the file relative to the project's root. ``source`` covers what the function uses of the
    project's modules as well; ``uses`` is what the view says it uses besides. ``frames`` says
    which parameters take something else than Arrow. ``by_key`` allows to run it on some of the keys at a time.
    """

    module: str
    name: str
    parameters: tuple[str, ...]
    source: str
    uses: tuple[Use, ...] = ()
    frames: dict[str, FrameKind] = {}
    by_key: bool = False


class View(msgspec.Struct, frozen=True, kw_only=True):
    """A feature view as declared: exactly one of ``source`` (aggregates), ``sql`` and ``function`` computes it.

    ``members`` are in the order of the class body, keyed by attribute. ``module`` is the file
    that declares it, relative to the project's root.
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

    def __init__(
        self, view: type[FeatureView], attribute: str, window: str | None = None, *, under: AliasedView | None = None
    ) -> None:
        self.view, self.attribute, self.window, self.under = view, attribute, window, under
        self.location = caller_location()

    def __getitem__(self, window: str) -> FeatureReference:
        return FeatureReference(self.view, self.attribute, window, under=self.under)

    def __repr__(self) -> str:
        return f"{self.under or self.view.__name__}.{self.attribute}" + (f"[{self.window!r}]" if self.window else "")


class AliasedView:
    """A view joined under another name, by other columns of the reader: ``AirportDelays.as_("dest", airport="dest")``.

    Its attributes are references to the view's features; ``join_keys`` map the view's keys to the reader's columns.
    """

    def __init__(self, view: type[FeatureView], alias: str, join_keys: dict[str, str]) -> None:
        self.view, self.alias, self.join_keys = view, alias, join_keys
        self.location = caller_location()

    def __getattr__(self, attribute: str) -> FeatureReference:
        if attribute.startswith("_"):
            raise AttributeError(attribute)
        found = getattr(self.view, attribute)
        if isinstance(found, FeatureReference):
            return FeatureReference(self.view, attribute, under=self)
        raise AttributeError(f"{self!r} has features only; {attribute!r} is none.")

    def __repr__(self) -> str:
        keys = "".join(f", {key}={column!r}" for key, column in self.join_keys.items())
        return f"{self.view.__name__}.as_({self.alias!r}{keys})"


class ViewHistory:
    """Every interval of a view that lies in the reader's own interval, rather than the newest snapshot."""

    def __init__(self, view: type[FeatureView]) -> None:
        self.view = view


def snake_case(name: str) -> str:
    """Return a class name in snake_case: ``UserPurchases`` is ``user_purchases``, ``HTTPErrors`` is ``http_errors``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """A class body as it was written, its templates' bodies merged in.

    ``lines`` says where each attribute was assigned, ``repeated`` which features were assigned more than once, and
    ``annotated`` which names have an annotation and no value. ``name`` and ``abstract`` are among the attributes only where
    they are not what they must be. ``parents`` are the classes inherited from that are no templates.
    """

    name: str
    module: str
    attributes: dict[str, object]
    lines: dict[str, Location]
    repeated: tuple[str, ...]
    annotated: tuple[str, ...]
    parents: tuple[str, ...]
    description: str
    location: Location
    abstract: bool


class _Namespace(dict[str, object]):
    """The names of a class body while it runs; remembers where each was assigned and which features twice."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, Location] = {}
        self.repeated: list[str] = []

    def __setitem__(self, key: str, value: object) -> None:
        if isinstance(self.get(key), Member) and isinstance(value, Member):
            self.repeated.append(key)
        self.lines[key] = frame_location(sys._getframe(1))
        super().__setitem__(key, value)


_declared: list[type[FeatureView]] = []


def declared_views() -> list[type[FeatureView]]:
    """Return every feature view class made in this process, templates among them, in the order of their making."""
    return list(_declared)


class _FeatureViewType(type):
    """Keep the class body aside, and answer attribute access with references to features."""

    __body__: Body

    @classmethod
    def __prepare__(cls, _name: str, _bases: tuple[type, ...], /, **_keywords: object) -> _Namespace:
        return _Namespace()

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: _Namespace) -> _FeatureViewType:
        kept = {key: value for key, value in namespace.items() if key.startswith("__")}
        view = super().__new__(cls, name, bases, kept)
        view.__body__ = _read_body(name, bases, namespace)
        if bases:
            _declared.append(cast("type[FeatureView]", view))
        return view

    def as_(cls, alias: str, /, **join_keys: str) -> AliasedView:
        """Return the view under another name, its keys joined to other columns of the reader."""
        return AliasedView(cast("type[FeatureView]", cls), alias, join_keys)

    @property
    def test(cls) -> TestMethod:
        """The test of the view, while pytest runs: see ``fstore.testing.check_view``."""
        return test_method(cls, cls.__name__)

    def __getattr__(cls, attribute: str) -> FeatureReference | ViewHistory:
        if attribute.startswith("_"):
            raise AttributeError(attribute)
        view = cast("type[FeatureView]", cls)
        if attribute == "test":
            test_method(cls, cls.__name__)  # a property's AttributeError ends here: say the same once more
        if attribute == "history":
            return ViewHistory(view)
        if isinstance(cls.__body__.attributes.get(attribute), Member):
            return FeatureReference(view, attribute)
        members = [name for name, value in cls.__body__.attributes.items() if isinstance(value, Member)]
        raise AttributeError(
            f"view {cls.__body__.name!r} has no feature {attribute!r}, only {listing(members)}."
            f"{did_you_mean(attribute, members)}"
        )


def _read_body(name: str, bases: tuple[type, ...], namespace: _Namespace) -> Body:
    """Merge a class body into those of its templates, the first template before the next."""
    templates = [base.__body__ for base in bases if isinstance(base, _FeatureViewType)]
    written = {key: value for key, value in namespace.items() if not key.startswith("_")}
    abstract = written.pop("abstract") if isinstance(written.get("abstract"), bool) else False
    explicit = written.pop("name") if isinstance(written.get("name"), str) else snake_case(name)
    attributes: dict[str, object] = {}
    lines: dict[str, Location] = {}
    for template in reversed(templates):
        attributes.update(template.attributes)
        lines.update(template.lines)
    annotations = namespace.get("__annotations__")
    return Body(
        name=str(explicit),
        module=defining_module(),
        attributes={**attributes, **written},
        lines={**lines, **namespace.lines},
        repeated=tuple(namespace.repeated),
        annotated=tuple(key for key in annotations if key not in namespace) if isinstance(annotations, dict) else (),
        parents=tuple(template.name for template in templates if not template.abstract),
        description=inspect.cleandoc(str(namespace.get("__doc__") or "")),
        location=caller_location(),
        abstract=bool(abstract),
    )


class FeatureView(metaclass=_FeatureViewType):
    """Inherit from this to declare a feature view; see docs/reference/definitions.md for the class body."""

    abstract = True


def view_of(body: Body) -> type[FeatureView]:
    """Return the class of a body that was not written in Python. It is not among the declared views of this process."""
    view = _FeatureViewType(body.name or "FeatureView", (FeatureView,), _Namespace())
    view.__body__ = body
    return cast("type[FeatureView]", _declared.pop() if _declared[-1] is view else view)


SETTINGS = ("entity", "source", "inputs", "schedule", "timezone", "start", "end", "ttl", "owner", "tags", "online",
            "pipeline", "sql", "compute", "uses", "checks", "name", "abstract")  # fmt: skip
"""The attributes of a class body that are settings rather than features."""


def feature_names(attribute: str, member: Member) -> dict[str | None, str]:
    """Return the features that an attribute makes: window to feature name (the window is None where there is none)."""
    base = member.name or attribute
    if isinstance(member, Aggregation):
        offset = "" if member.offset is None else f"_offset_{member.offset}"
        return {window: f"{base}_{window}{offset}" for window in member.windows}
    return {None: base}
