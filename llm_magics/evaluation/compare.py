"""The run of an evaluation: every row by every method, then the table.

Rows are asked in blocks, all methods on one block before the next, so that a run that is stopped has asked all of
them the same rows. What each method asks is decided outside: ``Plan.ask`` makes a running answer of a row.
"""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import (
    BusyError,
    InputError,
    KnowledgeError,
    LLMMagicsError,
    MissingPackageError,
    ModelNotFoundError,
)
from ..prompts.answers import parse_json
from ..values.answers import Answer, AnswerStream
from ..values.evaluation import (
    Difference,
    EvaluationProgress,
    EvaluationReport,
    Leak,
    MethodScore,
    Outcome,
    OutcomeState,
)
from . import conclusions, leaks, scoring, statistics
from .methods import Method
from .store import AnswerStore, StoredAnswer, key_of

FIRST_BLOCK, BLOCK = 4, 32
"""Rows that all methods are asked before the next ones: few at first, so that a run that is stopped early has asked
all of them, then twice as many each time up to the larger number, for the batches' sake."""

_PATIENCE = 5
"""Rows of a method that may fail before the first one that does not; then the failure is not a row's."""

# Nor is it where it would come at every row.
_HOPELESS = (BusyError, InputError, KnowledgeError, MissingPackageError, ModelNotFoundError)


