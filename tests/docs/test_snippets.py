"""The documentation is true: its blocks run, the output it shows is what is printed, its links lead somewhere."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fstore.definitions.loader import load_project
from fstore.plan.compiler import compile_plan
from fstore.settings import load_settings
from tests.docs.environments import ENVIRONMENTS, EnvironmentMissing, python_of
from tests.docs.pages import PAGES, ROOT, Block, check_output, commands_of, read_blocks

RUNNING = [page for page in PAGES if any(block.verb for block in read_blocks(page))]


def relative(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


class Shell:
    """A page's project: runs console lines and Python blocks in it, as a reader would."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._pythons: dict[str, subprocess.Popen[str]] = {}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FSTORE_", "AIRFLOW"))}
        self.environment = kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}", "COLUMNS": "200",
                                   "PYTEST_PLUGINS": "fstore.testing.plugin"}  # fmt: skip

    def run(self, line: str, expected: set[int]) -> str:
        """Run a line and return what it printed; a ``cd`` in it lasts."""
        done = subprocess.run(
            ["bash", "-c", f'{line}\ncode=$?; printf "\\n::%s" "$PWD" >&2; exit $code'],
            cwd=self.directory, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        errors, _, directory = done.stderr.rpartition("\n::")
        assert done.returncode in expected, f"{line!r} ended with {done.returncode}:\n{done.stdout}{errors}"
        self.directory = Path(directory)
        return done.stdout + errors

    def execute(self, code: str, environment: str = "") -> str:
        """Execute Python in the project and return what it printed; names live as long as the page.

        An environment of its own has names of its own. Raises EnvironmentMissing.
        """
        if environment not in self._pythons:
            driver = Path(__file__).with_name("_driver.py")
            python, variables = sys.executable, self.environment
            if environment:
                python, variables = str(python_of(environment)), variables | ENVIRONMENTS[environment].variables
            self._pythons[environment] = subprocess.Popen(
                [python, str(driver)], cwd=self.directory, env=variables, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
        process = self._pythons[environment]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(code) + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        assert not answer["error"], answer["error"]
        return str(answer["printed"])

    def close(self) -> None:
        for process in self._pythons.values():
            process.communicate(timeout=30)


# -- the projects that pages begin with -------------------------------------------------------------------------------


def nothing(root: Path) -> Path:
    """Return an empty directory, as the reader of the README has."""
    root.mkdir(parents=True)
    return root


def laid_out(root: Path) -> Path:
    """Return what ``fstore init`` lays out, run once."""
    project = root / "shop"
    for arguments in (["init", str(project)], ["run"]):
        cwd = project if project.exists() else root.parent
        subprocess.run([sys.executable, "-m", "fstore.cli", *arguments], cwd=cwd, capture_output=True, check=True)
    return project


def flights(root: Path) -> Path:
    """Return the example of this repository, with its data and without what it has published."""
    project = root / "flights"
    for name in ("feature_defs", "dags", "plugins", "scripts"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", project)
    if (ROOT / "data" / "airlines.csv").exists():
        shutil.copytree(ROOT / "data", project / "data")
    else:
        subprocess.run([sys.executable, str(project / "scripts" / "flights_data.py")], capture_output=True, check=True)
    return project


def shop_data(root: Path) -> Path:
    """Return a project without definitions, whose data is that of the reference of definitions."""
    project = root / "shop"
    (project / "data" / "purchases").mkdir(parents=True)
    (project / "pyproject.toml").write_text('[tool.fstore]\nproject = "shop"\n', encoding="utf-8")
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    purchases = [
        {
            "purchased_at": begin + timedelta(hours=7 * number),
            "user_id": f"u{number % 5}",
            "amount": None if number % 11 == 0 else float(number % 17),
            "quantity": number % 3 + 1,
            "category": ["books", "food", "toys"][number % 3],
            "gift": number % 4 == 0,
        }
        for number in range(40)
    ]
    types = {
        "purchased_at": pa.timestamp("us", "UTC"), "user_id": pa.string(), "amount": pa.float64(), "quantity": pa.int32(),
        "category": pa.string(), "gift": pa.bool_(),
    }  # fmt: skip
    pq.write_table(pa.Table.from_pylist(purchases, pa.schema(types)), project / "data" / "purchases" / "2026-01.parquet")
    users = [
        {"user_id": f"u{number}", "updated_at": begin - timedelta(days=9), "born_on": date(1980, 1, 1), "country": "DE"}
        for number in range(6)
    ]
    types = {"user_id": pa.string(), "updated_at": pa.timestamp("us", "UTC"), "born_on": pa.date32(), "country": pa.string()}
    pq.write_table(pa.Table.from_pylist(users, pa.schema(types)), project / "data" / "users.parquet")
    (project / "data" / "visits.csv").write_text(
        "user_id;visited_at;seconds\nu1;2026-01-01 10:30:00;12\nu2;2026-01-02 09:00:00;NA\n", encoding="utf-8"
    )
    (project / "data" / "countries.csv").write_text("country,continent\nDE,Europe\nJP,Asia\n", encoding="utf-8")
    return project


def click_data(root: Path) -> Path:
    """Return a project without definitions, whose data is that of the reference of sources."""
    project = root / "clicks"
    (project / "data").mkdir(parents=True)
    (project / "pyproject.toml").write_text('[tool.fstore]\nproject = "clicks"\n', encoding="utf-8")
    begin = datetime(2026, 1, 1, 9, tzinfo=UTC)
    web = {
        "customer_id": ["u1", "u2", "u1", "u1"],
        "clicked_at": pa.array([begin + timedelta(hours=7 * number) for number in range(4)], pa.timestamp("us", "UTC")),
        "cents": pa.array([120, 80, 0, 50], pa.int32()),
    }
    pq.write_table(pa.table(web), project / "data" / "web.parquet")
    (project / "data" / "app.csv").write_text(
        "user_id,seen_at,cents,euros\nu1,2026-01-01T10:00:00Z,30,0.3\nu3,2026-01-02T10:00:00Z,500,5.0\n", encoding="utf-8"
    )
    return project


PROJECTS = {
    "README.md": nothing,
    "docs/tutorial.md": flights,
    "docs/reference/definitions.md": shop_data,
    "docs/reference/sources.md": click_data,
    "docs/reference/client.md": laid_out,
    "docs/reference/on-demand.md": nothing,
    "docs/how-to/backfill.md": laid_out,
    "docs/how-to/train-a-model.md": flights,
    "docs/how-to/repair.md": laid_out,
    "docs/how-to/test-features.md": laid_out,
    "docs/how-to/back-up-the-registry.md": laid_out,
    "docs/how-to/change-features-safely.md": laid_out,
}


@contextmanager
def opened(page: Path, root: Path) -> Iterator[Shell]:
    with ExitStack() as stack:
        shell = Shell(PROJECTS[relative(page)](root))
        stack.callback(shell.close)
        yield shell


# -- tests ------------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(900)  # the first time, environments are made
@pytest.mark.parametrize("page", RUNNING, ids=relative)
def test_blocks_run_and_print_what_is_shown(page: Path, tmp_path: Path, subtests: pytest.Subtests) -> None:
    printed = ""
    with opened(page, tmp_path / "page") as shell:
        for block in read_blocks(page):
            try:
                printed = follow(shell, block, printed)
            except AssertionError as error:
                pytest.fail(f"{relative(page)}:{block.line}: {error}", pytrace=False)
            except EnvironmentMissing as missing:
                with subtests.test(f"the block of line {block.line}"):
                    pytest.skip(f"environment {block.value!r} cannot be made here: {missing}")
    for directory in (tmp_path / "page").rglob("feature_defs"):
        assert compile_plan(load_project(directory, "page"), {}).problems == ()


def test_the_definitions_of_the_reference_give_rows(tmp_path: Path) -> None:
    page = ROOT / "docs" / "reference" / "definitions.md"
    with opened(page, tmp_path / "page") as shell:
        for block in read_blocks(page):
            follow(shell, block, "")
        assert "no problems" in shell.run("fstore check", {0})
        shell.run("fstore apply", {0})
        outcomes = json.loads(shell.run("fstore run --json", {0}))
        assert {outcome["view"]: (outcome["state"], outcome["missing"]) for outcome in outcomes} == dict.fromkeys(
            (
                "user_purchases",
                "user_profile",
                "user_risk",
                "last_visit",
                "user_books",
                "user_food",
                "spent_per_visit",
                "user_deliveries",
                "user_country",
            ),
            ("published", 0),
        )
        risk = json.loads(shell.run("fstore show user_risk --json --at 2026-01-05", {0}))
        assert len(risk["rows"]) == 5


def follow(shell: Shell, block: Block, printed: str) -> str:
    """Do what a block says; return what the last Python block printed."""
    match block.verb, block.language:
        case "file", _:
            file = shell.directory / block.value
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8") as text:
                text.write(f"{block.text}\n")
        case "run", "python":
            return shell.execute(block.text, block.value)
        case "output", _:
            check_output(tuple(line for line in block.text.splitlines() if line.strip()), printed, shell.directory)
        case "run", _:
            commands = [command for command in commands_of(block) if not command.line.startswith("pip ")]
            for command in commands:
                last = block.value and command is commands[-1]
                expected = {int(block.value.removeprefix("exit "))} if last else {0}
                if command.line.startswith("fstore plan"):
                    expected |= {2}  # something is due
                output = shell.run(command.line, expected)
                if command.shown:
                    check_output(command.shown, output, shell.directory)
    return printed


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_python_and_toml_blocks_can_be_parsed(page: Path, tmp_path: Path) -> None:
    for block in read_blocks(page):
        if block.language == "python":
            ast.parse(block.text, filename=f"{relative(page)}:{block.line}")
        if block.language == "toml" and "fstore" in tomllib.loads(block.text).get("tool", {}):
            (tmp_path / "pyproject.toml").write_text(block.text, encoding="utf-8")
            load_settings(tmp_path, environ={})


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    missing = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in headings(file)):
            missing.append(target)
    assert missing == []


def headings(file: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
