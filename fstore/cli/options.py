"""Options that several commands take, as the command line describes them."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Select = Annotated[
    list[str] | None,
    typer.Option(
        "--select", "-s",
        help="Views by name, tag:key=value, owner:x, module:x or pipeline:x; + in front adds upstream, behind downstream.",
    ),
]  # fmt: skip
Instant = Annotated[str | None, typer.Option(help="ISO date or time; UTC unless it names a zone.")]

Environment = Annotated[
    str | None,
    typer.Option("--env", help="A development environment, which leaves production as it is (FSTORE_ENVIRONMENT)."),
]