@dataclass(frozen=True, slots=True)
class Case:
    """A row to ask: its place in the data, what is asked, and what should come out."""

    row: int
    input: str
    expected: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A question on its way, with everything besides prompt and options that decides its answer."""

    stream: AnswerStream
    key: tuple[Any, ...]


Ask = Callable[[Method, Case], Asked]
Guess = Callable[[Method, Sequence[Case]], Sequence[str]]
AtOnce = Callable[[Sequence[AnswerStream], threading.Event], Iterator[tuple[int, Answer | LLMMagicsError]]]
Judge = Callable[[Case, str], Iterable[Asked]]


@dataclass(frozen=True, slots=True)
class Plan:
    """An evaluation in which everything is decided.

    Attributes:
        source: the data, for a person.
        cases: the rows, in the order in which they are asked.
        examples: how many worked examples the methods choose from.
        methods: the methods, those without a model at the end.
        models: the model of each method, by the method's name.
        metric: one of ``messages.METRICS``.
        labels: for ``choice``: all labels.
        seed: of every random choice.
        leaks: rows that a method could know beforehand, found already.
        notes: what a reader has to know.
        ask: from a method and a row to a running answer.
        at_once: answers several running answers of one method, in the order in which they are complete.
        guess: from a method without a model and all rows to its answers.
        judge: for ``judge``: from a row and an answer to two questions, the second with the answers swapped.
    """

    source: str
    cases: tuple[Case, ...]
    examples: int
    methods: tuple[Method, ...]
    models: Mapping[str, str]
    metric: str
    labels: tuple[str, ...]
    seed: int
    leaks: tuple[Leak, ...]
    notes: tuple[str, ...]
    ask: Ask
    at_once: AtOnce
    guess: Guess
    judge: Judge | None = None


class Run:
    """One run of a plan.

    Args:
        plan: what is to be done.
        store: where answers are kept; None asks everything anew and keeps nothing.
        stop: ends the run at the next token.
    """

    def __init__(self, plan: Plan, store: AnswerStore | None, stop: threading.Event) -> None:
        self._plan = plan
        self._store = store
        self._stop = stop
        self._outcomes: dict[str, dict[int, Outcome]] = {method.name: {} for method in plan.methods}
        self._guesses: dict[str, dict[int, str]] = {}
        self._scores: dict[str, tuple[int, float]] = {}  # of each method: rows, and their mean score
        self._cached = 0

    def progress(self) -> Generator[EvaluationProgress, None, EvaluationReport]:
        """Ask every row; the value of the generator is the report.

        Raises:
            LLMMagicsError: what would fail at every row.
        """
        plan, began = self._plan, time.monotonic()
        total, done = len(plan.cases) * len(plan.methods), 0
        for method, block in self._blocks():
            for outcome in self._answers(method, block):
                done += 1
                self._keep(outcome)
                seconds = time.monotonic() - began
                yield EvaluationProgress(done, total, seconds, self._cached, method.name, dict(self._scores))
        outcomes = [outcome for found in self._outcomes.values() for outcome in found.values()]
        return report(plan, outcomes, cached=self._cached, seconds=time.monotonic() - began, complete=done == total)

    def _blocks(self) -> Iterator[tuple[Method, Sequence[Case]]]:
        begin, size = 0, FIRST_BLOCK
        while cases := self._plan.cases[begin : begin + size]:
            for method in self._plan.methods:
                yield method, cases
            begin, size = begin + size, min(2 * size, BLOCK)

    def _answers(self, method: Method, cases: Sequence[Case]) -> Iterator[Outcome]:
        """The rows of one block by one method: those that are known, then the others at once."""
        waiting: list[tuple[Case, Asked, str]] = []
        for case in cases:
            if self._stop.is_set():
                return
            if method.baseline:
                yield self._guessed(method, case)
                continue
            try:
                asked = self._plan.ask(method, case)
            except LLMMagicsError as error:
                yield self._failed(method, case, error)
                continue
            key = _key(asked)
            known = self._known(asked, key)
            if known is None:
                waiting.append((case, asked, key))
            elif (outcome := self._scored(method, case, asked, known)) is not None:
                yield dataclasses.replace(outcome, cached=True)
        yield from self._asked(method, waiting)

    def _asked(self, method: Method, waiting: Sequence[tuple[Case, Asked, str]]) -> Iterator[Outcome]:
        """Rows that no answer is known of, in the order in which they are answered."""
        found = self._at_once(waiting)
        # The model is busy until all are answered, and it may be the judge as well.
        for place, answer in found if self._plan.judge is None else list(found):
            case, asked, _ = waiting[place]
            if isinstance(answer, LLMMagicsError):
                yield self._failed(method, case, answer)
            elif (outcome := self._scored(method, case, asked, answer)) is not None:
                yield outcome

    def _at_once(self, waiting: Sequence[tuple[Case, Asked, str]]) -> Iterator[tuple[int, Answer | LLMMagicsError]]:
        """The answers, kept on disk as they come."""
        began = time.perf_counter()
        for place, found in self._plan.at_once([asked.stream for _, asked, _ in waiting], self._stop):
            if not isinstance(found, LLMMagicsError):
                # Those that are answered together share their seconds: each has what passed since the one before.
                found = _with_seconds(found, time.perf_counter() - began)
                self._put(waiting[place][2], found)
            yield place, found
            began = time.perf_counter()

    def _failed(self, method: Method, case: Case, error: LLMMagicsError) -> Outcome:
        """A row without an answer.

        Raises:
            LLMMagicsError: it would be every row.
        """
        rows = len(self._outcomes[method.name]) + 1
        if isinstance(error, _HOPELESS) or (rows >= _PATIENCE and method.name not in self._scores):
            raise error
        return Outcome(case.row, method.name, case.input, case.expected, "failed", note=str(error))

    def _scored(self, method: Method, case: Case, asked: Asked, answer: Answer) -> Outcome | None:
        """An answer and what it is worth; None where a person stopped the judge."""
        judged = self._judged(case, answer) if self._plan.judge is not None and answer.parsed else ()
        if judged is None:
            return None
        return dataclasses.replace(self._graded(method, case, answer, judged), prompt=asked.stream.prompt.text)

    def _guessed(self, method: Method, case: Case) -> Outcome:
        if method.name not in self._guesses:
            guessed = self._plan.guess(method, self._plan.cases)
            self._guesses[method.name] = {c.row: said for c, said in zip(self._plan.cases, guessed, strict=True)}
        return self._graded(method, case, Answer(self._guesses[method.name][case.row]))

    def _known(self, asked: Asked, key: str) -> Answer | None:
        """The answer that is on disk."""
        kept = self._store.get(key) if self._store is not None else None
        if kept is None:
            return None
        known: Any = {"parsed": kept.parsed, "stop_reason": kept.stop_reason, "usage": kept.usage}
        return Answer(
            kept.text, reasoning=kept.reasoning, method=asked.stream.method, model=asked.stream.model, **known
        )

    def _put(self, key: str, answer: Answer) -> None:
        if self._store is not None:
            stored = StoredAnswer(answer.text, answer.reasoning, answer.parsed, answer.stop_reason, answer.usage)
            self._store.put(key, stored)

    def _judged(self, case: Case, answer: Answer) -> tuple[str, ...] | None:
        """What the judge says, once with the answer first and once with it last; None where a person stopped it."""
        said: list[str] = []
        for question in self._plan.judge(case, answer.text) if self._plan.judge is not None else ():
            key = _key(question)
            verdict = self._known(question, key)
            if verdict is None:
                verdict = question.stream.run(self._stop)
                if verdict.stop_reason == "stopped":
                    return None
                self._put(key, verdict)
            said.append(verdict.text)
        return tuple(said)

    def _graded(self, method: Method, case: Case, answer: Answer, judged: Sequence[str] = ()) -> Outcome:
        plan = self._plan
        text, note = answer.text if answer.parsed else "", ""
        if plan.judge is not None and not method.baseline:
            verdicts = [scoring.named_label(said, ("yes", "no")) for said in judged]
            note = f"the judge said {' and '.join(judged)}" if judged else ""
            known = bool(verdicts) and None not in verdicts
            mean = sum(verdict == "yes" for verdict in verdicts) / max(1, len(verdicts))
            grade = scoring.Grade(mean if known else None, text)
        else:
            grade = scoring.grade(plan.metric, text, case.expected, plan.labels, parse_json)
        return Outcome(
            case.row,
            method.name,
            case.input,
            case.expected,
            _state(grade.score),
            grade.score or 0.0,
            text,
            grade.read_as,
            answer.reasoning,
            usage=answer.usage,
            note=note,
        )

    def _keep(self, outcome: Outcome) -> None:
        self._outcomes[outcome.method][outcome.row] = outcome
        self._cached += outcome.cached
        if outcome.state != "failed":
            rows, mean = self._scores.get(outcome.method, (0, 0.0))
            self._scores[outcome.method] = (rows + 1, (rows * mean + outcome.score) / (rows + 1))


def _key(asked: Asked) -> str:
    stream = asked.stream
    return key_of(*asked.key, stream.method, stream.prompt.text, dataclasses.asdict(stream.options))


def _with_seconds(answer: Answer, seconds: float) -> Answer:
    """What an evaluation needs of an answer, with other seconds."""
    usage = dataclasses.replace(answer.usage, seconds=seconds)
    details: Any = {"parsed": answer.parsed, "stop_reason": answer.stop_reason, "usage": usage}
    return Answer(answer.text, reasoning=answer.reasoning, method=answer.method, model=answer.model, **details)


def report(plan: Plan, outcomes: Sequence[Outcome], *, cached: int, seconds: float, complete: bool) -> EvaluationReport:
    """The table of what was asked, and what it says.

    Args:
        plan: what was to be done.
        outcomes: what was done, in any order.
        cached: how many of them came from the disk.
        seconds: what it took.
        complete: whether nothing is missing.
    """
    ordered = sorted(outcomes, key=lambda outcome: outcome.row)
    of = {method.name: [o for o in ordered if o.method == method.name] for method in plan.methods}
    first = plan.methods[0].name
    compared = {name: difference(found, of[first], seed=plan.seed) for name, found in of.items() if name != first}
    compared = {name: found for name, found in compared.items() if found.rows}  # of no rows there is no p value
    asked = [method.name for method in plan.methods if not method.baseline]
    plain = [method.name for method in plan.methods if method.baseline]
    best = _best_two(asked, of, first, plan.seed)
    tests = [*compared.values(), *([best] if best else [])]
    corrected = statistics.holm([test.p for test in tests])
    tests = [dataclasses.replace(test, corrected=p) for test, p in zip(tests, corrected, strict=True)]
    compared = dict(zip(compared, tests, strict=False))
    scores = tuple(_scored(name, plan.models.get(name, ""), of[name], compared.get(name), plan.seed) for name in of)
    return EvaluationReport(
        source=plan.source,
        metric=plan.metric,
        methods=scores,
        outcomes=tuple(outcome for name in of for outcome in of[name]),
        conclusions=conclusions.conclude(scores, tests[-1] if best else None, plain, plan.metric),
        notes=(*plan.notes, *_failures(scores), *([] if complete else ["Stopped: these are the rows that were done."])),
        leaks=plan.leaks,
        labels=plan.labels,
        rows=len(plan.cases),
        examples=plan.examples,
        seed=plan.seed,
        cached=cached,
        seconds=seconds,
        complete=complete,
    )


def difference(outcomes: Sequence[Outcome], reference: Sequence[Outcome], *, seed: int) -> Difference:
    """Two methods on the rows that both have answered.

    Args:
        outcomes: of the one.
        reference: of the other.
        seed: of the bootstrap.
    """
    known = {outcome.row: outcome.score for outcome in reference if outcome.state != "failed"}
    pairs = [(o.score, known[o.row]) for o in outcomes if o.state != "failed" and o.row in known]
    found = statistics.paired([pair[0] for pair in pairs], [pair[1] for pair in pairs], seed=seed)
    method, other = (next((outcome.method for outcome in side), "") for side in (outcomes, reference))
    low, high = found.interval.low, found.interval.high
    return Difference(method, other, found.rows, found.difference, low, high, found.p, found.p, found.rows_needed)


def _best_two(asked: Sequence[str], of: Mapping[str, Sequence[Outcome]], first: str, seed: int) -> Difference | None:
    """The best method against the next one, where that is not in the table already."""
    scores = {name: [o.score for o in of[name] if o.state != "failed"] for name in asked}
    ranked = sorted((name for name in asked if scores[name]), key=lambda name: -_mean(scores[name]))
    if len(asked) < 3 or len(ranked) < 2 or first in ranked[:2]:
        return None
    found = difference(of[ranked[0]], of[ranked[1]], seed=seed)
    return found if found.rows else None


def _scored(name: str, model: str, outcomes: Sequence[Outcome], found: Difference | None, seed: int) -> MethodScore:
    answered = [outcome for outcome in outcomes if outcome.state != "failed"]
    scores = [outcome.score for outcome in answered]
    limits = statistics.interval(scores, seed=seed)
    states: tuple[OutcomeState, ...] = ("right", "partly", "wrong", "unparsed", "failed")
    counts = {state: sum(outcome.state == state for outcome in outcomes) for state in states}
    return MethodScore(
        method=name,
        model=model,
        rows=len(answered),
        **counts,
        score=_mean(scores),
        low=limits.low,
        high=limits.high,
        difference=found,
        prompt_tokens=_mean([outcome.usage.prompt_tokens for outcome in answered]),
        new_tokens=_mean([outcome.usage.new_tokens for outcome in answered]),
        seconds=_mean([outcome.usage.seconds for outcome in answered]),
    )


def _failures(scores: Sequence[MethodScore]) -> list[str]:
    failed = [f"{score.method}: {score.failed}" for score in scores if score.failed]
    return [f"Rows without an answer, left out of every figure: {', '.join(failed)}."] if failed else []


def _state(score: float | None) -> OutcomeState:
    if score is None:
        return "unparsed"
    return "right" if score >= 1 else "wrong" if score <= 0 else "partly"


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def leak_notes(found: Sequence[Leak], *, dropped: bool) -> tuple[str, ...]:
    """A sentence for each leak."""
    return tuple(leaks.described(leak, dropped=dropped) for leak in found)
