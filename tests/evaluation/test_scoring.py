"""Each metric on answers as models write them."""

from __future__ import annotations

import json

import pytest

from llm_magics.errors import InputError
from llm_magics.evaluation import scoring
from llm_magics.prompts.answers import parse_json

LABELS = ("negative", "neutral", "positive")


@pytest.mark.parametrize(
    ("metric", "answer", "expected", "score"),
    [
        ("exact", " **Paris**. ", "paris", 1.0),
        ("exact", "Paris, France", "paris", 0.0),
        ("contains", "It is Paris, of course.", "paris", 1.0),
        ("contains", "Comparison", "paris", 0.0),
        ("contains", "C++ is meant", "C++", 1.0),
        ("regex", "about 512 MiB of it", r"\b512\s*mi?b", 1.0),
        ("regex", "about 51 MiB", r"\b512\s*mi?b", 0.0),
        ("number", "3 + 15 = 18 apples", "18", 1.0),
        ("number", "It costs 1,250.50 dollars.", "1250.5", 1.0),
        ("number", "\u22123", "-3", 1.0),
        ("number", "none at all", "3", None),
        ("number", "v2 is a name", "2", None),
        ("choice", "Positive.", "positive", 1.0),
        ("choice", "I would say it is neutral", "neutral", 1.0),
        ("choice", "Negative", "neutral", 0.0),
        ("choice", "positive or negative", "positive", None),
        ("choice", "I cannot say", "positive", None),
        ("choice", "unpositively", "positive", None),
        ("json", 'Here: {"a": 1, "b": "x", "c": 0}', '{"a": 1, "b": "x"}', 1.0),
        ("json", '{"a": 1, "b": "y"}', '{"a": 1, "b": "x"}', 0.5),
        ("json", "[1, 2]", "[1, 2]", 1.0),
        ("json", "{broken", '{"a": 1}', None),
        ("exact", "   ", "paris", None),
        ("contains", "It costs 5.5 dollars", "5", 0.0),
        ("contains", "It costs 1,500 dollars", "500", 0.0),
        ("contains", "It costs 5, or 5. At most.", "5", 1.0),
        ("exact", "23", "2*3", 0.0),
        ("exact", "userid", "user_id", 0.0),
        ("exact", "__user_id__", "user_id", 1.0),
        ("json", '{"a": 1}', '{"a": true}', 0.0),
        ("json", '{"a": [1, {"b": 2.0}]}', '{"a": [1.0, {"b": 2}]}', 1.0),
        ("json", '{"a": [1, {"b": 0}]}', '{"a": [1, {"b": false}]}', 0.0),
    ],
)
def test_an_answer_gets_its_score(metric: str, answer: str, expected: str, score: float | None) -> None:
    assert scoring.grade(metric, answer, expected, LABELS, parse_json).score == score


def test_of_two_labels_one_in_the_other_the_longer_one_is_meant() -> None:
    assert scoring.named_label("This is not spam.", ("spam", "not spam")) == "not spam"
    assert scoring.named_label("This is spam.", ("spam", "not spam")) == "spam"


def test_labels_that_differ_by_their_marks_alone_are_told_apart_where_they_are_given_exactly() -> None:
    assert [scoring.named_label(stars, ("*", "**", "***")) for stars in ("***", " ** ", "*", "****")] == [
        "***",
        "**",
        "*",
        None,
    ]
    assert scoring.named_label("us", ("US", "us")) == "us"
    assert scoring.named_label("Us", ("US", "us")) is None


def test_a_metric_that_compares_no_texts_is_a_bug_and_not_taken_for_another() -> None:
    with pytest.raises(ValueError, match="no text is compared by judge"):
        scoring.grade("judge", "5", "5")


def test_the_metric_is_chosen_from_the_expected_column() -> None:
    assert scoring.choose_metric(["a", "b"] * 10, ()) == "choice"
    assert scoring.choose_metric(["1", "2.5", "3", "1,000", "5", "6", "7", "8"], ()) == "number"
    assert scoring.choose_metric(["Paris", "Rome", "Oslo", "Bern", "Kiev", "Riga"], ()) == "contains"
    assert scoring.choose_metric(["Paris", "Rome"], ("Paris", "Rome")) == "choice"


@pytest.mark.parametrize(
    ("metric", "expected", "labels", "complaint"),
    [
        ("acuracy", ["a"], (), "--metric acuracy is unknown. It takes exact"),
        ("exat", ["a"], (), "Did you mean exact?"),
        ("number", ["1", "no"], (), "row 2 expects 'no', which is no number. Type --metric exact"),
        ("regex", ["(a"], (), "row 1 expects '(a', which is no pattern"),
        ("json", ["{"], (), "row 1 expects '{', which is no JSON"),
        ("choice", ["a", "a"], ("a",), "every row expects 'a': there is nothing to choose between"),
        (
            "choice",
            ["a", "positiv"],
            ("a", "positive"),
            "row 2 expects 'positiv', which is none of the choices. Did you",
        ),
    ],
)
def test_a_metric_that_the_column_does_not_fit_is_refused(
    metric: str, expected: list[str], labels: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises(InputError) as caught:
        scoring.check(metric, expected, labels)
    assert complaint in str(caught.value) and "\n" not in str(caught.value)


def test_what_was_read_of_an_answer_is_told() -> None:
    assert scoring.grade("choice", "It is Neutral!", "positive", LABELS).read_as == "neutral"
    assert json.loads(scoring.grade("json", '{"a": 1}', "{}", (), parse_json).read_as) == {"a": 1}
