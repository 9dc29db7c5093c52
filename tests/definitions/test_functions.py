"""The functions of Python views: what their fingerprint covers, and running them in another process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from fstore.definitions.feature_view import PythonFunction
from fstore.definitions.loader import load_project
from fstore.definitions.modules import load_function
from fstore.errors import DefinitionError

from .conftest import Write

VIEW = """

class Risk(FeatureView):
    entity, inputs, schedule, start = user, {"u": users}, "@daily", "2026-01-01"
    score = feature("float64")
    compute = transform(risk)
"""
HEAD = "from fstore import FeatureView, feature, transform\nfrom .shop import user, users\n"


def function(directory: Path, view: str = "risk") -> PythonFunction:
    project = load_project(directory, "shop")
    assert [str(problem) for problem in project.problems] == []
    found = project.views[view].function
    assert found is not None
    return found


def source(write: Write, text: str, **modules: str) -> str:
    files = {f"{name}.py": content for name, content in modules.items()}
    return function(write({"risk.py": HEAD + text + VIEW, **files})).source


def test_a_function_as_a_value(write: Write) -> None:
    directory = write({"deep/risk.py": (HEAD + "def risk(u, interval):\n    return u\n" + VIEW).replace(".shop", "..shop")})
    assert function(directory) == PythonFunction(
        module="feature_defs/deep/risk.py",
        name="risk",
        parameters=("u", "interval"),
        source="def risk(u, interval):\n    return u",
    )


def test_comments_docstrings_annotations_and_formatting_do_not_count(write: Write) -> None:
    plain = source(write, "def risk(u):\n    def inner():\n        return 1\n    return u, inner()\n")
    dressed = source(
        write,
        '''
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import pyarrow as pa

# A comment.
def risk(
    u: "pa.Table",
) -> "pa.Table":
    """A docstring."""
    def inner() -> int:
        """Another."""
        return 1   # one
    return (u, inner())
''',
    )
    assert dressed == plain


def test_what_a_function_uses_counts_and_nothing_else(write: Write) -> None:
    text = source(
        write,
        """
import math
import math as unused
from .rates import RATE, scale as scaled
from . import rates
LIMIT = 3
LIMIT += 1
OTHER = 5
def unused_helper(): return OTHER
class Weights:
    "Docstring."
    factor: int = LIMIT
if LIMIT > 3:
    def bounded(x): return min(x, LIMIT)
else:
    def bounded(x): return x
def risk(u):
    from .late import late
    return bounded(scaled(u)) * math.pi * Weights.factor * late(users)
""",
        rates="import math\nRATE = 2\nBASE = 10\ndef scale(x):\n    return x * BASE\n",
        late="def late(x): return x\n",
    )
    assert text.split("\n") == [
        "def risk(u):",
        "    from .late import late",
        "    return bounded(scaled(u)) * math.pi * Weights.factor * late(users)",
        "class Weights:",
        "    factor: int = LIMIT",
        "if LIMIT > 3:",
        "",
        "    def bounded(x):",
        "        return min(x, LIMIT)",
        "else:",
        "",
        "    def bounded(x):",
        "        return x",
        "import math",
        "def late(x):",
        "    return x",
        "LIMIT = 3",
        "LIMIT += 1",
        "def scale(x):",
        "    return x * BASE",
        "BASE = 10",
    ]


def test_a_module_used_as_a_whole_counts_as_a_whole(write: Write) -> None:
    text = source(write, "from . import rates\ndef risk(u):\n    return rates.RATE\n", rates="RATE = 2\nOTHER = 3\n")
    assert text == "def risk(u):\n    return rates.RATE\nRATE = 2\nOTHER = 3"


def test_moving_a_helper_changes_nothing_and_changing_it_does(write: Write) -> None:
    body = "def risk(u):\n    return helper(u)\n"
    here = source(write, "def helper(x):\n    return x + 1\n" + body)
    there = source(write, "from .aside import helper\n" + body, aside="def helper(x):\n    return x + 1\n")
    changed = source(write, "from .aside import helper\n" + body, aside="def helper(x):\n    return x + 2\n")
    assert here == there != changed


def test_a_decorated_function(write: Write) -> None:
    text = source(
        write,
        "import functools\n"
        "def twice(f):\n    @functools.wraps(f)\n    def run(u):\n        return f(u)\n    return run\n"
        "@twice\ndef risk(u):\n    return u\n",
    )
    assert text.startswith("@twice\ndef risk(u):\n    return u\ndef twice(f):\n")


# -- running ---


@pytest.fixture(autouse=True)
def _restore_modules() -> object:
    path, modules = list(sys.meta_path), set(sys.modules)
    yield
    sys.meta_path[:] = path
    for name in set(sys.modules) - modules:
        if name.split(".")[0] == "feature_defs":
            del sys.modules[name]


def test_a_function_runs_where_it_was_not_loaded(write: Write) -> None:
    directory = write({
        "rates.py": "RATE = 2\n",
        "risk.py": HEAD + "from .rates import RATE\ndef risk(u):\n    from feature_defs.rates import RATE as again\n"
        "    return u * RATE * again\n" + VIEW,
    })  # fmt: skip
    planned = function(directory)
    assert load_function(directory, planned)(u=5) == 20
    assert load_function(directory, planned) is load_function(directory, planned)


def test_an_edit_after_planning_is_refused(write: Write) -> None:
    directory = write({"risk.py": HEAD + "def risk(u):\n    return u\n" + VIEW})
    planned = function(directory)
    assert load_function(directory, planned)(7) == 7
    write({"risk.py": HEAD + "def risk(u):\n    return u + 1\n" + VIEW})
    os.utime(directory / "risk.py", ns=(1, 1))
    with pytest.raises(DefinitionError) as caught:
        load_function(directory, planned)
    assert str(caught.value) == (
        "function 'risk' (feature_defs/risk.py:1) cannot be run: its source is not the one that was planned. "
        "Run `fstore plan` and start a new run, which will use the definition as it is now."
    )
    assert load_function(directory, function(directory))(7) == 8
    write({"risk.py": "risk = None"})
    with pytest.raises(DefinitionError, match="cannot be run: its module does not define it any more"):
        load_function(directory, planned)
    (directory / "risk.py").unlink()
    with pytest.raises(DefinitionError, match="cannot be run: its module is gone"):
        load_function(directory, planned)


def test_two_projects_in_one_process(write: Write, tmp_path: Path) -> None:
    first = write({"risk.py": HEAD + "def risk(u):\n    return 1\n" + VIEW})
    planned = function(first)
    second = tmp_path / "other" / "feature_defs"
    second.mkdir(parents=True)
    (second / "shop.py").write_text((first / "shop.py").read_text())
    (second / "risk.py").write_text(HEAD + "def risk(u):\n    return 2\n" + VIEW)
    other = function(second)
    assert [
        load_function(first, planned)(None),
        load_function(second, other)(None),
        load_function(first, planned)(None),
    ] == [
        1,
        2,
        1,
    ]
