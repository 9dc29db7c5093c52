"""The order of views, and cycles."""

from hypothesis import given
from hypothesis import strategies as st

from fstore.plan.graph import order_views, upstream_views, with_upstream
from tests.plan.projects import of_source, of_view, sql


def views_of(edges):
    """Views that read each other, by name."""
    return {
        name: sql(
            name, "SELECT 1", (of_source("s", "users"), *(of_view(f"v{place}", item) for place, item in enumerate(reads)))
        )
        for name, reads in edges.items()
    }


def order(edges):
    problems = []
    views, cyclic = order_views(views_of(edges), problems)
    return [view.name for view in views], cyclic, [problem.problem for problem in problems]


def test_upstream_comes_first_and_ties_go_by_name():
    assert order({"d": ["b", "c"], "c": ["a"], "b": ["a"], "a": [], "z": []})[0] == ["a", "z", "b", "c", "d"]


def test_the_order_does_not_hang_on_the_order_of_declaration():
    edges = {"d": ["b", "c"], "c": ["a"], "b": ["a"], "a": [], "z": []}
    assert order(dict(reversed(edges.items()))) == order(edges)


def test_a_view_read_twice_is_one_edge():
    view = views_of({"d": ["a", "b", "a"]})["d"]
    assert upstream_views(view) == ["a", "b"]


def test_views_that_do_not_exist_are_no_edges():
    assert order({"a": ["nowhere"]}) == (["a"], set(), [])


def test_every_cycle_is_reported_once_and_the_rest_is_ordered():
    found, cyclic, problems = order({"a": ["b"], "b": ["a"], "c": ["c"], "d": ["a"], "e": []})
    assert (found, cyclic) == (["d", "e"], {"a", "b", "c"})
    assert problems == [
        "reads itself: a (feature_defs/shop.py:10) -> b (feature_defs/shop.py:10) -> a.",
        "reads itself: c (feature_defs/shop.py:10) -> c.",
    ]


def test_finds_everything_upstream():
    views = views_of({"a": [], "b": ["a"], "c": ["b"], "d": ["a"], "e": ["nowhere"]})
    assert with_upstream(views, ["c", "e", "unknown"]) == {"a", "b", "c", "e"}


@given(st.dictionaries(st.integers(0, 12), st.lists(st.integers(0, 12), max_size=4), max_size=12))
def test_any_graph_is_ordered_or_reported(numbers):
    edges = {f"v{name}": [f"v{item}" for item in reads] for name, reads in numbers.items()}
    found, cyclic, _ = order(edges)
    assert sorted([*found, *cyclic]) == sorted(edges)
    place = {name: index for index, name in enumerate(found)}
    for name in found:
        for item in edges[name]:
            assert item not in place or place[item] < place[name]
