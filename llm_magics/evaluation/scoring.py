"""Whether an answer is right: the metrics, each a comparison of two texts.

An answer in which the metric finds nothing to compare is *unparsed*. It is never right, and never counted among
the wrong ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from ..errors import AnswerFormatError, InputError, did_you_mean
from ..values.evaluation import METRICS

_NUMBER = re.compile(r"(?<![\w.])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?!\w)")
_MARKS = re.compile(r"(?<!\w)[*_`]+|[*_`]+(?!\w)")
_MOST_LABELS = 30


@dataclass(frozen=True, slots=True)
class Grade:
    """What a metric makes of an answer.

    Attributes:
        score: from 0 to 1; None where the answer is unparsed.
        read_as: what was compared with the expected text.
    """

    score: float | None
    read_as: str = ""


def grade(
    metric: str,
    answer: str,
    expected: str,
    labels: Sequence[str] = (),
    read_json: Callable[[str], object] = json.loads,
) -> Grade:
    """Score an answer.

    Args:
        metric: one of ``values.evaluation.METRICS`` but ``judge``.
        answer: the model's final answer.
        expected: the cell of the expected column; for ``regex`` a pattern, for ``json`` JSON.
        labels: for ``choice``: all labels.
        read_json: finds the JSON in an answer.

    Raises:
        ValueError: a metric that compares no texts.
    """
    if not answer.strip():
        return Grade(None)
    if metric == "exact":
        return Grade(float(normal(answer) == normal(expected)), answer)
    if metric == "contains":
        return Grade(float(_holds(normal(answer), normal(expected))), answer)
    if metric == "regex":
        return Grade(float(re.search(expected, answer, re.IGNORECASE) is not None), answer)
    if metric == "number":
        found = last_number(answer)
        return Grade(None) if found is None else Grade(float(found == last_number(expected)), str(found))
    if metric == "choice":
        label = named_label(answer, labels)
        return Grade(None) if label is None else Grade(float(label == expected), label)
    if metric != "json":
        raise ValueError(f"no text is compared by {metric}")
    try:
        value = read_json(answer)
    except (AnswerFormatError, ValueError, RecursionError):
        return Grade(None)
    return Grade(_fields(value, json.loads(expected)), json.dumps(value, ensure_ascii=False, default=str))


def choose_metric(expected: Sequence[str], choices: Sequence[str]) -> str:
    """The metric that fits the expected column where none is named.

    Args:
        expected: all of its cells.
        choices: the labels where a person has given them.

    Returns:
        ``choice`` where there are few different texts, ``number`` where all are numbers, else ``contains``.
    """
    different = set(expected)
    few = 1 < len(different) <= min(_MOST_LABELS, max(2, len(expected) // 3))
    if choices or (few and all(len(label) <= 60 for label in different)):
        return "choice"
    return "number" if all(_NUMBER.fullmatch(text.strip()) for text in expected) else "contains"


def check(metric: str, expected: Sequence[str], labels: Sequence[str]) -> None:
    """Refuse a metric that the expected column does not fit.

    Args:
        metric: as a person typed it.
        expected: all cells of the column.
        labels: for ``choice``: all labels.

    Raises:
        InputError: no such metric, or a cell that it cannot compare; the row is named.
    """
    if metric not in METRICS:
        near = did_you_mean(metric, METRICS)
        raise InputError(f"--metric {metric} is unknown", f"{near} It takes {', '.join(METRICS)}".strip())
    if metric == "choice":
        _check_labels(expected, labels)
    for number, text in enumerate(expected, start=1):
        if metric == "number" and last_number(text) is None:
            raise InputError(f"row {number} expects {_short(text)}, which is no number", "Type --metric exact")
        if metric == "regex":
            try:
                re.compile(text)
            except re.error as error:
                raise InputError(
                    f"row {number} expects {_short(text)}, which is no pattern: {error}", "Type --metric contains"
                ) from error
        if metric == "json":
            try:
                json.loads(text)
            except ValueError as error:
                raise InputError(
                    f"row {number} expects {_short(text)}, which is no JSON", "Type --metric exact"
                ) from error


def normal(text: str) -> str:
    """The form in which two texts are compared: case, white space, Markdown and the punctuation round it left out.

    Marks inside a word, as in ``user_id`` and ``2*3``, are its own.
    """
    return _MARKS.sub("", " ".join(text.split())).casefold().strip(" .,;:!?\"'()[]\u201c\u201d")


def last_number(text: str) -> Decimal | None:
    """The last number in a text; thousands may be parted by commas. None where there is none."""
    found = _NUMBER.findall(text.replace("\u2212", "-"))
    return Decimal(found[-1].replace(",", "")) if found else None


def named_label(answer: str, labels: Sequence[str]) -> str | None:
    """The one label that an answer is or names; None where it names none, or several."""
    said = normal(answer)
    whole = [label for label in labels if label.strip() == answer.strip()]
    whole = whole or [label for label in labels if normal(label) == said]
    if len(whole) == 1:
        return whole[0]
    found = [label for label in labels if _holds(said, normal(label))]
    # Of "spam" and "not spam" the longer one is meant.
    alone = [a for a in found if not any(a != b and normal(a) in normal(b) for b in found)]
    return alone[0] if len(alone) == 1 else None


def _holds(text: str, part: str) -> bool:
    """Whether a text holds a part as whole words, and a number not as a piece of a longer one: 5 is not in 5.5."""
    before = r"(?<![\d][.,])" if part[:1].isdigit() else ""
    after = r"(?![.,]\d)" if part[-1:].isdigit() else ""
    return bool(part) and re.search(rf"(?<!\w){before}{re.escape(part)}{after}(?!\w)", text) is not None


def _fields(value: object, expected: object) -> float:
    if isinstance(expected, dict) and expected and isinstance(value, dict):
        same = [name in value and _same(value[name], wanted) for name, wanted in expected.items()]
        return sum(same) / len(same)
    return float(_same(value, expected))


def _same(value: object, expected: object) -> bool:
    """Whether two JSON values are equal; to Python 1 is equal to true."""
    if isinstance(expected, dict) and isinstance(value, dict):
        return value.keys() == expected.keys() and all(_same(value[name], expected[name]) for name in expected)
    if isinstance(expected, list) and isinstance(value, list):
        return len(value) == len(expected) and all(map(_same, value, expected))
    return isinstance(value, bool) == isinstance(expected, bool) and value == expected


def _check_labels(expected: Sequence[str], labels: Sequence[str]) -> None:
    if len(set(labels)) < 2:
        raise InputError(
            f"every row expects {_short(labels[0] if labels else '')}: there is nothing to choose between",
            "Give rows of two labels at least, or type --metric exact",
        )
    for number, text in enumerate(expected, start=1):
        if text not in labels:
            raise InputError(
                f"row {number} expects {_short(text)}, which is none of the choices",
                did_you_mean(text, labels) or "Leave --choices out: the labels are found",
            )


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")
