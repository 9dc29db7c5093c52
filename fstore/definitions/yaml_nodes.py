"""YAML texts as nodes that know their lines: what the twins of definitions are read from.

Takes a text and gives its documents. Scalars stay texts until somebody says what they have to be, so ``start: 2026-01-01``,
``over: [7d]`` and ``country: no`` are what they look like; :func:`scalar_value` reads one by the rules of YAML 1.2, where
``yes``, ``on`` and ``no`` are texts. Anchors, aliases and ``<<`` work; tags, duplicate keys and keys that are no texts do
not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import yaml

_Event: TypeAlias = Any  # the parser's events are untyped

_NULLS = ("", "~", "null", "Null", "NULL")
_TRUE, _FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = {".inf": math.inf, "+.inf": math.inf, "-.inf": -math.inf, ".nan": math.nan}
_MERGE = "<<"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESERVED = {"@": '"@daily"', "`": '"`amount` > 0"', "%": '"%"'}


class YamlError(Exception):
    """What is wrong with a text as YAML, and at which line."""

    def __init__(self, problem: str, line: int, fix: str = "") -> None:
        self.problem, self.line, self.fix = problem, line, fix
        super().__init__(problem)


class Node:
    """Something in a YAML text, and the line that it begins at."""

    def __init__(self, line: int) -> None:
        self.line = line


class ScalarNode(Node):
    """A text; ``plain`` when it stands without quotes, so that it may mean a number, a boolean or nothing."""

    def __init__(self, line: int, text: str, *, plain: bool) -> None:
        super().__init__(line)
        self.text, self.plain = text, plain


class ListNode(Node):
    """A sequence."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.items: list[Node] = []


class MappingNode(Node):
    """A mapping from texts, in the order of the text; ``lines`` says where each key stands."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.entries: dict[str, Node] = {}
        self.lines: dict[str, int] = {}


def read_documents(text: str) -> list[Node]:
    """Return the documents of a text, empty ones left out. Raises YamlError."""
    return list(_Reader(text).documents())


def scalar_value(node: ScalarNode) -> bool | int | float | str | None:
    """Return what a scalar means: a quoted one is a text, a plain one may be null, a boolean or a number."""
    text = node.text
    if not node.plain:
        return text
    if text in _NULLS:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INTEGER.fullmatch(text) and len(text) < 40:
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return _SPECIAL.get(text.lower(), text)


def node_value(node: Node) -> object:
    """Return a node as plain Python values."""
    match node:
        case ScalarNode():
            return scalar_value(node)
        case ListNode():
            return [node_value(item) for item in node.items]
        case MappingNode():
            return {key: node_value(value) for key, value in node.entries.items()}
        case _:
            raise TypeError(f"not a node: {node!r}")


def is_null(node: Node) -> bool:
    """Whether a node is nothing: no text at all, ``~`` or ``null``."""
    return isinstance(node, ScalarNode) and scalar_value(node) is None


class _Reader:
    """Builds nodes from the events of the YAML parser."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.events: Iterator[_Event] = iter(())
        self.anchors: dict[str, Node] = {}
        self.open: list[Node] = []

    def documents(self) -> Iterator[Node]:
        try:
            self.events = yaml.parse(self.text, Loader=_LOADER)  # type: ignore[no-untyped-call]
            for event in self.events:
                if isinstance(event, yaml.DocumentStartEvent):
                    self.anchors = {}
                    node = self.node(next(self.events))
                    if not is_null(node):
                        yield node
        except yaml.MarkedYAMLError as error:
            raise self.readable(error) from None
        except yaml.YAMLError as error:
            raise YamlError(f"is not valid YAML: {' '.join(str(error).split())}.", 1) from None

    def node(self, event: _Event) -> Node:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event.anchor, line)
        if event.tag not in (None, "!"):
            raise YamlError(f"has the tag {event.tag!r}, and definitions are plain texts, lists and mappings.", line,
                            "Remove the tag.")  # fmt: skip
        if isinstance(event, yaml.ScalarEvent):
            plain = event.style in (None, "")
            node: Node = ScalarNode(line, event.value, plain=plain and event.tag is None)
            self.remember(event.anchor, node)
            return node
        node = ListNode(line) if isinstance(event, yaml.SequenceStartEvent) else MappingNode(line)
        self.remember(event.anchor, node)
        self.open.append(node)
        if isinstance(node, ListNode):
            self.fill_list(node)
        elif isinstance(node, MappingNode):
            self.fill_mapping(node)
        self.open.pop()
        return node

    def remember(self, anchor: str | None, node: Node) -> None:
        if anchor is not None:
            self.anchors[anchor] = node

    def alias(self, anchor: str, line: int) -> Node:
        node = self.anchors.get(anchor)
        if node is None:
            raise YamlError(f"refers to anchor {anchor!r}, which this document does not have before it.", line,
                            "Anchors hold within one document: nothing before `---` counts.")  # fmt: skip
        if node in self.open:
            raise YamlError(f"refers to anchor {anchor!r} from inside of it.", line, "Nothing can contain itself.")
        return node

    def fill_list(self, node: ListNode) -> None:
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            node.items.append(self.node(event))

    def fill_mapping(self, node: MappingNode) -> None:
        merged: list[Node] = []
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self.node(event)
            if not isinstance(key, ScalarNode):
                raise YamlError("has a key that is a list or a mapping.", key.line, "Keys are texts.")
            value = self.node(next(self.events))
            if key.text == _MERGE and key.plain:
                merged += value.items if isinstance(value, ListNode) else [value]
                continue
            if key.text in node.lines:
                raise YamlError(f"has key {key.text!r} twice, first in line {node.lines[key.text]}.", key.line,
                                "Remove one.")  # fmt: skip
            node.entries[key.text], node.lines[key.text] = value, key.line
        for other in merged:
            if not isinstance(other, MappingNode):
                raise YamlError("merges (<<) something that is no mapping.", node.line, "Merge the alias of a mapping.")
            for name, value in other.entries.items():
                if name not in node.entries:
                    node.entries[name], node.lines[name] = value, other.lines[name]

    def readable(self, error: yaml.MarkedYAMLError) -> YamlError:
        """Return what an error of the parser means to an author, with what is usually the reason."""
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        lines = self.text.splitlines()
        written = lines[line - 1] if 0 < line <= len(lines) else ""
        found = written[mark.column : mark.column + 1] if mark else ""
        if found in _RESERVED and "cannot start any token" in str(error.problem):
            return YamlError(f"has a text that begins with {found!r}, which means something else to YAML.", line,
                             f"Put it in quotes: {_RESERVED[found]}.")  # fmt: skip
        if "\t" in written[: len(written) - len(written.lstrip())]:
            return YamlError("is indented with a tab.", line, "YAML is indented with spaces.")
        if "mapping values are not allowed" in str(error.problem):
            return YamlError("has a colon where none can be.", line, "Put a text that contains `: ` in quotes.")
        return YamlError(f"is not valid YAML: {error.problem or error.context}.", line)
