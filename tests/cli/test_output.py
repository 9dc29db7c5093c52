"""Tables on terminals of any width."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from rich.console import Console

from fstore.cli import output
from fstore.cli.output import print_rows, print_table, short_text

COLUMNS = ["airport", "event_timestamp", *(f"delayed_flights_{days}d" for days in range(1, 9)), "carriers"]
ROWS = [
    [airport, datetime(2013, 1, 2, tzinfo=UTC), *range(8), {"AA": 1, "DL": 2, "UA": 3, "WN": 4}]
    for airport in ("JFK", "LGA", "[red]EWR[/]", "SFO", "BOS")
]


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "console", Console(highlight=False, soft_wrap=True, width=80))


@pytest.mark.usefixtures("narrow")
def test_wide_rows_are_printed_a_feature_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows("published", COLUMNS, ROWS)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert max(map(len, lines)) <= 80
    assert [line.split()[1:] for line in lines if line.startswith("airport")] == [
        ["JFK", "LGA"],
        ["[red]EWR[/]", "SFO"],
        ["BOS"],
    ]
    assert [line.split()[1:] for line in lines if line.startswith("delayed_flights_4d")] == [["3", "3"], ["3", "3"], ["3"]]
    assert lines.count("carriers            {AA: 1, DL: 2, UA: 3, …}  {AA: 1, DL: 2, UA: 3, …}") == 2


@pytest.mark.usefixtures("narrow")
def test_rows_that_fit_are_a_table_and_so_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows("", COLUMNS[:2], [row[:2] for row in ROWS[:1]])
    assert capsys.readouterr().out.split() == ["airport", "event_timestamp", "JFK", "2013-01-02", "00:00"]
    print_rows("", COLUMNS[:2], [])
    assert capsys.readouterr().out.split() == ["airport", "event_timestamp"]


@pytest.mark.usefixtures("narrow")
def test_a_table_leaves_out_what_can_be_missed_and_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("", ("view", "dag", "kind", "due"), [("v" * 40, "d" * 40, "k" * 20, 7)], optional=("dag", "kind"))
    assert capsys.readouterr().out.split() == ["view", "kind", "due", "v" * 40, "k" * 20, "7"]


@pytest.mark.parametrize("width", [1, 30, 40, 50])
def test_a_terminal_that_is_too_narrow_loses_nothing(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "console", Console(highlight=False, soft_wrap=True, width=width))
    numbers = ("published", "missing", "damaged")
    row = ("user_orders", 1_000_000, datetime(2013, 1, 2, tzinfo=UTC), 2, 3, "v" * 40)
    print_table("", ("view", "published", "newest", "missing", "damaged", "about"), [row], numbers=numbers)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["view", "published", "newest", "missing", "damaged", "about"]
    assert lines[1].split() == ["user_orders", "1,000,000", "2013-01-02", "00:00", "2", "3", "v" * 16]
    print_rows("", COLUMNS, ROWS[:1])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == COLUMNS
    assert lines[1].split() == ["event_timestamp", "2013-01-02", "00:00"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1, None], "[1, null]"),
        ([], "[]"),
        (list(range(10_000)), "[0, 1, 2, 3, 4, 5, 6, …]"),
        ({"a" * 30: 1}, "{aaaaaaaaaaaaaaaaaaaaa…}"),
        ("x" * 50, "x" * 50),
    ],
)  # fmt: skip
def test_lists_and_maps_are_short(value: object, text: str) -> None:
    assert short_text(value) == text
