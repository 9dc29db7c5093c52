"""Every aggregate against the oracle, through the loader, ``run_step`` and the published files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracle.cases import FUNCTIONS, cases, examples
from tests.oracle.projects import OracleProject, check


@examples(12)
@given(data=st.data())
def test_many_aggregates_together(project: OracleProject, data: st.DataObject) -> None:
    """A view of many aggregates shares events, tiles and windows between them."""
    case = data.draw(cases(project.fresh_name(), most=12))
    step = project.declare(case.view, case.events)
    project.run(step, case.intervals)
    check(step, project.rows(step), case)


@pytest.mark.parametrize("function", FUNCTIONS)
@examples(1)
@given(data=st.data())
def test_one_function(project: OracleProject, function: str, data: st.DataObject) -> None:
    case = data.draw(cases(project.fresh_name(), [function], most=10))
    step = project.declare(case.view, case.events)
    project.run(step, case.intervals)
    check(step, project.rows(step), case)
