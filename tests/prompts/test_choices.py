"""From probabilities of choices to a decision."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_magics.errors import InputError
from llm_magics.prompts.choices import blended, calibrated, content_free, decision, filled, matching, weigh
from llm_magics.prompts.fewshot import parse_cell
from llm_magics.values.messages import Example

SHARES = st.lists(st.floats(1e-6, 1.0), min_size=2, max_size=8).map(lambda raw: [share / sum(raw) for share in raw])


def of(*outputs: str) -> list[Example]:
    """Examples with these outputs."""
    return [Example("text", output) for output in outputs]


def test_a_choice_that_is_likely_without_a_question_too_loses_what_it_has_from_that() -> None:
    assert calibrated([0.6, 0.4], [0.9, 0.1]) == pytest.approx([0.6 / 0.9 / (0.6 / 0.9 + 4), 4 / (0.6 / 0.9 + 4)])


@settings(deadline=None)
@given(SHARES)
def test_a_model_that_says_the_same_with_and_without_the_question_says_nothing(shares: list[float]) -> None:
    assert calibrated(shares, shares) == pytest.approx([1 / len(shares)] * len(shares))


@settings(deadline=None)
@given(SHARES)
def test_without_a_leaning_and_without_examples_everything_stays(shares: list[float]) -> None:
    even = [1 / len(shares)] * len(shares)
    assert calibrated(shares, even) == pytest.approx(shares)
    assert blended(even, shares) == pytest.approx(shares)


def test_shares_too_small_for_a_float_are_no_error_and_no_certainty() -> None:
    assert sum(calibrated([1.0, 0.0], [0.0, 1.0])) == pytest.approx(1)
    assert all(math.isfinite(share) for share in blended([1.0, 0.0], [0.0, 1.0]))


def test_the_examples_decide_where_the_model_does_not_know() -> None:
    undecided, near = [0.36, 0.32, 0.32], [0.1, 0.2, 0.7]
    assert max(range(3), key=blended(undecided, near).__getitem__) == 2
    assert max(range(3), key=blended([0.98, 0.01, 0.01], [0.2, 0.4, 0.4]).__getitem__) == 0


def test_a_choice_without_examples_is_left_to_the_model() -> None:
    near = filled(["a", "b", "new"], {"a": 0.8, "b": 0.2})
    assert sum(near) == pytest.approx(1) and near[1] < near[2] < near[0]
    assert filled(["a", "b"], {}) == pytest.approx([0.5, 0.5])


def test_what_was_decided_tells_what_it_was_made_of() -> None:
    decided, apart = weigh(["a", "b"], [0.6, 0.4], [0.9, 0.1], nearness={"a": 0.7, "b": 0.3})
    assert list(apart) == ["model", "calibrated", "examples"] and apart["model"] == {"a": 0.6, "b": 0.4}
    assert apart["calibrated"]["b"] > 0.8 and apart["examples"] == pytest.approx({"a": 0.7, "b": 0.3})
    assert tuple(decided.values()) == blended(tuple(apart["calibrated"].values()), [0.7, 0.3])
    assert weigh(["a", "b"], [0.6, 0.4]) == ({"a": 0.6, "b": 0.4}, {"model": {"a": 0.6, "b": 0.4}})


def test_examples_stand_for_choices_whatever_their_case() -> None:
    assert matching(of("Neutral", " positive", "mixed"), ["neutral", "Positive"]) == ("neutral", "Positive", "")


def test_the_question_that_says_nothing_keeps_instruction_and_examples() -> None:
    cell = parse_cell("Classify.\ngood => yes\nbad => no\nfine")
    empty = content_free(cell)
    assert (empty.instruction, empty.examples) == (cell.instruction, cell.examples) and empty.question != cell.question


@pytest.mark.parametrize(
    ("wanted", "choices", "select", "decided"),
    [
        ("", ["a", "b"], "similar", "blend"),
        ("", ["a", "x"], "all", "calibrated"),
        ("", ["a", "b"], "all", "model"),
        ("model", ["a", "b"], "similar", "model"),
        ("blend", ["a", "b"], "first", "blend"),
        ("", [], "similar", ""),
    ],
)
def test_what_decides_follows_the_selection_unless_it_is_said(
    wanted: str, choices: list[str], select: str, decided: str
) -> None:
    assert decision(wanted, choices=choices, select=select, examples=of("A", "x")) == decided


def test_examples_of_none_of_the_choices_leave_the_decision_to_the_model() -> None:
    assert decision("", choices=["a", "b"], select="similar", examples=of("a, because", "x")) == "model"
    with pytest.raises(InputError, match="no example has one of the choices as its output"):
        decision("blend", choices=["a", "b"], select="similar", examples=of("a, because", "x"))


def test_what_cannot_decide_is_refused_with_what_to_type() -> None:
    with pytest.raises(InputError, match="--decide goes with --choices") as found:
        decision("blend", choices=[], select="similar", examples=of("a"))
    assert "--choices" in found.value.hint
    with pytest.raises(InputError, match="--decide blnd is unknown") as found:
        decision("blnd", choices=["a", "b"], select="all", examples=of("a"))
    assert "blend" in found.value.hint
