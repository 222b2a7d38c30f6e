"""The results of an evaluation and of a comparison, as DataFrames. Imported only when one has been made."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..errors import InputError
from ..values.answers import Answer
from ..values.evaluation import Difference, EvaluationReport, MethodScore, Outcome
from .compare import difference


class Evaluation(pd.DataFrame):
    """The table of an evaluation, a row for each method. What is taken from it is a plain DataFrame.

    Attributes:
        report: everything behind the table.
    """

    _metadata = ["report"]  # noqa: RUF012 - as pandas wants it
    report: EvaluationReport

    @classmethod
    def of(cls, report: EvaluationReport) -> Evaluation:
        """The table of a report."""
        frame = cls(pd.DataFrame([_score_row(score) for score in report.methods]).set_index("method"))
        frame.report = report
        return frame

    @property
    def _constructor(self) -> Any:
        return pd.DataFrame

    @property
    def outcomes(self) -> pd.DataFrame:
        """Every row of every method, each with its exact prompt."""
        return pd.DataFrame([_outcome_row(outcome) for outcome in self.report.outcomes])

    def errors(self, method: str) -> pd.DataFrame:
        """The rows that a method has not right, the failed and unparsed ones too.

        Raises:
            InputError: there is no such method.
        """
        return pd.DataFrame(
            [_outcome_row(outcome) for outcome in self.report.of(method) if outcome.state != "right"],
            columns=_OUTCOME_COLUMNS,
        ).reset_index(drop=True)

    def confusion(self, method: str) -> pd.DataFrame:
        """How often each label (down) was taken for each other one (across).

        Raises:
            InputError: there is no such method, or the rows have no labels.
        """
        labels = list(self.report.labels)
        if not labels:
            raise InputError("there are no labels to confuse", "Evaluate with --metric choice")
        outcomes = self.report.of(method)
        said = [outcome.read_as if outcome.state != "unparsed" else "unparsed" for outcome in outcomes]
        said = ["failed" if outcome.state == "failed" else text for outcome, text in zip(outcomes, said, strict=True)]
        table = pd.crosstab(
            pd.Series([outcome.expected for outcome in outcomes], name="expected"), pd.Series(said, name=method)
        )
        others = [name for name in ("unparsed", "failed") if name in table.columns]
        return table.reindex(index=labels, columns=[*labels, *others], fill_value=0)

    def disagreements(self, method: str, other: str) -> pd.DataFrame:
        """The rows on which two methods do not say the same, with what each was asked and what it said.

        Raises:
            InputError: there is no such method.
        """
        second = {outcome.row: outcome for outcome in self.report.of(other)}
        pairs = [(outcome, second[outcome.row]) for outcome in self.report.of(method) if outcome.row in second]
        rows = [
            {
                "row": a.row,
                "input": a.input,
                "expected": a.expected,
                **{f"{o.method} {name}": getattr(o, name) for o in (a, b) for name in ("state", "answer", "prompt")},
            }
            for a, b in pairs
            if (a.read_as != b.read_as if self.report.metric == "choice" else a.score != b.score)
        ]
        return pd.DataFrame(rows)

    def difference(self, method: str, reference: str) -> Difference:
        """Two methods compared on the rows that both have answered, by a paired test.

        Raises:
            InputError: there is no such method.
        """
        return difference(self.report.of(method), self.report.of(reference), seed=self.report.seed)


class Comparison(pd.DataFrame):
    """One prompt asked in several ways, a row for each. What is taken from it is a plain DataFrame.

    Attributes:
        titles: how each was asked.
        answers: the answers themselves.
    """

    _metadata = ["titles", "answers"]  # noqa: RUF012 - as pandas wants it
    titles: tuple[str, ...]
    answers: tuple[Answer, ...]

    @classmethod
    def of(cls, titles: Sequence[str], answers: Sequence[Answer]) -> Comparison:
        """The table of some answers.

        Args:
            titles: how each was asked.
            answers: as many answers.
        """
        frame = cls(pd.DataFrame([_answer_row(*pair) for pair in zip(titles, answers, strict=True)]))
        frame.titles, frame.answers = tuple(titles), tuple(answers)
        return frame

    @property
    def _constructor(self) -> Any:
        return pd.DataFrame


def _score_row(score: MethodScore) -> dict[str, Any]:
    row = {name: value for name, value in dataclasses.asdict(score).items() if name != "difference"}
    if score.unanswered:
        row |= dict.fromkeys(("score", "low", "high", "prompt_tokens", "new_tokens", "seconds"))
    found = score.difference
    return row | {
        "difference": None if found is None else found.points,
        "difference_low": None if found is None else found.low,
        "difference_high": None if found is None else found.high,
        "p": None if found is None else found.p,
        "p_corrected": None if found is None else found.corrected,
    }


def _outcome_row(outcome: Outcome) -> dict[str, Any]:
    usage = outcome.usage
    costs = (usage.prompt_tokens, usage.new_tokens, usage.seconds)
    row = {name: getattr(outcome, name) for name in _OUTCOME_COLUMNS if name not in _COSTS}
    return row | dict(zip(_COSTS, costs, strict=True))


_COSTS = ("prompt_tokens", "new_tokens", "seconds")
_OUTCOME_COLUMNS = [field.name for field in dataclasses.fields(Outcome) if field.name != "usage"] + list(_COSTS)


def _answer_row(title: str, answer: Answer) -> dict[str, Any]:
    return {
        "method": title,
        "model": answer.model,
        "temperature": answer.options.temperature,
        "answer": answer.text,
        "reasoning": answer.reasoning,
        "stop_reason": answer.stop_reason,
        "prompt_tokens": answer.usage.prompt_tokens,
        "new_tokens": answer.usage.new_tokens,
        "seconds": answer.usage.seconds,
        "seed": answer.options.seed,
        "prompt": answer.prompt,
    }
