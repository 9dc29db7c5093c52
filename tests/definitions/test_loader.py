"""Loading a project in a child process, whatever its modules do."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path

import pytest

from fstore.definitions.loader import Project, load_project
from fstore.definitions.location import Location
from fstore.definitions.serialization import decode_project, encode_project

from .conftest import Write

VIEW = """
from fstore import FeatureView, agg
from .shop import orders, user

class {name}(FeatureView):
    entity, source, schedule, start = user, orders, "@daily", "2026-01-01"
    n = agg.count().over("7d")
"""
GOOD = VIEW.format(name="Good")


def messages(project: Project) -> list[str]:
    return [str(problem) for problem in project.problems]


def test_a_project_is_ordered_and_relative_to_its_root(write: Write) -> None:
    directory = write(
        {
            "b.py": VIEW.format(name="Zebra") + VIEW.format(name="Ape"),
            "a.py": VIEW.format(name="Middle"),
            "sub/c.py": VIEW.format(name="Deep").replace(".shop", "..shop"),
            "sub/d.py": """
            from fstore import FeatureService
            from feature_defs.a import Middle
            from feature_defs.b import Zebra
            services = [FeatureService("one", features=[Middle, Zebra.n])]
            """,
        }
    )
    project = load_project(directory, "shop")
    assert messages(project) == []
    assert list(project.views) == ["middle", "zebra", "ape", "deep"]
    assert {view.name: (view.module, view.location.line) for view in project.views.values()} == {
        "middle": ("feature_defs/a.py", 5),
        "zebra": ("feature_defs/b.py", 5),
        "ape": ("feature_defs/b.py", 12),
        "deep": ("feature_defs/sub/c.py", 5),
    }
    assert list(project.entities) == ["user"]
    assert list(project.sources) == ["orders", "users"]
    assert project.entities["user"].location == Location("feature_defs/shop.py", 4)
    assert list(project.services) == ["one"]
    assert (project.project, project.directory, project.transient) == ("shop", "feature_defs", False)
    assert load_project(directory, "shop") == project
    assert decode_project(encode_project(project)) == project
    assert list(decode_project(encode_project(project)).views) == list(project.views)


def test_an_init_file_and_private_modules_are_imported_but_not_collected(write: Write) -> None:
    directory = write(
        {
            "__init__.py": "LEVEL = 7",
            "_template.py": """
            from fstore import FeatureView, agg
            from .shop import orders, user

            def make(label, days):
                class Made(FeatureView):
                    name = label
                    entity, source, schedule, start = user, orders, "@daily", "2026-01-01"
                    n = agg.count().over(f"{days}d")
                return Made
            """,
            "_broken.py": "1/0",
            ".hidden.py": "1/0",
            "__pycache__/x.py": "1/0",
            "_private/y.py": "1/0",
            "a.py": """
            from feature_defs import LEVEL
            from ._template import make

            for city in ("berlin", "paris"):
                make(city, LEVEL)
            """,
        }
    )
    project = load_project(directory, "shop")
    assert messages(project) == []
    assert {name: view.module for name, view in project.views.items()} == {
        "berlin": "feature_defs/a.py",
        "paris": "feature_defs/a.py",
    }
    assert project.views["paris"].location == Location("feature_defs/_template.py", 6)
    assert project.views["paris"].members["n"].windows == ("7d",)


def test_a_broken_module_costs_the_others_nothing(write: Write) -> None:
    directory = write(
        {
            "a_raises.py": GOOD.replace("Good", "Lost") + "\n1/0\n",
            "b_depends.py": "from .a_raises import Lost\n",
            "c_good.py": GOOD,
            "d_catches.py": "try:\n    from .a_raises import Lost\nexcept Exception:\n    Lost = None\n"
            + VIEW.format(name="Other"),
        }
    )
    project = load_project(directory, "shop")
    assert messages(project) == [
        "module (feature_defs/a_raises.py:9) raises ZeroDivisionError: division by zero.",
        "module (feature_defs/b_depends.py:1) is blocked by feature_defs/a_raises.py. Solve the problem there first.",
    ]
    assert list(project.views) == ["good", "other"]
    assert project.broken == {"lost": Location("feature_defs/a_raises.py", 5)}
    assert not project.transient


def test_a_view_with_a_problem_is_broken_and_so_are_those_that_read_it(write: Write) -> None:
    directory = write(
        {
            "a.py": GOOD.replace('"7d"', '"7"'),
            "b.py": """
            from fstore import FeatureView, feature
            from .a import Good
            from .shop import user

            class Reader(FeatureView):
                entity, inputs, schedule, sql = user, {"g": Good}, "@daily", "SELECT 1"
                n = feature("int64")
            """,
        }
    )
    project = load_project(directory, "shop")
    assert messages(project) == [
        "feature 'good:n' (feature_defs/a.py:7) has a wrong window: '7' is not a duration; write a number and a unit of s, "
        'm, h, d, w or y, such as "7d" or "1d12h".',
        "feature view 'reader' (feature_defs/b.py:6) is blocked by feature_defs/a.py:5: feature view 'good' has a problem. "
        "Solve that one first.",
    ]
    assert project.views == {}
    assert project.broken == {"good": Location("feature_defs/a.py", 5), "reader": Location("feature_defs/b.py", 6)}


def test_modules_that_hang_crash_and_exit_are_named_and_the_rest_loads(write: Write) -> None:
    directory = write(
        {
            "a_hangs.py": "import time\n\ndef wait():\n    while True:\n        time.sleep(0.01)\n\nwait()\n",
            "b_exits.py": "import os\nprint('bye')\nos._exit(3)\n",
            "c_crashes.py": "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n",
            "d_depends.py": "from . import a_hangs\n",
            "e_good.py": GOOD,
            "f_leaves.py": "import sys\nsys.exit()\n",
        }
    )
    started = time.monotonic()
    project = load_project(directory, "shop", timeout=2)
    assert time.monotonic() - started < 10
    assert messages(project) == [
        "module (feature_defs/a_hangs.py:5) was still being imported after 2 s, and was stopped. A definition module only "
        "declares: move what takes long into the function that needs it.",
        "module (feature_defs/b_exits.py:1) ended the process with exit code 3 while it was imported. A definition module "
        "only declares: remove the call of os._exit. It printed: 'bye'",
        "module (feature_defs/c_crashes.py:2) was being imported when the process was killed by SIGSEGV. Memory ran out, or "
        "a library that it imports crashed.",
        "module (feature_defs/d_depends.py:1) is blocked by feature_defs/a_hangs.py. Solve the problem there first.",
        "module (feature_defs/f_leaves.py:2) calls sys.exit(None); a definition module only declares. Remove the call.",
    ]
    assert list(project.views) == ["good"]
    assert project.transient


def test_the_time_for_all_modules_is_bounded(write: Write) -> None:
    directory = write({f"hangs_{number}.py": "import time\nwhile True: time.sleep(0.01)" for number in range(1, 9)})
    write({"hangs_0.py": "while True: pass"})
    started = time.monotonic()
    project = load_project(directory, "shop", timeout=1)
    assert time.monotonic() - started < 10
    assert messages(project)[-1].startswith(f"definitions directory '{directory}' was not loaded: feature_defs/hangs_0.py, ")
    assert messages(project)[-1].endswith("used up the time for it. Solve that first, or raise the setting `load_timeout`.")
    assert project.transient


def test_a_child_that_does_not_get_to_begin_is_late_and_did_not_crash(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = write({"a.py": GOOD})
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "sitecustomize.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "slow"))
    monkeypatch.setattr("fstore.definitions.loader._OWN_SECONDS", 0.5)

    project = load_project(directory, "shop", timeout=0.5)

    first, second = messages(project)
    assert first == (
        "the process that loads the definitions was not done when the time was up, and was stopped. Try again when the "
        "machine is less busy."
    )
    assert second.endswith("was not loaded. Solve that first, or raise the setting `load_timeout`.")
    assert project.transient


def test_megabytes_of_output_neither_block_nor_stay_in_memory(write: Write) -> None:
    directory = write(
        {
            "a_floods.py": "import sys\nfor _ in range(500):\n    print('x' * 9999)\n    print('e' * 9999, file=sys.stderr)\n"
            + GOOD,
            "b_floods.py": "import os\nfor _ in range(3000):\n    os.write(1, b'y' * 999 + bytes([10]))\nos.write(2, b'the end')\n1/0",
            "c_endless.py": "while True: print('z' * 100000)",
        }
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    project = load_project(directory, "shop", timeout=1.5)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KB
    first, second = messages(project)
    assert first == (
        "module (feature_defs/b_floods.py:5) raises ZeroDivisionError: division by zero. It printed 3.0 MB, the last line "
        "being: 'the end'"
    )
    assert second.startswith("module (feature_defs/c_endless.py:1) was still being imported after 1.5 s, and was stopped.")
    assert list(project.views) == ["good"]


def test_threads_and_processes_of_a_module_do_not_outlive_the_load(write: Write, tmp_path: Path) -> None:
    directory = write(
        {
            "a.py": f"""
            import subprocess, threading, time
            threading.Thread(target=lambda: time.sleep(300)).start()
            process = subprocess.Popen(["sleep", "300"])
            open({str(tmp_path / "pid")!r}, "w").write(str(process.pid))
            """,
            "b.py": GOOD,
        }
    )
    started = time.monotonic()
    project = load_project(directory, "shop")
    assert time.monotonic() - started < 20
    assert (messages(project), list(project.views)) == ([], ["good"])
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while _is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _is_running(pid)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_module_that_is_not_utf8(write: Write) -> None:
    directory = write({})
    (directory / "a.py").write_bytes(b'name = "M\xfcller"\n')
    assert messages(load_project(directory, "shop")) == ["module (feature_defs/a.py:1) is not UTF-8 text. Save it as UTF-8."]


def test_two_edits_within_one_second_are_both_seen(write: Write) -> None:
    directory = write({"a.py": GOOD})
    stamp = (directory / "a.py").stat()
    assert load_project(directory, "shop").views["good"].members["n"].windows == ("7d",)
    write({"a.py": GOOD.replace("7d", "8d")})
    os.utime(directory / "a.py", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert load_project(directory, "shop").views["good"].members["n"].windows == ("8d",)
    assert not list(directory.rglob("__pycache__"))


def test_files_from_outside_are_dependencies(write: Write, tmp_path: Path) -> None:
    directory = write({"a.py": "import company_days\n" + GOOD.replace('"7d"', "company_days.WEEK")})
    (tmp_path / "company_days.py").write_text('WEEK = "7d"\n')
    project = load_project(directory, "shop")
    assert messages(project) == []
    assert project.dependencies == (str(tmp_path.resolve() / "company_days.py"),)


@pytest.mark.parametrize(
    ("name", "make", "expected"),
    [
        ("feature_defs", False, "does not exist. Create it, or name another one in the setting `definitions`."),
        (
            "feature_defs",
            True,
            "holds no module (files whose name begins with an underscore or a dot do not count). Add one that declares a "
            "feature view, such as orders.py; `fstore init` writes an example.",
        ),
        (
            "json",
            True,
            "would hide the Python package 'json' from its own modules. Rename it, to `feature_defs` for example, and set "
            "`definitions` to that.",
        ),
    ],
)
def test_a_directory_that_cannot_be_loaded(tmp_path: Path, name: str, make: bool, expected: str) -> None:
    directory = tmp_path / name
    if make:
        directory.mkdir()
    project = load_project(directory, "shop")
    assert messages(project) == [f"definitions directory '{directory.resolve()}' {expected}"]
    assert project.views == {}


def test_a_file_instead_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "feature_defs").write_text("")
    assert messages(load_project(tmp_path / "feature_defs", "shop"))[0].startswith(
        f"definitions directory '{tmp_path.resolve()}/feature_defs' is not a directory."
    )


def test_a_load_survives_a_parent_with_odd_signals_and_paths(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = write({"a.py": GOOD, "json.py": "x = 1"})
    monkeypatch.chdir(directory)  # a module called json must not shadow the standard library's
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    previous = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    try:
        assert messages(load_project(directory, "shop")) == []
    finally:
        signal.signal(signal.SIGALRM, previous)
