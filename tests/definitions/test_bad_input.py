"""Every mistake that can be seen while loading: its whole message, with file and line.

The cases are in ``bad_input/*.txt``: after ``--- title`` come files after ``=== path`` (if no path is given only one,
``feature_defs/orders.py``), then the problems after ``=== expected``. Every case has ``bad_input/_shop.py`` beside its modules;
one that has no Python module gets one that imports it.
After a change of wording, ``UPDATE_GOLDEN=1 pytest tests/definitions/test_bad_input.py`` writes the messages anew, to be
reviewed like code.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from fstore.definitions.loader import load_project

from .forked import ForkedLoader

FOLDER = Path(__file__).parent / "bad_input"
SHOP = FOLDER / "_shop.py"


@dataclass(frozen=True)
class Case:
    corpus: str
    title: str
    files: dict[str, str] = field(hash=False)
    expected: str

    @property
    def text(self) -> str:
        if list(self.files) == ["feature_defs/orders.py"]:
            body = self.files["feature_defs/orders.py"]
        else:
            body = "".join(f"=== {path}\n{text}" for path, text in self.files.items())
        return f"--- {self.title}\n{body}=== expected\n{self.expected}"


def read_cases(corpus: Path) -> list[Case]:
    cases = []
    for block in corpus.read_text().split("--- ")[1:]:
        title, _, rest = block.partition("\n")
        if not rest.startswith("=== "):
            rest = f"=== feature_defs/orders.py\n{rest}"
        parts = dict(part.split("\n", 1) for part in rest.split("=== ")[1:])
        expected = parts.pop("expected", "")
        cases.append(Case(corpus.name, title, parts, expected))
    return cases


CASES = [case for corpus in sorted(FOLDER.glob("*.txt")) for case in read_cases(corpus)]


def write(case: Case, root: Path) -> Path:
    shop = {"feature_defs/_shop.py": SHOP.read_text()}
    if not any(path.endswith(".py") for path in case.files):
        shop["feature_defs/shop.py"] = "from ._shop import *\n"
    for path, text in {**shop, **case.files}.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root / "feature_defs"


@pytest.fixture(scope="module")
def loader() -> Iterator[ForkedLoader]:
    with ForkedLoader() as loader:
        yield loader


@pytest.fixture(scope="module")
def found() -> Iterator[dict[Case, str]]:
    """The messages of the cases that were loaded."""
    found: dict[Case, str] = {}
    yield found
    if os.environ.get("UPDATE_GOLDEN"):
        for corpus in sorted(FOLDER.glob("*.txt")):
            cases = [replace(case, expected=found.get(case, case.expected)) for case in CASES if case.corpus == corpus.name]
            corpus.write_text("".join(case.text for case in cases))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.corpus[:-4]}: {case.title}")
def test_the_message_is(case: Case, tmp_path: Path, loader: ForkedLoader, found: dict[Case, str]) -> None:
    root = tmp_path.resolve()
    directory = write(case, root)
    if case.corpus == "files.txt":  # about the modules' process: one from the beginning
        problems = [str(problem) for problem in load_project(directory, "shop").problems]
    else:
        problems = loader.problems(directory)
    found[case] = "".join(f"{problem}\n" for problem in problems).replace(f"{root}/", "")
    assert found[case] == case.expected


def test_the_corpus_is_large_and_every_case_has_a_problem() -> None:
    assert len(CASES) >= 200
    assert [case.title for case in CASES if not case.expected] == []
    assert len({(case.corpus, case.title) for case in CASES}) == len(CASES)
