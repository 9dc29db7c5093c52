"""What an aggregate reads, and what is said of scalars that do not fit."""

import pytest

from fstore import agg
from tests.plan.projects import SCHEMAS, aggregates, plan


def feature_types(**members):
    (step,) = plan(aggregates(members=members), schemas=SCHEMAS).steps
    return {feature.name: feature.type for feature in step.features}


def test_types_of_features():
    assert feature_types(
        newest=agg.last_k("category", 3).over("7d"),
        buckets=agg.histogram("weight", [1, 2]).over("7d"),
        spread=agg.stddev("quantity").over("lifetime"),
        recent=agg.decayed_sum("quantity", "1d").over("7d", offset="1d"),
    ) == {
        "newest_7d": "list<string>",
        "buckets_7d": "list<int64>",
        "spread_lifetime": "float64",
        "recent_7d_offset_1d": "float64",
    }


@pytest.mark.parametrize(
    ("member", "problem"),
    [
        (agg.count(where="quantity").over("7d"), "has where 'quantity', which has type int32; a condition is expected."),
        (agg.skew("category").over("7d"), "takes skew of 'category', which has type string."),
        (agg.count(where="nobody > 1").over("7d"), "reads column 'nobody', which source 'purchases' does not have"),
    ],
)
def test_scalars_that_do_not_fit(member, problem):
    (found,) = plan(aggregates(members={"n": member}), schemas=SCHEMAS).problems
    assert found.problem.startswith(problem)


def test_columns_that_only_choose_events_are_indirect():
    (step,) = plan(aggregates(members={"n": agg.sum("quantity", where="gift").over("7d")}), schemas=SCHEMAS).steps
    edges = {(edge.column, edge.transformation) for edge in step.lineage if edge.feature == "n_7d"}
    assert edges == {("quantity", "AGGREGATION"), ("gift", "TRANSFORMATION")}
