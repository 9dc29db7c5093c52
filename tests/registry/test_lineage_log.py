from __future__ import annotations

import itertools
from datetime import timedelta

import msgspec
import pytest

from fstore.errors import RegistryError
from fstore.interval import format_instant
from fstore.registry.records import Dataset, Edge
from fstore.registry.registry import Registry
from tests.registry.examples import aggregate, day, days, validated

A, B, C, D = (Dataset("shop", name) for name in "abcd")
Columns = dict[str, list[tuple[Dataset, str]]]


def event(run: str, output: Dataset, inputs: list[Dataset], columns: Columns | None = None, *, at: float = 0,
          kind: str = "COMPLETE", parent: str | None = None) -> str:  # fmt: skip
    fields = {
        name: {"inputFields": [
            {"namespace": d.namespace, "name": d.name, "field": field,
             "transformations": [{"type": "DIRECT", "subtype": "AGGREGATION", "masking": False}]}
            for d, field in sources
        ]}
        for name, sources in (columns or {}).items()
    }  # fmt: skip
    facets = {"parent": {"run": {"runId": parent}, "job": {"namespace": "airflow", "name": "dag.task"}}} if parent else {}
    return msgspec.json.encode({
        "eventType": kind, "eventTime": format_instant(day(at)), "run": {"runId": run, "facets": facets},
        "job": {"namespace": "shop", "name": f"make_{output.name}"}, "producer": "https://example.org",
        "inputs": [{"namespace": d.namespace, "name": d.name} for d in inputs],
        "outputs": [{"namespace": output.namespace, "name": output.name,
                     "facets": {"columnLineage": {"fields": fields}} if columns else {}}],
    }).decode()  # fmt: skip


def pairs(edges: list[Edge]) -> list[tuple[str, str, int]]:
    def end(dataset: Dataset, column: str | None) -> str:
        return dataset.name if column is None else f"{dataset.name}.{column}"

    return [(end(e.input, e.input_column), end(e.output, e.output_column), e.depth) for e in edges]


def test_an_event_is_recorded_once(registry: Registry) -> None:
    text = event("r1", B, [A], at=1, parent="p1")
    assert registry.lineage.record(text)
    assert not registry.lineage.record(text)
    assert registry.lineage.record(event("r1", B, [A], at=0, kind="START"))
    complete, start = registry.lineage.events(run_id="r1")
    assert (complete.event_type, complete.event_time, complete.parent_run_id) == ("COMPLETE", day(1), "p1")
    assert (complete.job_namespace, complete.job_name, complete.payload) == ("shop", "make_b", text)
    assert (start.event_type, start.parent_run_id) == ("START", None)
    assert registry.lineage.events(job_name="make_b", limit=1) == [complete]
    assert registry.lineage.events(job_name="make_c") == []


def test_columns_and_data_sets_are_followed_both_ways(registry: Registry) -> None:
    registry.lineage.record(event("r1", B, [A], {"sum": [(A, "amount"), (A, "when")], "last": [(A, "category")]}))
    registry.lineage.record(event("r2", C, [B, D], {"trend": [(B, "sum")]}))
    assert pairs(registry.lineage.upstream(C, "trend")) == [
        ("b.sum", "c.trend", 1), ("a.amount", "b.sum", 2), ("a.when", "b.sum", 2),
    ]  # fmt: skip
    assert pairs(registry.lineage.downstream(A, "amount")) == [("a.amount", "b.sum", 1), ("b.sum", "c.trend", 2)]
    assert pairs(registry.lineage.downstream(A, "category")) == [("a.category", "b.last", 1)]
    assert pairs(registry.lineage.upstream(C)) == [("b", "c", 1), ("d", "c", 1), ("a", "b", 2)]
    assert pairs(registry.lineage.downstream(A)) == [("a", "b", 1), ("b", "c", 2)]
    assert registry.lineage.upstream(A) == []
    assert registry.lineage.upstream(C, "trend")[0] == Edge(
        input=B, input_column="sum", output=C, output_column="trend", transformation="AGGREGATION", masking=False, depth=1
    )
    assert registry.lineage.datasets() == [A, B, C, D]
    assert registry.lineage.datasets("b") == [B]


def test_the_newest_statement_about_an_output_counts(registry: Registry) -> None:
    registry.lineage.record(event("r1", C, [A], {"x": [(A, "old")]}, at=1))
    registry.lineage.record(event("r2", C, [B], {"x": [(B, "new")]}, at=2))
    registry.lineage.record(event("r0", C, [D], {"x": [(D, "late")]}, at=0))
    assert pairs(registry.lineage.upstream(C, "x")) == [("b.new", "c.x", 1)]
    assert pairs(registry.lineage.upstream(C)) == [("b", "c", 1)]
    assert registry.lineage.downstream(A) == []
    registry.lineage.record(event("r3", C, [A], {"x": [(A, "old")]}, at=3))
    assert pairs(registry.lineage.upstream(C, "x")) == [("a.old", "c.x", 1)]


