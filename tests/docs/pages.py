"""Pages of documentation as the tests see them: fenced blocks with what is to be done with each.

What the reader does not see says it, in an HTML comment on the line above a block:

* ``<!-- file: feature_defs/x.py -->``  the block is that file of the page's project (several blocks are put together);
* ``<!-- run -->``                      Python is executed, the lines of a console block are run; output shown must be real;
* ``<!-- run: exit 1 -->``              the same, and the last command of the block ends with that code;
* ``<!-- run: mlflow -->``              Python is executed in that environment of its own (tests/docs/environments.py), apart from
  the page's other blocks, or left out where the environment cannot be made;
* ``<!-- output -->``                   the block is what the Python block before it prints.

In a console block lines that begin with ``$`` are commands and the others their output; where no line does, all are
commands. In output a line of ``…`` stands for any lines, ``…`` at the end of a line for the rest of it, and spaces, seconds
and the project's directory may differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\s*$")
_MARK = re.compile(r"^<!-- (?P<verb>file|run|output)(?:: (?P<value>.+?))? -->$")


@dataclass(frozen=True)
class Block:
    """One fenced block. ``verb`` and ``value`` are those of the comment above it, empty without one."""

    line: int
    language: str
    text: str
    verb: str = ""
    value: str = ""


@dataclass(frozen=True)
class Command:
    """A line of a console block, and the lines shown below it."""

    line: str
    shown: tuple[str, ...]


def read_blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    blocks: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    start: int | None = None
    for number, line in enumerate(lines):
        fence = _FENCE.match(line)
        if fence is None:
            continue
        if start is None:
            start = number
            continue
        opening = _FENCE.match(lines[start])
        assert opening is not None
        mark = _MARK.match(lines[start - 1].strip()) if start else None
        blocks.append(
            Block(
                line=start + 1,
                language=opening["language"],
                text="\n".join(lines[start + 1 : number]) + "\n",
                verb=mark["verb"] if mark else "",
                value=(mark["value"] or "") if mark else "",
            )
        )
        start = None
    assert start is None, f"{page}: the block of line {start} does not end"
    return blocks


def commands_of(block: Block) -> list[Command]:
    """Return the commands of a console block without their comments, each with its output as shown."""
    lines = block.text.splitlines()
    if not any(line.startswith("$ ") for line in lines):
        return [Command(_without_comment(line), ()) for line in lines if line.strip() and not line.startswith("#")]
    commands: list[Command] = []
    for line in lines:
        if line.startswith("$ "):
            commands.append(Command(_without_comment(line[2:]), ()))
        elif line.strip():
            commands[-1] = Command(commands[-1].line, (*commands[-1].shown, line))
    return commands


def _without_comment(line: str) -> str:
    return re.sub(r"\s+# .*$", "", line).strip()


def check_output(shown: tuple[str, ...], printed: str, project: Path) -> None:
    """Assert that every line shown was printed, in this order, and right below the line before unless ``…`` is between."""
    actual = [text for line in printed.splitlines() if (text := _plain(line, project))]
    position, anywhere = 0, False
    for line in shown:
        wanted = _plain(line, project)
        if wanted == "…":
            anywhere = True
            continue
        candidates = range(position, len(actual)) if anywhere else range(position, min(position + 1, len(actual)))
        found = next((index for index in candidates if _fits(wanted, actual[index])), None)
        assert found is not None, f"not printed: {line!r}\n" + "\n".join(actual)
        position, anywhere = found + 1, False
    assert anywhere or not shown or position == len(actual), "printed and not shown:\n" + "\n".join(actual[position:])


def _fits(wanted: str, actual: str) -> bool:
    return actual.startswith(wanted[:-1].rstrip()) if wanted.endswith("…") else actual == wanted


def _plain(line: str, project: Path) -> str:
    text = line.replace(str(project.resolve()), "PROJECT").replace(f"/path/to/{project.name}", "PROJECT")
    text = re.sub(r"\bin \d+\.\d s", "in # s", text)
    return " ".join(text.split())
