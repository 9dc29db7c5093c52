"""Checks of the functions of Python views: whether they take the view's inputs and can be run in another process."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from types import FunctionType

from fstore.definitions.feature_view import PythonFunction
from fstore.definitions.function_source import function_source
from fstore.definitions.location import Location, display_path, is_definition_file
from fstore.definitions.problems import Reporter
from fstore.definitions.validation import kind_of
from fstore.errors import listing

INTERVAL = "interval"
"""The parameter that receives the interval being computed."""


def read_function(
    report: Reporter, function: object, aliases: Sequence[str], *, at: Location | None
) -> PythonFunction | None:
    """Return the function of a Python view over inputs of the given names, or report why it cannot be one."""
    if not isinstance(function, FunctionType):
        report.add(
            f"computes with {kind_of(function)}; expected a function of a definition module.",
            "Define a function that does the same and write compute = transform(function).",
            at=at,
        )
        return None
    if not _is_at_module_level(report, function, at):
        return None
    parameters = _read_parameters(report, function, aliases)
    return PythonFunction(
        module=display_path(sys.modules[function.__module__].__file__ or ""),
        name=function.__name__,
        parameters=parameters,
        source=function_source(function),
    )


def _is_at_module_level(report: Reporter, function: FunctionType, at: Location | None) -> bool:
    """Check that the function can be imported by name from a module of the project."""
    name = function.__name__
    module = sys.modules.get(function.__module__)
    if name == "<lambda>":
        report.add(
            "computes with a lambda, which cannot be imported where the view runs.",
            "Write a function at the top of the module and pass that to transform(…).",
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


def _read_parameters(report: Reporter, function: FunctionType, aliases: Sequence[str]) -> tuple[str, ...]:
    """Check that the parameters are the inputs, and perhaps the interval."""
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
    if INTERVAL in aliases:
        here.add(f"has an input called {INTERVAL!r}, which is the parameter for the interval.", "Rename the input.")
    elif aliases and set(names) - {INTERVAL} != set(aliases):
        here.add(
            f"computes with function {function.__name__!r}, whose parameters are {listing(names)}, but the inputs are "
            f"{listing(aliases)}.",
            f"Give it one parameter per input, and {INTERVAL!r} if it needs the interval.",
        )
    return tuple(names)
