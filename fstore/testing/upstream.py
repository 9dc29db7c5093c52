"""Other views that a tested view reads, as far as their features have types without data.

A view whose sources declare their schema, or whose features are declared with types, is compiled as it is. Any other becomes
a view that declares its features with the types of the rows that a test gives for it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from fstore.definitions.expression import Field
from fstore.definitions.feature_view import Input, View
from fstore.definitions.project import Project
from fstore.definitions.source import ParquetSource
from fstore.plan.compiler import compile_plan
from fstore.plan.composites import is_composite
from fstore.plan.graph import upstream_views

_ROWS = "fstore_test_rows"


def with_typed_upstream(
    project: Project, view: View, schemas: Mapping[str, Mapping[str, str]], types: Mapping[str, Mapping[str, str]]
) -> Project:
    """Return a project in which the features of the views that ``view`` reads have types.

    ``types`` are those that the rows say, by view and feature. The views of an expression stay as they are, because their
    empty rows count; their sources have to declare their schemas.
    """
    names = [name for name in upstream_views(view) if name in project.views]
    if not names or is_composite(view):
        return project
    plan = compile_plan(project, schemas, views=set(names))
    steps = {step.view: step for step in plan.steps}
    views = dict(project.views)
    sources = dict(project.sources)
    for name in names:
        step = steps.get(name)
        if step is None or any(feature.type is None for feature in step.features):
            known = {} if step is None else {feature.name: feature.type for feature in step.features if feature.type}
            views[name], source = _declared(project, project.views[name], {**types[name], **known})
            sources[source.name] = source
    return msgspec.structs.replace(project, views=views, sources=sources)


def _declared(project: Project, view: View, types: Mapping[str, str]) -> tuple[View, ParquetSource]:
    """Return a view that selects its features, with the given types, from rows."""
    keys = project.entities[view.entity].join_keys
    source = ParquetSource(f"{_ROWS}_{view.name}", path="rows", keys=list(keys), static=True, schema={**keys, **types},
                           location=view.location)  # fmt: skip
    declared = View(
        name=view.name, entity=view.entity, module=view.module, location=view.location, schedule=view.schedule,
        timezone=view.timezone, start=view.start or "1970-01-01",
        inputs=(Input(alias="r", kind="source", name=source.name),),
        members={name: Field(type=type_, location=view.location) for name, type_ in types.items()},
        sql=f"SELECT {', '.join(chr(34) + name + chr(34) for name in [*keys, *types])} FROM r",
    )  # fmt: skip
    return declared, source
