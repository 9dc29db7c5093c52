"""The commands ``pin add | list | drop``: moments of the log that stay readable until an instant."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from rich.markup import escape

from fstore.backends import open_backends
from fstore.cli.output import console, print_json, print_table
from fstore.errors import SettingsError
from fstore.interval import format_instant, parse_duration, parse_instant
from fstore.retrieval.client import Client
from fstore.retrieval.training import read_manifest
from fstore.settings import load_settings


def add_pin(name: str, until: str, as_of: str | None, manifest: Path | None, *, as_json: bool) -> None:
    """Keep everything readable as of a moment. ``until`` is an instant, or a duration from now."""
    if as_of is not None and manifest is not None:
        raise SettingsError("give --as-of or --manifest, not both: a manifest names its own moment")
    with open_backends(load_settings()) as backends:
        pin = Client(backends).pin(
            name,
            until=_until(until),
            as_of=None if as_of is None else _moment(as_of),
            manifest=None if manifest is None else read_manifest(manifest),
        )
    if as_json:
        print_json(pin)
    else:
        console.print(
            f"[green]✓[/] {escape(pin.name)}: everything stays readable as of sequence {pin.sequence} until "
            f"{format_instant(pin.until)}"
        )


def list_pins(*, as_json: bool) -> None:
    """Print all pins."""
    with open_backends(load_settings()) as backends:
        pins = backends.registry.retention.pins()
    if as_json:
        print_json(pins)
    elif not pins:
        console.print("There are no pins. Superseded files stay for the setting `retention` alone.")
    else:
        rows = [(pin.name, pin.sequence, pin.until, pin.created_at) for pin in pins]
        print_table("pins", ("name", "sequence", "until", "created at"), rows, numbers=("sequence",))


def drop_pin(name: str, *, as_json: bool) -> None:
    """Drop a pin: what it alone kept is deleted by the next sweep."""
    with open_backends(load_settings()) as backends:
        backends.registry.retention.unpin(name)
    if as_json:
        print_json({"dropped": name})
    else:
        console.print(f"[green]✓[/] {escape(name)} is dropped: the next sweep deletes what it alone kept")


def _moment(text: str) -> int | datetime:
    try:
        return int(text) if text.isdecimal() else parse_instant(text)
    except ValueError as error:
        raise SettingsError(f"--as-of is no sequence and no instant: {error}") from None


def _until(text: str) -> datetime:
    try:
        return datetime.now(UTC) + parse_duration(text)
    except ValueError:
        pass
    try:
        return parse_instant(text)
    except ValueError as error:
        raise SettingsError(f'--until is no instant and no duration such as "90d": {error}') from None
