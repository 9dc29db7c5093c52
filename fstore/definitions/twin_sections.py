"""One mapping of a twin file while it is read: its keys, what they have to hold, and where each stands.

Every mistake is reported at the line of its key. The values come out as Python's, to be checked by the same rules as those
of a module.
"""

from __future__ import annotations

from collections.abc import Sequence

from fstore.definitions.location import Location
from fstore.definitions.problems import Reporter
from fstore.definitions.validation import report_unknown
from fstore.definitions.yaml_nodes import ListNode, MappingNode, Node, ScalarNode, is_null, node_value, scalar_value


class Section:
    """The keys of a mapping that belong to one declaration."""

    def __init__(self, report: Reporter, file: str, node: MappingNode, known: Sequence[str]) -> None:
        """Report every key that is not among those known."""
        self.report, self.file, self.node = report, file, node
        for key, value in node.entries.items():
            if key not in known and is_null(value):
                report.add(f"has key {key!r}, which has no value.", "Put a text that contains a comma in quotes.",
                           at=self.at(key))  # fmt: skip
            elif key not in known:
                report_unknown(report, "has key", key, known, at=self.at(key))

    def __contains__(self, key: str) -> bool:
        return key in self.node.entries and not is_null(self.node.entries[key])

    def at(self, key: str) -> Location:
        """Return where a key stands."""
        return Location(self.file, self.node.lines.get(key, self.node.line))

    def wrong(self, key: str, expected: str, found: Node, fix: str = "") -> None:
        """Report a value that is not what it has to be."""
        article = "" if key.endswith("s") else "a "
        self.report.add(
            f"has {article}wrong {key}: expected {expected}, got {shown(found)}.", fix, at=self.at_node(key, found)
        )

    def at_node(self, key: str, found: Node) -> Location:
        """Return where a value stands: within a list of a key, or with the key itself."""
        own = self.node.entries.get(key)
        return self.at(key) if found is own or isinstance(own, ScalarNode) else Location(self.file, found.line)

    def require(self, key: str, example: str) -> bool:
        """Report a key that is missing; ``example`` is the line that could have been written."""
        if key not in self:
            self.report.add(f"has no {key}.", f"Write {example}, say.", at=Location(self.file, self.node.line))
        return key in self

    def text(self, key: str) -> str | None:
        """Return the text of a key, whatever it looks like; None when there is none."""
        if key not in self:
            return None
        found = self.node.entries[key]
        if isinstance(found, ScalarNode):
            return found.text
        self.wrong(key, "a text", found)
        return None

    def texts(self, key: str) -> list[str]:
        """Return a list of texts, or the single text, of a key."""
        if key not in self:
            return []
        found = self.node.entries[key]
        items = found.items if isinstance(found, ListNode) else [found]
        texts: list[str] = []
        for item in items:
            if isinstance(item, ScalarNode) and not is_null(item):
                texts.append(item.text)
            else:
                self.wrong(key, "a text or a list of texts", item)
        return texts

    def value(self, key: str) -> object:
        """Return a value as YAML understands it; None when there is none."""
        return node_value(self.node.entries[key]) if key in self else None

    def flag(self, key: str, *, default: bool) -> bool:
        """Return a boolean."""
        if key not in self:
            return default
        found = self.node.entries[key]
        value = scalar_value(found) if isinstance(found, ScalarNode) else None
        if isinstance(value, bool):
            return value
        self.wrong(key, "true or false", found)
        return default

    def mapping_of_texts(self, key: str) -> dict[str, str]:
        """Return a mapping of texts to texts."""
        result: dict[str, str] = {}
        for name, found in self.entries(key, "a mapping of texts to texts").items():
            if isinstance(found, ScalarNode) and not is_null(found):
                result[name] = found.text
            else:
                self.wrong(key, f"a text for {name!r}", found)
        return result

    def entries(self, key: str, expected: str = "a mapping") -> dict[str, Node]:
        """Return the entries of the mapping that a key holds."""
        if key not in self:
            return {}
        found = self.node.entries[key]
        if isinstance(found, MappingNode):
            return found.entries
        self.wrong(key, expected, found)
        return {}

    def items(self, key: str, expected: str = "a list") -> list[Node]:
        """Return the items of the list that a key holds."""
        if key not in self:
            return []
        found = self.node.entries[key]
        if isinstance(found, ListNode):
            return found.items
        self.wrong(key, expected, found)
        return []

    def line_in(self, key: str, name: str) -> Location:
        """Return where an entry of the mapping of a key stands."""
        found = self.node.entries[key]
        return Location(self.file, found.lines[name] if isinstance(found, MappingNode) else found.line)


def shown(node: Node) -> str:
    """Return what a node is, as an error message says it."""
    match node:
        case ScalarNode() if is_null(node):
            return "nothing"
        case ScalarNode():
            return repr(node.text) if len(node.text) <= 60 else "a long text"
        case ListNode():
            return "a list"
        case _:
            return "a mapping"
