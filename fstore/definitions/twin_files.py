"""The files of definitions that are not Python, as YAML nodes: ``*.yaml`` (several documents) and ``*.sql`` (a header).

A ``.sql`` file begins with a comment, ``/* … */`` or lines of ``--``, that holds the YAML of one document; what follows is
its SQL. Nothing is understood here but where the header ends. Raises YamlError with the line in the file.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from fstore.definitions.yaml_nodes import MappingNode, Node, ScalarNode, YamlError, read_documents

_KIND = "FeatureView"
"""The kind of a ``.sql`` file that does not say another one."""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """One declaration of a twin file: its kind as written, and its keys."""

    file: str
    line: int
    kind: str
    node: MappingNode


def read_twins(path: Path, file: str) -> list[Document]:
    """Return the documents of a twin file, which messages call ``file``."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise YamlError("is not UTF-8 text.", 1, "Save it as UTF-8.") from None
    if path.suffix == ".sql":
        return [_read_sql(text, path.stem, file)]
    documents = [_document(node, file) for node in read_documents(text)]
    if not documents:
        raise YamlError("declares nothing.", 1, "Begin a declaration with `kind: FeatureView`, or remove the file.")
    return documents


def _document(node: Node, file: str) -> Document:
    if not isinstance(node, MappingNode):
        raise YamlError("holds something that is no mapping.", node.line, "Begin a declaration with `kind: FeatureView`.")
    kind = node.entries.pop("kind", None)
    if not isinstance(kind, ScalarNode):
        raise YamlError(
            "holds a declaration without a kind.",
            node.line,
            "Begin it with `kind: FeatureView`, say, or begin the file's name with an underscore if it declares nothing.",
        )
    return Document(file=file, line=node.line, kind=kind.text, node=node)


def _read_sql(text: str, stem: str, file: str) -> Document:
    header, sql, line = _split_header(text)
    documents = read_documents(header) if header is not None else []
    if len(documents) > 1:
        raise YamlError("has more than one document in its header.", documents[1].line, "Write one file per declaration.")
    node = documents[0] if documents else None
    if not isinstance(node, MappingNode):
        raise YamlError(
            "does not begin with a header: a comment that says what the SELECT below it is.",
            1,
            "Begin with `/*`, lines such as `entity: user`, and `*/`, or let the file's name begin with an underscore if it "
            "declares nothing.",
        )
    if "sql" in node.entries:
        raise YamlError("has a key 'sql' in its header.", node.lines["sql"], "Write the SELECT below the header.")
    if not sql.strip():
        raise YamlError("has a header and no SELECT below it.", line, "Write it there.")
    node.entries["sql"], node.lines["sql"] = ScalarNode(line, sql.strip(), plain=False), line
    node.entries.setdefault("kind", ScalarNode(node.line, _KIND, plain=True))
    node.entries.setdefault("name", ScalarNode(node.line, stem, plain=False))
    node.lines.setdefault("name", node.line)
    return _document(node, file)


def _split_header(text: str) -> tuple[str | None, str, int]:
    """Return the header's YAML on the lines that it has in the file, what comes after it, and the line of that."""
    lines = text.splitlines()
    first = next((number for number, line in enumerate(lines) if line.strip()), len(lines))
    if first == len(lines):
        return None, "", 1
    if lines[first].lstrip().startswith("/*"):
        before, _, rest = text.partition("/*")
        header, closed, sql = rest.partition("*/")
        if not closed:
            raise YamlError("begins a comment that never ends.", first + 1, "End the header with `*/`.")
        header = "\n" * before.count("\n") + header
    elif lines[first].lstrip().startswith("--"):
        last = next((n for n, line in enumerate(lines) if n > first and not line.lstrip().startswith("--")), len(lines))
        header = "\n" * first + "\n".join(_uncommented(line) for line in lines[first:last])
        sql = "\n".join(lines[last:])
        header += "\n" if sql else ""
    else:
        return None, text, 1
    line = 1 + header.count("\n") + sql[: len(sql) - len(sql.lstrip())].count("\n")
    return header, sql, line


def _uncommented(line: str) -> str:
    """Return a line of the header without its ``--`` and the one space that usually follows."""
    text = line.lstrip()[2:]
    return text.removeprefix(" ") if text.strip() else ""
