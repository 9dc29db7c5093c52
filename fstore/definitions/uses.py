"""What a Python view uses besides its own function and the project's modules: ``uses = [clean, "models/risk.json"]``.

A changed helper outside of the definitions, or a changed model file, changes what a view computes, and nothing that the
function's own source says shows it. Takes the list as its author wrote it, and gives the content of each as it is now; the
fingerprint covers it, and a run refuses to go on when it is another one by then (:func:`changed_use`).
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from pathlib import Path
from types import FunctionType

from fstore.definitions.feature_view import FeatureView, Use
from fstore.definitions.function_source import function_source
from fstore.definitions.location import Location, display_path, project_root
from fstore.definitions.problems import Reporter
from fstore.definitions.validation import kind_of

_EXAMPLE = '[clean, "models/risk.json"]'


def read_uses(report: Reporter, value: object, *, at: Location | None) -> tuple[Use, ...]:
    """Return what a view says it uses, in order, or report what cannot be used."""
    here = report.about(report.subject, at)
    if not isinstance(value, list | tuple):
        here.add(f"has wrong uses: expected a list such as {_EXAMPLE}, got {kind_of(value)}.")
        return ()
    uses: list[Use] = []
    for item in value:
        use = _read_file(here, item) if isinstance(item, str) else _read_callable(here, item)
        if use is not None and use in uses:
            here.add(f"uses {use.name or use.file!r} twice.", "Remove one.")
        elif use is not None:
            uses.append(use)
    return tuple(uses)


_examined: set[str] = set()


def examined_files() -> set[str]:
    """Return the absolute path of every file that a view of this process said it uses, those that do not exist included.

    When one of them changes, appears or vanishes, the definitions have to be loaded again.
    """
    return set(_examined)


def changed_use(use: Use, root: Path) -> str:
    """Return why something is not what it was when the view was planned, or nothing when it still is."""
    file = root / use.file
    if not file.is_file():
        return f"{use.file}, which it uses, is gone"
    if not use.name:
        return "" if _digest(file) == use.content else f"{use.file}, which it uses, is not the file that was planned"
    found = getattr(importlib.import_module(use.module), use.name, None)
    if not isinstance(found, FunctionType | type) or function_source(found) != use.content:
        return f"{use.name} of {use.file}, which it uses, is not the one that was planned"
    return ""


def _read_file(report: Reporter, path: str) -> Use | None:
    root = project_root() or Path.cwd()
    file = (root / path).resolve()
    _examined.add(str(file))
    if not file.is_relative_to(root.resolve()) or Path(path).is_absolute():
        report.add(
            f"uses file {path!r}, which lies outside of the project.",
            "Name a file below the project's root, relative to it.",
        )
    elif file.is_dir():
        report.add(f"uses {path!r}, which is a directory.", "Name the files in it that count.")
    elif not file.is_file():
        report.add(f"uses file {path!r}, which does not exist.", "Paths begin at the project's root.")
    else:
        return Use(file=file.relative_to(root.resolve()).as_posix(), content=_digest(file))
    return None


def _read_callable(report: Reporter, item: object) -> Use | None:
    if isinstance(item, type) and issubclass(item, FeatureView):
        report.add(f"uses view {item.__name__}; views are read through inputs.", "Move it to inputs.")
        return None
    if not isinstance(item, FunctionType | type):
        report.add(f"uses {kind_of(item)}; expected functions, classes and paths of files, such as {_EXAMPLE}.")
        return None
    name: str = item.__name__
    module = sys.modules.get(item.__module__)
    file = getattr(module, "__file__", None) or ""
    root = project_root() or Path.cwd()
    bound: object = getattr(module, name, None)
    if item.__qualname__ != name or bound is not item:
        report.add(
            f"uses {name!r}, which is not at the top of its module under that name, so its source cannot be found again.",
            "Move it there.",
        )
    elif not file.endswith(".py") or not Path(file).is_relative_to(root):
        report.add(
            f"uses {name!r} of module {item.__module__!r}, which is not part of the project.",
            "Its version is not known to the fingerprint: name a file of the project that pins it, such as "
            '"requirements.txt", instead.',
        )
    else:
        _examined.add(file)
        return Use(file=display_path(file), module=item.__module__, name=name, content=function_source(item))
    return None


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
