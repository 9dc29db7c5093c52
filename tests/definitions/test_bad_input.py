"""Every mistake that can be seen while loading: its whole message, with file and line.

The cases are in ``bad_input/*.txt``: after ``--- title`` come files after ``=== path`` (if no path is given only one,
``feature_defs/orders.py``), then the problems after ``=== expected``. Every case has ``bad_input/_shop.py`` beside its modules;
one that has no Python module gets one that imports it.
After a change of wording, ``UPDATE_GOLDEN=1 pytest tests/definitions/test_bad_input.py`` writes the messages anew, to be
reviewed like code.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from fstore.definitions.loader import load_project

FOLDER = Path(__file__).parent / "bad_input"
SHOP = FOLDER / "_shop.py"


@dataclass(frozen=True)
class Case:
    corpus: str
    title: str
    files: dict[str, str]
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


def load(case: Case, root: Path) -> str:
    shop = {"feature_defs/_shop.py": SHOP.read_text()}
    if not any(path.endswith(".py") for path in case.files):
        shop["feature_defs/shop.py"] = "from ._shop import *\n"
    for path, text in {**shop, **case.files}.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    problems = load_project(root / "feature_defs", "shop").problems
    return "".join(f"{problem}\n" for problem in problems).replace(f"{root}/", "")


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    with ThreadPoolExecutor(4) as pool:
        roots = [tmp_path_factory.mktemp("case") for _ in CASES]
        found = dict(zip(map(id, CASES), pool.map(load, CASES, roots), strict=True))
    if os.environ.get("UPDATE_GOLDEN"):
        for corpus in sorted(FOLDER.glob("*.txt")):
            cases = [case for case in CASES if case.corpus == corpus.name]
            corpus.write_text("".join(Case(c.corpus, c.title, c.files, found[id(c)]).text for c in cases))
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.corpus[:-4]}: {case.title}")
def test_the_message_is(case: Case, messages: dict[int, str]) -> None:
    assert messages[id(case)] == case.expected


def test_the_corpus_is_large_and_every_case_has_a_problem() -> None:
    assert len(CASES) >= 200
    assert [case.title for case in CASES if not case.expected] == []
    assert len({(case.corpus, case.title) for case in CASES}) == len(CASES)
