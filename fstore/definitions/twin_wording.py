"""What to say to authors of YAML where the rules, which both languages share, speak of Python.

A problem says the same in both; how to fix it is written in the language of the file. Problems of a feature are moved to the
line of the key that they are about.
"""

from __future__ import annotations

import re

import msgspec

from fstore.definitions.project import Problem
from fstore.definitions.yaml_nodes import MappingNode

_FIXES: tuple[tuple[str, str], ...] = (
    (r'Say how often it is computed: schedule = "@daily", or a cron expression\.',
     'Say how often it is computed: schedule: "@daily", or a cron expression.'),
    (r'Say since when there is data: start = "2026-01-01"\.', "Say since when there is data: start: 2026-01-01."),
    (r"Give it one of source \(with agg features\), sql or compute\.", "Give it a source (with agg features) or sql."),
    (r'Say what it reads: inputs = .*', "Say what it reads: inputs: {o: {source: orders, window: 30d}}."),
    (r'Bound them: \{"(\w+)": (\w+)\.window\("30d"\)\}, or "all" for every event there is\.',
     r"Bound them: {\1: {source: \2, window: 30d}}, or all for every event there is."),
    (r'Write \{"(\w+)": (\w+)\}\.', r"Write {\1: \2}."),
    (r'Add one such as amount_sum = agg\.sum\("amount"\)\.over\("7d"\)\.',
     "Add one such as amount_sum: {agg: sum, of: amount, over: 7d}."),
    (r'Declare the output columns, such as amount = feature\("float64"\)\.',
     "Declare the output columns, such as amount: float64."),
    (r"Rename (it|one of them) with name=…\.", r"Rename \1 with name: …."),
    (r'Choose another attribute and keep the name: (\w+)_value = …\(…, name="\w+"\)\.',
     r"Choose another key and keep the name: \1_value: {…, name: \1}."),
    (r'Write feature\("timestamp"\)\.', "Write {type: timestamp}."),
    (r"Write agg\.…\(…\)\.over\(…\) or expr\(…\)\.", "Write {agg: …, over: …} or {expr: …}."),
    (r"Compute it in the view's SQL or Python, and declare it with feature\(…\)\.",
     "Compute it in the view's SQL, and declare it with {type: …}."),
    (r'List them: check\.one_of\("size", \["S", "M", "L"\]\)\.', "List them: values: [S, M, L]."),
    (r'Name one or more features: check\.unique\("rank"\)\.', "Name one or more features: unique: rank."),
    (r'Give at least one: edges=\[0, 10, 100\], say\.', "Give at least one: edges: [0, 10, 100], say."),
    (r'Name one: \S+\["(\w+)"\]\.', r"Name the feature with its window, _\1."),
)  # fmt: skip

_KEYS: tuple[tuple[str, str], ...] = (
    (r"has a wrong window|has windows|has no windows", "over"),
    (r"has a wrong argument", "of"),
    (r"has a wrong fill|fills ", "fill"),
    (r"has (?:a )?wrong (\w+)", ""),
    (r"splits ", "by"),
    (r"has no edges|has [\d,]+ edges", "edges"),
    (r"has max_categories", "max_categories"),
)


def in_yaml(problem: Problem, features: MappingNode | None) -> Problem:
    """Return a problem of a view as it reads for YAML; ``features`` are those of the view as they are written."""
    fix = problem.fix
    for pattern, replacement in _FIXES:
        if re.fullmatch(pattern, fix):
            fix = re.sub(pattern, replacement, fix)
            break
    return msgspec.structs.replace(problem, fix=fix, line=_line(problem, features))


def _line(problem: Problem, features: MappingNode | None) -> int:
    attribute = problem.subject.removesuffix("'").rpartition(":")[2]
    node = features.entries.get(attribute) if features and problem.subject.startswith("feature '") else None
    if isinstance(node, MappingNode):
        for pattern, key in _KEYS:
            if found := re.match(pattern, problem.problem):
                return node.lines.get(key or found[1], problem.line)
    return problem.line
