"""Checks of Python functions: whether they take the inputs of their view, and can be run in another process."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from types import FunctionType

from fstore.definitions.aggregation import Aggregation
from fstore.definitions.expression import Expression, Field
from fstore.definitions.feature_view import PythonFunction
from fstore.definitions.frame_annotations import frame_kinds
from fstore.definitions.function_source import function_source
from fstore.definitions.location import Location, display_path, is_definition_file
from fstore.definitions.problems import Reporter
from fstore.definitions.validation import kind_of
from fstore.errors import listing

INTERVAL = "interval"
"""The parameter that receives the interval being computed."""


def read_function(
    report: Reporter, function: object, aliases: Sequence[str], *, at: Location | None, columns: bool = False,
    by_key: bool = False,
) -> PythonFunction | None:  # fmt: skip
    """Return a function over inputs of the given names, or report why it cannot be one.

    The inputs are tables (of a Python view), or ``columns`` (of an on-demand feature).
    """
    if isinstance(function, Aggregation | Expression | Field):
        report.add(
            "computes with one of its own features; expected a function of a definition module. Within the class the "
            "feature's name hides a function of the same name.",
            "Rename the function, or write compute = transform(function) above the feature.",
            at=at,
        )
        return None
    if not isinstance(function, FunctionType):
        report.add(
            f"computes with {kind_of(function)}; expected a function of a definition module.",
            "Define a function that does the same and write compute = transform(function).",
            at=at,
        )
        return None
    if not _is_at_module_level(report, function, at, "on_demand(…)" if columns else "transform(…)"):
        return None
    parameters = _read_parameters(report, function, aliases, columns=columns)
    frames, unknown = frame_kinds(function, aliases, columns=columns)
    for name, annotation in unknown.items():
        expected = "pa.Array, pd.Series or pl.Series" if columns else "pa.Table, pd.DataFrame or pl.DataFrame"
        report.add(
            f"computes with function {function.__name__!r}, whose parameter {name!r} is annotated {annotation}.",
            f"Annotate it with {expected}, imported in the same module (under TYPE_CHECKING will do).",
            at=Location(display_path(function.__code__.co_filename), function.__code__.co_firstlineno),
        )
    return PythonFunction(
        module=display_path(sys.modules[function.__module__].__file__ or ""),
        name=function.__name__,
        parameters=parameters,
        source=function_source(function),
        frames={name: kind for name, kind in frames.items() if kind != "arrow"},
        by_key=by_key,
    )


def _is_at_module_level(report: Reporter, function: FunctionType, at: Location | None, given_to: str) -> bool:
    """Check that the function can be imported by name from a module of the project."""
    name = function.__name__
    module = sys.modules.get(function.__module__)
    if name == "<lambda>":
        report.add(
            "computes with a lambda, which cannot be imported where the view runs.",
            f"Write a function at the top of the module and pass that to {given_to}.",
            at=at,
        )
    elif function.__qualname__ != name or getattr(module, name, None) is not function:
        report.add(
            f"computes with function {name!r}, which is not at the top of its module under that name, so it cannot be "
            "imported where the view runs.",
            "Move it there; what it needs from around it has to be an input, a constant or another function.",
            at=at,
        )
    elif not is_definition_file(module.__file__ or "" if module else ""):
        report.add(
            f"computes with function {name!r} of module {function.__module__!r}, which is not one of the project's "
            "definition modules.",
            f"Define a function there that calls {name}.",
            at=at,
        )
    elif inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        report.add(f"computes with function {name!r}, which does not return its result.", "Use a plain function.", at=at)
    else:
        return True
    return False


def _read_parameters(
    report: Reporter, function: FunctionType, aliases: Sequence[str], *, columns: bool
) -> tuple[str, ...]:  # fmt: skip
    """Check that the parameters are the inputs and, of a view, perhaps the interval."""
    line = Location(display_path(function.__code__.co_filename), function.__code__.co_firstlineno)
    here = report.about(report.subject, line)
    parameters = inspect.signature(function).parameters
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    for parameter in parameters.values():
        if parameter.kind not in by_name:
            here.add(
                f"computes with function {function.__name__!r}, whose parameter {parameter} cannot be given by name.",
                "Name one parameter per input.",
            )
            return ()
    names = list(parameters)
    others = set() if columns else {INTERVAL}
    if others & set(aliases):
        here.add(f"has an input called {INTERVAL!r}, which is the parameter for the interval.", "Rename the input.")
    elif aliases and set(names) - others != set(aliases):
        here.add(
            f"computes with function {function.__name__!r}, whose parameters are {listing(names)}, but the inputs are "
            f"{listing(aliases)}.",
            "Give it one parameter per input."
            if columns
            else f"Give it one parameter per input, and {INTERVAL!r} if it needs the interval.",
        )
    return tuple(names)