@pytest.mark.parametrize("kind", ["START", "RUNNING", "FAIL", "ABORT"])
def test_only_completed_runs_derive_anything(registry: Registry, kind: str) -> None:
    registry.lineage.record(event("r1", B, [A], {"x": [(A, "y")]}, kind=kind))
    registry.lineage.record(event("r2", B, []))
    assert registry.lineage.datasets() == []
    assert len(registry.lineage.events()) == 2


def test_cycles_end(registry: Registry) -> None:
    registry.lineage.record(event("r1", B, [A], {"x": [(A, "x")]}))
    registry.lineage.record(event("r2", A, [B], {"x": [(B, "x")]}))
    registry.lineage.record(event("r3", C, [C, B], {"x": [(C, "x"), (B, "x")]}))
    assert pairs(registry.lineage.upstream(A, "x")) == [("b.x", "a.x", 1), ("a.x", "b.x", 2)]
    assert pairs(registry.lineage.downstream(A)) == [("a", "b", 1), ("b", "a", 2), ("b", "c", 2)]
    assert pairs(registry.lineage.upstream(C, "x")) == [
        ("b.x", "c.x", 1),
        ("c.x", "c.x", 1),
        ("a.x", "b.x", 2),
        ("b.x", "a.x", 3),
    ]


def test_a_long_chain_is_one_query_away(registry: Registry) -> None:
    chain = [Dataset("shop", f"n{number:02}") for number in range(20)]
    for number, (left, right) in enumerate(itertools.pairwise(chain)):
        registry.lineage.record(event(f"r{number}", right, [left]))
    edges = registry.lineage.upstream(chain[-1])
    assert [edge.depth for edge in edges] == list(range(1, 20))
    assert edges[-1].input == chain[0]


def test_equal_statements_share_their_rows(registry: Registry) -> None:
    for number in range(8):
        registry.lineage.record(event(f"r{number}", B, [A], {"x": [(A, "y")]}, at=number))
    with registry._database.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM lineage_edges").scalar() == 2
    assert pairs(registry.lineage.upstream(B, "x")) == [("a.y", "b.x", 1)]


def test_events_of_a_transaction_share_its_fate(registry: Registry) -> None:
    attempt = registry.ledger.begin(
        aggregate(), days(0, 1), "run", lineage_events=lambda a: [event(f"attempt-{a.id}", B, [A], kind="START")]
    )
    assert [e.run_id for e in registry.lineage.events()] == [f"attempt-{attempt.id}"]
    with pytest.raises(RegistryError):
        registry.ledger.begin(aggregate(), days(0, 1), "run", lineage_events=["{}"])
    assert len(registry.ledger.history()) == 1, "no attempt without its event"
    ready = validated(registry, aggregate(), days(0, 1), "run-2")
    result = registry.ledger.publish(ready, lineage_events=lambda p: [event(f"sequence-{p.sequence}", B, [A], at=1)])
    assert registry.lineage.events()[0].run_id == f"sequence-{result.sequence}"
    registry.ledger.fail(attempt.id, "died", lineage_events=[event("failed", B, [A], kind="FAIL", at=2)])
    assert [e.event_type for e in registry.lineage.events()] == ["FAIL", "COMPLETE", "START"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "Input data was truncated"),
        ("[]", "Expected `object`, got `array`"),
        ("{}", "Object missing required field `eventTime`"),
        (event("r", B, []).replace('"runId"', '"id"'), "Object missing required field `runId` - at `$.run`"),
        (event("r", B, []).replace('00:00Z"', '00:00"'), "eventTime '2026-01-01T00:00:00' has no zone"),
    ],
)
def test_what_is_no_run_event_is_refused(registry: Registry, text: str, problem: str) -> None:
    with pytest.raises(RegistryError) as refused:
        registry.lineage.record(text)
    assert str(refused.value) == f"not an OpenLineage run event: {problem}"


def test_other_zones_are_kept_as_instants(registry: Registry) -> None:
    registry.lineage.record(event("r", B, []).replace("2026-01-01T00:00:00Z", "2026-01-01T02:30:00.123456+02:00"))
    (recorded,) = registry.lineage.events()
    assert recorded.event_time == day(0) + timedelta(minutes=30, microseconds=123456)


def test_jobs_that_report_the_same_output_do_not_take_each_others_word(registry: Registry) -> None:
    registry.lineage.record(event("ours", B, [A], {"sum": [(A, "amount")]}))
    registry.lineage.record(event("airflow", B, [], at=1).replace("make_b", "dag.task"))
    assert pairs(registry.lineage.upstream(B, "sum")) == [("a.amount", "b.sum", 1)]
