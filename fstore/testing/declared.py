"""Views as tests take them: the class of a Python module, or a view of a loaded project by name, which may be a twin.

A class is compiled with all that it reads in this process, as the loader does it in its own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path

import msgspec

from fstore.definitions.assemble import assemble_project
from fstore.definitions.collect import view_references
from fstore.definitions.expression import Transform
from fstore.definitions.feature_view import FeatureView
from fstore.definitions.modules import load_function, modules_of
from fstore.definitions.project import Project
from fstore.errors import DefinitionErrors


class DeclaredView(msgspec.Struct, frozen=True, kw_only=True):
    """A view within the project that declares it; ``name`` is what messages call it, ``key`` identifies the declaration."""

    name: str
    view: str
    project: Project
    key: Hashable
    function: Callable[[], Callable[..., object]]


_declared: dict[type[FeatureView], DeclaredView] = {}


def declared_view(view: type[FeatureView]) -> DeclaredView:
    """Return a class with all that it reads. Raises DefinitionErrors with every problem of them."""
    if view not in _declared:
        with modules_of(view):
            project = assemble_project("test", "", {}, _with_upstream(view), ())
        if project.problems:
            raise DefinitionErrors([problem.as_error() for problem in project.problems])
        _declared[view] = DeclaredView(
            name=view.__name__, view=view.__body__.name, project=project, key=view, function=lambda: _function(view)
        )
    return _declared[view]


def view_of_project(project: Project, name: str, definitions: Path) -> DeclaredView:
    """Return a view of a loaded project. Raises DefinitionErrors when it has a problem or does not exist."""

    def function() -> Callable[..., object]:
        planned = project.views[name].function
        assert planned is not None, "only called for a view that a function computes"
        return load_function(definitions, planned)

    if name not in project.views:
        named = (f"'{name}'", f"'{name}:")
        about = [problem for problem in project.problems if any(text in problem.subject for text in named)]
        about = about or list(project.problems)
        raise DefinitionErrors([problem.as_error() for problem in about])
    return DeclaredView(name=name, view=name, project=project, key=(str(definitions), name, id(project)), function=function)


def _with_upstream(view: type[FeatureView]) -> list[type[FeatureView]]:
    """Return a view after all those that it reads."""
    found: list[type[FeatureView]] = []

    def visit(item: type[FeatureView]) -> None:
        if item not in found:
            for upstream in view_references(item)[2]:
                visit(upstream)
            found.append(item)

    visit(view)
    return found


def _function(view: type[FeatureView]) -> Callable[..., object]:
    compute = view.__body__.attributes["compute"]
    assert isinstance(compute, Transform), "checked when the view was declared"
    return compute.function
