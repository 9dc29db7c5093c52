"""Which library's tables or columns a function takes, read off the annotations of its parameters.

Nothing is evaluated and no library imported: an annotation that is text (``from __future__ import annotations``, or an
import under ``TYPE_CHECKING``) is matched with the import statements of its module.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Collection
from pathlib import Path
from types import FunctionType

from fstore.definitions.feature_view import FrameKind

_LIBRARIES: dict[str, FrameKind] = {"pyarrow": "arrow", "pandas": "pandas", "polars": "polars"}
TABLES: dict[FrameKind, tuple[str, ...]] = {"arrow": ("Table",), "pandas": ("DataFrame",), "polars": ("DataFrame",)}
"""What the parameters of a Python view may be annotated with, by library."""
COLUMNS: dict[FrameKind, tuple[str, ...]] = {
    "arrow": ("Array", "ChunkedArray"),
    "pandas": ("Series",),
    "polars": ("Series",),
}
"""What the parameters of an on-demand function may be annotated with, by library."""


def frame_kinds(
    function: FunctionType, names: Collection[str], *, columns: bool
) -> tuple[dict[str, FrameKind], dict[str, str]]:
    """Return the library of each parameter that has an annotation, and the annotations that mean none, as text."""
    allowed = COLUMNS if columns else TABLES
    found: dict[str, FrameKind] = {}
    unknown: dict[str, str] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        annotation = parameter.annotation
        if name not in names or annotation is inspect.Parameter.empty:
            continue
        module, kind = _meaning(annotation, function.__module__)
        library = _LIBRARIES.get(module.partition(".")[0])
        if library is not None and kind in allowed[library]:
            found[name] = library
        else:
            unknown[name] = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    return found, unknown


def _meaning(annotation: object, module: str) -> tuple[str, str]:
    """Return the module and the name of the class that an annotation names; empty where that cannot be told."""
    if isinstance(annotation, type):
        return annotation.__module__, annotation.__name__
    if not isinstance(annotation, str):
        return "", ""
    try:
        tree = ast.parse(annotation.strip(), mode="eval").body
    except SyntaxError:
        return "", ""
    if isinstance(tree, ast.Constant):
        return _meaning(tree.value, module)
    parts = ast.unparse(tree).split(".")
    imports = _imports(module)
    if parts[0] in imports:
        home, name = imports[parts[0]]
        return (home, name) if len(parts) == 1 else (home if not name else f"{home}.{name}", parts[-1])
    return "", ""


def _imports(module: str) -> dict[str, tuple[str, str]]:
    """Return what the imports anywhere in a module bind: name to module, and to the name in it (empty: the module)."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return {}
    bound: dict[str, tuple[str, str]] = {}
    for node in ast.walk(ast.parse(Path(file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for item in node.names:
                bound[item.asname or item.name.partition(".")[0]] = (
                    (item.name, "") if item.asname else (item.name.partition(".")[0], "")
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            bound.update({item.asname or item.name: (node.module, item.name) for item in node.names})
    return bound
