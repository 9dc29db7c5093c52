"""What a view says it uses: its content is part of the definition, and a run refuses another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from fstore.definitions.feature_view import PythonFunction, Use
from fstore.definitions.loader import load_project
from fstore.definitions.modules import load_function
from fstore.errors import DefinitionError
from fstore.plan.compiler import compile_plan
from fstore.runtime.plan_cache import load_plan
from fstore.settings import load_settings

from .conftest import Write

VIEW = """
from fstore import FeatureView, feature, transform
from pathlib import Path
from .shop import user, users

def clean(table):
    return table

def risk(u):
    return u

class Risk(FeatureView):
    entity, inputs, schedule, start = user, {"u": users}, "@daily", "2026-01-01"
    score = feature("float64")
    compute = transform(risk)
    uses = USES
"""


def project(directory: Path):
    found = load_project(directory, "shop")
    assert [str(problem) for problem in found.problems] == []
    return found


def function(directory: Path) -> PythonFunction:
    found = project(directory).views["risk"].function
    assert found is not None
    return found


def fingerprint(directory: Path) -> str:
    return compile_plan(project(directory), {}).steps[0].fingerprint


def view(uses: str) -> dict[str, str]:
    return {"risk.py": VIEW.replace("USES", uses)}


def test_a_function_is_its_source_and_a_file_its_digest(write: Write) -> None:
    directory = write(view('[clean, "model.json"]'))
    (directory.parent / "model.json").write_text("{}")
    assert function(directory).uses == (
        Use(
            file="feature_defs/risk.py",
            module="feature_defs.risk",
            name="clean",
            content="def clean(table):\n    return table",
        ),
        Use(file="model.json", content="44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"),
    )


def test_a_function_of_the_project_outside_of_the_definitions(write: Write) -> None:
    directory = write(
        {"risk.py": VIEW.replace("USES", "[scale]").replace("from pathlib", "from lib import scale\nfrom pathlib")}
    )
    (directory.parent / "lib.py").write_text("FACTOR = 2\ndef scale(x):\n    return x * FACTOR\n")
    (use,) = function(directory).uses
    assert use == Use(file="lib.py", module="lib", name="scale", content="def scale(x):\n    return x * FACTOR\nFACTOR = 2")


def test_the_content_counts_and_the_order_does_not(write: Write) -> None:
    directory = write(view('["a.txt", "b.txt"]'))
    (directory.parent / "a.txt").write_text("a")
    (directory.parent / "b.txt").write_text("b")
    first = fingerprint(directory)
    write(view('["b.txt", "a.txt"]'))
    assert fingerprint(directory) == first
    (directory.parent / "a.txt").write_text("A")
    assert fingerprint(directory) != first
    write(view("[]"))
    none = fingerprint(directory)
    write({"risk.py": VIEW.replace("    uses = USES\n", "")})
    assert fingerprint(directory) == none


def test_a_changed_file_makes_the_cached_plan_old(write: Write) -> None:
    directory = write(view('["model.json"]'))
    root = directory.parent
    (root / "model.json").write_text("{}")
    (root / "pyproject.toml").write_text('[tool.fstore]\nproject = "shop"\n')
    settings = load_settings(root, environ={})
    (root / "model.json").unlink()
    assert load_plan(settings).plan.steps == ()
    (root / "model.json").write_text("{}")
    before = load_plan(settings).plan.steps[0].fingerprint
    assert load_plan(settings).plan.steps[0].fingerprint == before
    (root / "model.json").write_text('{"weight": 2}')
    assert load_plan(settings).plan.steps[0].fingerprint != before


def test_a_run_refuses_what_was_not_planned(write: Write) -> None:
    directory = write(view('["model.json"]'))
    model = directory.parent / "model.json"
    model.write_text("{}")
    planned = function(directory)
    assert load_function(directory, planned).__name__ == "risk"
    model.write_text("[]")
    with pytest.raises(DefinitionError) as caught:
        load_function(directory, planned)
    assert str(caught.value) == (
        "function 'risk' (feature_defs/risk.py:1) cannot be run: model.json, which it uses, is not the file that was "
        "planned. Run `fstore plan` and start a new run, which will use the definition as it is now."
    )
    model.unlink()
    with pytest.raises(DefinitionError, match=r"model\.json, which it uses, is gone"):
        load_function(directory, planned)
