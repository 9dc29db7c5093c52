"""The source of a Python view's function that its fingerprint covers.

Takes an imported function and gives its text without comments, docstrings, annotations and formatting, followed by that of
everything it names at the top level of the project's modules: functions, classes, constants, and imports from elsewhere as
they are written. A changed helper therefore changes the fingerprint, and a moved one does not. Follows names, not values:
what is looked up by ``getattr`` or read from a file is not seen.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

from fstore.definitions.feature_view import FeatureView
from fstore.definitions.location import Located


def function_source(function: FunctionType | type) -> str:
    """Return the normalized source of a module-level function or class and of what it uses in the modules of its package."""
    return "\n".join(_Sources(function.__module__).statements(function.__module__, function.__name__))


class _Sources:
    """Reads the modules of one package."""

    def __init__(self, module: str) -> None:
        """Take the dotted name of an imported module of the package."""
        self.package = module.split(".", maxsplit=1)[0]
        file = Path(sys.modules[module].__file__ or "").resolve()
        self.folder = file.parents[len(module.split(".")) - (0 if file.name == "__init__.py" else 1)]

    def statements(self, module: str, name: str) -> Iterator[str]:
        """Yield the statements that a name of a module stands for, then those of the names they use, breadth first."""
        waiting = [(module, name)]
        seen: set[tuple[str, str]] = set()
        done: set[int] = set()
        while waiting:
            place = waiting.pop(0)
            if place in seen or _is_declaration(*place):
                continue
            seen.add(place)
            contents = self.contents(place[0])
            if place[1] in contents.imported:
                waiting += self._targets(*contents.imported[place[1]])
            for statement in contents.statements.get(place[1], []):
                if id(statement) not in done:
                    done.add(id(statement))
                    yield ast.unparse(statement)
                    waiting += [(place[0], used) for used in _used_names(statement)]
                    waiting += [target for inner in _inner_imports(statement) for target in self._inner(place[0], inner)]

    def contents(self, module: str) -> _Contents:
        """Return the parsed statements of a module of the package."""
        file = self._file(module)
        if file is None:
            return _Contents()
        status = file.stat()
        return _read_module(self, module, str(file), (status.st_mtime_ns, status.st_size))

    def import_target(self, module: str, statement: ast.Import | ast.ImportFrom, name: str) -> tuple[str, str | None] | None:
        """Return the module of this package, and the name in it, that an import refers to (no name: the whole module)."""
        if isinstance(statement, ast.Import):
            return (name, None) if self._file(name) else None
        head: list[str] = []
        if statement.level:
            parts = module.split(".") if self._is_package(module) else module.split(".")[:-1]
            head = parts[: len(parts) - statement.level + 1]
        dotted = ".".join([*head, *([statement.module] if statement.module else [])])
        if self._file(f"{dotted}.{name}"):
            return f"{dotted}.{name}", None
        return (dotted, name) if self._file(dotted) else None

    def _inner(self, module: str, statement: ast.Import | ast.ImportFrom) -> list[tuple[str, str]]:
        found = [self.import_target(module, statement, alias.name) for alias in statement.names]
        return [place for target in found if target for place in self._targets(*target)]

    def _targets(self, module: str, name: str | None) -> list[tuple[str, str]]:
        if name is not None:
            return [(module, name)]
        contents = self.contents(module)
        return [(module, bound) for bound in (*contents.statements, *contents.imported)]

    def _file(self, module: str) -> Path | None:
        first, *parts = module.split(".")
        if first != self.package:
            return None
        folder = self.folder.joinpath(first, *parts)
        return next(
            (file for file in (folder / "__init__.py", folder.with_name(f"{folder.name}.py")) if file.is_file()), None
        )

    def _is_package(self, module: str) -> bool:
        file = self._file(module)
        return file is None or file.name == "__init__.py"


class _Contents:
    """The normalized statements of a module by the names they bind, and where names imported in the package come from."""

    def __init__(self) -> None:
        self.statements: dict[str, list[ast.stmt]] = {}
        self.imported: dict[str, tuple[str, str | None]] = {}


_read: dict[tuple[str, tuple[int, int]], _Contents] = {}


def _read_module(sources: _Sources, module: str, file: str, version: tuple[int, int]) -> _Contents:
    """Parse a module, or return what was parsed of this version of its file."""
    if (file, version) in _read:
        return _read[file, version]
    contents = _Contents()
    tree: ast.Module = _Normalizer().visit(ast.parse(Path(file).read_bytes(), file))
    for statement in ast.fix_missing_locations(tree).body:
        if isinstance(statement, ast.If) and ast.unparse(statement.test).endswith("TYPE_CHECKING"):
            continue
        if isinstance(statement, ast.Import | ast.ImportFrom):
            _read_import(sources, module, statement, contents)
            continue
        for name in dict.fromkeys(_bound_names(statement)):
            contents.statements.setdefault(name, []).append(statement)
    _read[file, version] = contents
    return contents


def _read_import(sources: _Sources, module: str, statement: ast.Import | ast.ImportFrom, contents: _Contents) -> None:
    """Enter what an import binds: a place in the package, or the import itself, one name at a time."""
    for alias in statement.names:
        target = sources.import_target(module, statement, alias.name)
        bound = alias.asname or (alias.name.split(".")[0] if isinstance(statement, ast.Import) else alias.name)
        if target is not None:
            contents.imported[bound] = target
        elif isinstance(statement, ast.Import):
            contents.statements.setdefault(bound, []).append(ast.Import([alias]))
        else:
            single = ast.ImportFrom(statement.module, [alias], statement.level)
            contents.statements.setdefault(bound, []).append(single)


def _bound_names(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a top-level statement binds, those within its blocks included."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
        return
    for node in ast.walk(statement):
        match node:
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.alias(name=name, asname=renamed):
                yield renamed or name.split(".")[0]


def _used_names(statement: ast.stmt) -> list[str]:
    """Return the names that a statement looks up, sorted; its own locals among them do no harm."""
    return sorted({node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)})


def _inner_imports(statement: ast.stmt) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in ast.walk(statement) if isinstance(node, ast.Import | ast.ImportFrom) and node is not statement]


def _is_declaration(module: str, name: str) -> bool:
    """Whether a name stands for a view, source or other declaration, which has a fingerprint of its own."""
    value = getattr(sys.modules.get(module), name, None)
    return isinstance(value, Located) or (isinstance(value, type) and issubclass(value, FeatureView))


class _Normalizer(ast.NodeTransformer):
    """Removes docstrings and the annotations of functions."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Strip a function."""
        return self._strip(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        """Strip a coroutine function."""
        return self._strip(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """Strip a class of its docstring; its annotations may mean something."""
        self.generic_visit(node)
        node.body = _without_docstring(node.body)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        """Strip a parameter."""
        node.annotation = None
        return node

    def _strip(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.returns = None
        node.body = _without_docstring(node.body)
        return node


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return body[1:] or [ast.Pass()]
    return body
