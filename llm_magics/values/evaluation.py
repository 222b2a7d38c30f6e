"""Evaluation: what is to be measured, each row of each method, and the table that comes of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import InputError, LLMMagicsError, did_you_mean
from .answers import Usage
from .asking import AskRequest
from .running import Running

METHODS = ("llm", "fewshot:4", "cot", "cot:votes=5", "rag", "rag+fewshot:4", "rag+cot", "majority", "neighbours")
"""Ways to ask, as ``evaluation.methods`` reads them; more can be made of their parts."""

METRICS = ("exact", "contains", "regex", "number", "choice", "json", "judge")
"""``exact``: the same text. ``contains``: the expected text stands in it. ``regex``: the expected pattern is found.
``number``: its last number is the expected one. ``choice``: it names one label, the expected one. ``json``: the share
of the expected fields that it has. ``judge``: a model says whether it means the same."""


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """What is to be evaluated and how. What is None or empty is found in the data.

    Attributes:
        methods: the methods, as ``evaluation.methods`` reads them.
        input: column that is asked.
        expected: column with what should come out.
        metric: one of ``METRICS``; chosen from the expected column unless given.
        rows: rows to ask at most, drawn at random; 0 for all.
        seed: of every random choice.
        example_rows: rows that are kept as worked examples and never asked; half of them, at most 100, unless
            given. 0 where the examples come from elsewhere.
        choices: the labels; those of the data unless given.
        instruction: what to do, before every input.
        knowledge_base: the one used last unless given.
        judge: name of the loaded model that judges.
        drop_leaks: whether rows that a method could know beforehand are left out.
        cache: whether answers are taken from the disk and kept there.
        ask: the model, the system text and the generation options; greedy and without a repetition penalty
            unless given.

    Raises:
        InputError: a value out of range, in one line that names the option.
    """

    methods: tuple[str, ...] = ("llm", "fewshot:4")
    input: str = ""
    expected: str = ""
    metric: str = ""
    rows: int = 0
    seed: int = 0
    example_rows: int | None = None
    choices: tuple[str, ...] = ()
    instruction: str = ""
    knowledge_base: str = ""
    judge: str = ""
    drop_leaks: bool = False
    cache: bool = True
    ask: AskRequest = field(default_factory=AskRequest)

    def __post_init__(self) -> None:
        for flag, value in (("--rows", self.rows), ("--example-rows", self.example_rows or 0), ("--seed", self.seed)):
            if value < 0:
                raise InputError(f"{flag} is {value}", "It takes a whole number from 0")
        if len(set(self.choices)) != len(self.choices):
            raise InputError("--choices has one label twice", "Leave one of them out")


OutcomeState = Literal["right", "partly", "wrong", "unparsed", "failed"]
"""``partly``: a score between 0 and 1. ``unparsed``: nothing in the answer could be compared. ``failed``: no answer."""


LEVEL = 0.05
"""P values below it count as a difference."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row of an evaluation, asked by one method.

    Attributes:
        row: its place in the data, from 0.
        method: the method's name.
        input: what was asked.
        expected: what the data says.
        state: see ``OutcomeState``.
        score: from 0 to 1; 0 where it is unparsed or failed.
        answer: the final answer.
        read_as: what was compared with ``expected``.
        reasoning: what the model wrote before its final answer.
        prompt: the exact text that was sent; empty for the methods that ask no model.
        usage: tokens and seconds; those of the first time where the answer came from the cache.
        cached: whether it came from the cache.
        note: why it failed, or what the judge said.
    """

    row: int
    method: str
    input: str
    expected: str
    state: OutcomeState
    score: float = 0.0
    answer: str = ""
    read_as: str = ""
    reasoning: str = ""
    prompt: str = ""
    usage: Usage = field(default_factory=Usage)
    cached: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """Two methods on the rows that both have answered.

    Attributes:
        method: the one.
        reference: the other.
        rows: how many rows.
        points: mean score of the one less that of the other, from -1 to 1.
        low: lower end of its 95 % interval.
        high: upper end.
        p: p value of the paired test.
        corrected: the same, corrected for all differences of the table (Holm).
        rows_needed: rows with which a difference of 5 points would be found four times of five.
    """

    method: str
    reference: str
    rows: int
    points: float
    low: float
    high: float
    p: float
    corrected: float
    rows_needed: int

    @property
    def found(self) -> bool:
        """Whether the two can be told apart with these rows."""
        return self.corrected < LEVEL


@dataclass(frozen=True, slots=True)
class MethodScore:
    """A row of the table of an evaluation.

    Attributes:
        method: its name.
        model: the model that was asked; empty for the methods that ask none.
        rows: rows that it has answered; those that failed are not among them.
        right: answers with a score of 1.
        partly: answers with a score between 0 and 1.
        wrong: answers with a score of 0.
        unparsed: answers in which nothing could be compared; they count as not right.
        failed: rows without an answer; they count in no figure.
        score: mean score; for right and wrong the accuracy.
        low: lower end of its 95 % interval.
        high: upper end.
        difference: to the first method of the table; None for that one, and where no row was answered by both.
        prompt_tokens: tokens read a row.
        new_tokens: tokens written a row.
        seconds: seconds a row.
    """

    method: str
    model: str
    rows: int
    right: int
    partly: int
    wrong: int
    unparsed: int
    failed: int
    score: float
    low: float
    high: float
    difference: Difference | None
    prompt_tokens: float
    new_tokens: float
    seconds: float

    @property
    def unanswered(self) -> str:
        """Why there is no score, in words; empty where there is one."""
        return "" if self.rows else "has no answer" if self.failed else "was not asked yet"


@dataclass(frozen=True, slots=True)
class Leak:
    """Rows that a method could know beforehand.

    Attributes:
        where: ``examples``, ``training rows`` or ``knowledge base``.
        name: of the model or the knowledge base; empty for the examples.
        rows: their places in the data, from 0.
    """

    where: str
    name: str
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """What came of an evaluation.

    Attributes:
        source: the file, the data set or the variable.
        metric: how answers were scored.
        methods: the table, in the order in which the methods were named.
        outcomes: every row of every method.
        conclusions: what can and what cannot be concluded, a sentence each.
        notes: what a reader has to know besides.
        leaks: rows that a method could know beforehand.
        labels: for ``choice``: all labels.
        rows: rows that were to be asked.
        examples: worked examples that the methods chose from; none of them was asked.
        seed: of the choice of rows and examples, of sampling and of the bootstrap.
        cached: answers that came from the cache.
        seconds: what the evaluation took.
        complete: False where a person stopped it.
    """

    source: str
    metric: str
    methods: tuple[MethodScore, ...]
    outcomes: tuple[Outcome, ...]
    conclusions: tuple[str, ...]
    notes: tuple[str, ...]
    leaks: tuple[Leak, ...]
    labels: tuple[str, ...]
    rows: int
    examples: int
    seed: int
    cached: int
    seconds: float
    complete: bool

    def of(self, method: str) -> tuple[Outcome, ...]:
        """The rows of one method.

        Raises:
            InputError: there is no such method.
        """
        names = [score.method for score in self.methods]
        if method not in names:
            raise InputError(
                f"there is no method {method} in this evaluation",
                did_you_mean(method, names) or f"There is {', '.join(names)}",
            )
        return tuple(outcome for outcome in self.outcomes if outcome.method == method)


@dataclass(frozen=True, slots=True)
class EvaluationProgress:
    """How far an evaluation is.

    Attributes:
        done: answers that are there.
        total: answers in all; 0 while rows and examples are made ready.
        seconds: since the beginning.
        cached: how many of them came from the cache.
        status: what goes on.
        scores: of each method so far: answers, and their mean score.
    """

    done: int
    total: int
    seconds: float
    cached: int = 0
    status: str = ""
    scores: Mapping[str, tuple[int, float]] = field(default_factory=dict)

    @property
    def seconds_left(self) -> float:
        """Seconds to go at the pace so far, cached answers not counted; infinite before the first new one."""
        new = self.done - self.cached
        return (self.total - self.done) * self.seconds / new if new else float("inf")


class Evaluating(Running[EvaluationProgress]):
    """A running evaluation. Iterate it once for its progress, from any one thread, then read ``result``.

    Args:
        title: what is evaluated.
        work: called once with a stop event; yields the progress and returns the result. When the event is set
            it ends at the next token, with the rows that are done.
    """

    def __init__(self, title: str, work: Callable[[threading.Event], Generator[EvaluationProgress, None, Any]]) -> None:
        super().__init__()
        self.title = title
        self._work = work
        self._result: Any = None

    def __iter__(self) -> Iterator[EvaluationProgress]:
        self._result = yield from self._work(self._stop)

    @property
    def result(self) -> Any:
        """The ``Evaluation``, a DataFrame.

        Raises:
            LLMMagicsError: it has not been iterated to its end.
        """
        if self._result is None:
            raise LLMMagicsError("the evaluation is not complete", "Iterate it to its end first")
        return self._result
