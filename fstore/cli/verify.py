"""The command ``verify``: compare published files with the checksums that were taken when they were written."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape

from fstore.backends import open_backends
from fstore.cli.output import console, errors, print_json, progress_display
from fstore.interval import merge_intervals
from fstore.runtime.retention import Verified, verify
from fstore.settings import load_settings


def verify_project(views: Sequence[str], *, everything: bool, as_json: bool) -> int:
    """Scan the files of views (none named: of all, and of tiles), record what is damaged, and print it; 1 if anything is."""
    with open_backends(load_settings()) as backends, progress_display(quiet=as_json) as display:
        named = {backends.registry.view(view).name for view in views} or None
        task = display.add_task("verify", total=None)
        found = verify(
            backends, named, everything=everything,
            progress=lambda done, total: display.update(task, completed=done, total=total),
        )  # fmt: skip
    if as_json:
        print_json(found)
    else:
        _print(found)
    return 1 if found.damaged else 0


def _print(found: Verified) -> None:
    for part in found.damaged:
        spans = ", ".join(str(span) for span in merge_intervals(part.ranges)) or "nothing that is read now"
        errors.print(f"[red]✗[/] {escape(part.view)}: {escape(part.path)} is {part.problem}; it holds {escape(spans)}")
    mark = "[red]✗[/]" if found.damaged else "[green]✓[/]"
    console.print(f"{mark} {found.files:,} file(s), {found.bytes:,} bytes, {len(found.damaged):,} damaged")
    if found.unsummed:
        console.print(f"{found.unsummed:,} file(s) were written without a checksum: only whether they can be read was tried")
    if found.damaged:
        console.print("Their intervals count as not computed from now on: `fstore repair` computes them again.")
