"""Where an answer names its passages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_magics.citations import Citation, citations, named


def test_each_number_that_names_a_passage_is_found_with_its_place():
    answer = "Fish [1], bones [2, 3] and air [4]."
    assert citations(answer, range(1, 4)) == (Citation(1, 5, 8), Citation(2, 17, 18), Citation(3, 20, 21))
    assert named(f"{answer} Fish [ 1 ]; [9;2]", 3) == (1, 2, 3)


@pytest.mark.parametrize("answer", ["[0] [4]", "[1](http://x)", "`a[1]`", "```\na[1]\n```", "[x] [-1]", "", "[]"])
def test_what_is_no_citation_names_nothing(answer):
    assert named(answer, 3) == ()


@given(answer=st.text(alphabet="[]0123,; `(a", max_size=60), count=st.integers(0, 4))
def test_citations_of_any_text_name_passages_that_exist_in_order(answer, count):
    found = citations(answer, range(1, count + 1))
    assert set(named(answer, count)) <= {one.number for one in found} <= set(range(1, count + 1))
    edges = [edge for one in found for edge in (one.start, one.end)]
    assert edges == sorted(edges)
    assert all(answer[one.start : one.end].strip("[ ]").lstrip("0") == str(one.number) for one in found)
