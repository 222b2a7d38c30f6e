"""Evaluation for a session: from a labelled set and names of methods to a plan, and from a plan to running questions.

The one place that knows both the evaluation, which asks and counts, and the session, which answers.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .errors import InputError, MissingPackageError, ModelNotFoundError, did_you_mean
from .evaluation import judging, leaks, scoring, statistics
from .evaluation.compare import Ask, Asked, Case, Plan, Run, leak_notes
from .evaluation.methods import Method, read_method, read_methods, with_model
from .evaluation.store import AnswerStore, key_of
from .finetuning.folders import TRAIN
from .finetuning.rows import Table, read
from .history import Exchange
from .knowledge.base import Base
from .knowledge.store import KnowledgeBase
from .prompts import examples as choosing
from .prompts import plain
from .prompts.fewshot import FewShotCell, parse_cell
from .values.answers import Answer, AnswerStream
from .values.asking import AskRequest
from .values.comparison import Comparing, ComparisonRequest
from .values.evaluation import Evaluating, EvaluationProgress, EvaluationRequest, Leak
from .values.knowledge import RetrievalRequest
from .values.messages import Example

if TYPE_CHECKING:
    from .session import Session

_MOST_EXAMPLES = 100  # rows that are kept as examples where nobody says how many
_SHOTS = 4
_NEIGHBOURS = 5
_INPUTS = ("input", "text", "question", "prompt")
_OUTPUTS = ("expected", "output", "label", "answer", "completion", "answer_regex")


@dataclasses.dataclass(frozen=True)
class Data:
    """Where the rows come from.

    Attributes:
        source: a path, a Hub id, or a value.
        name: what the person calls a value.
        examples: worked examples from elsewhere; then no row is kept as one.
        trained_on: rows that a model was trained on, as ``source``; None for those that its folder tells.
    """

    source: object
    name: str = ""
    examples: Sequence[Example] = ()
    trained_on: object = None


def evaluate(session: Session, data: Data, request: EvaluationRequest) -> Evaluating:
    """Read the data, decide everything, and make ready to ask.

    Args:
        session: answers.
        data: the rows.
        request: what is to be done.

    Raises:
        InputError: data, columns or options that cannot be used.
        KnowledgeError: a method asks a knowledge base that is not there.
        ModelError: a model that is not loaded.
    """
    _need_pandas()
    statistics.ready()
    plan = _Planner(session, data, request)
    return Evaluating(plan.title, plan.work)


def compare(
    session: Session, text: str, request: AskRequest, ways: ComparisonRequest, given: Sequence[Example]
) -> Comparing:
    """Make ready to ask one question in several ways.

    Args:
        session: answers.
        text: the question; above it may stand an instruction and worked examples, as in ``%%fewshot``.
        request: the options of every answer.
        ways: methods, models and temperatures.
        given: worked examples from elsewhere.

    Raises:
        InputError: there is no question, or a method that cannot be asked.
        KnowledgeError: a method asks a knowledge base that is not there.
        ModelError: a model that is not loaded.
    """
    _need_pandas()
    if not text.strip():
        raise InputError("there is no question", "Type it below the %%llm_compare line")
    has_examples = "=>" in text or any(line.strip() == "---" for line in text.splitlines())
    cell = parse_cell(text) if has_examples else FewShotCell("", (), plain.trim(text))
    named = ways.methods or (("llm",) if ways.models or ways.temperatures else ("llm", "cot"))
    methods = _with_models(read_methods(named, [info.name for info in session.models]), ways.models)
    if request.seed is None:  # one for all, so that sampling does not set them apart
        seed = session.settings.seed
        request = dataclasses.replace(request, seed=random.SystemRandom().randrange(10**6) if seed is None else seed)
    asker = Ways(session, cell.instruction, (*given, *cell.examples), ways.knowledge_base, all_shots=True)
    models = {method.name: session.model_name(method.model or request.model) for method in methods}
    _check_different(methods, models, [info.name for info in session.models])
    titles, streams = [], []
    for method in methods:
        for temperature in ways.temperatures or (request.temperature,):
            asked = dataclasses.replace(request, model=models[method.name], temperature=temperature, history=False)
            titles.append(f"{method.name} at {temperature:g}" if len(ways.temperatures) > 1 else method.name)
            streams.append(asker.ask(method, cell.question, asked))

    def gather(answers: Sequence[Answer]) -> Any:
        from .evaluation.frames import Comparison

        return Comparison.of(titles[: len(answers)], answers)

    def keep(answer: Answer) -> None:
        if request.history:
            session.history.record(Exchange(plain.trim(text), answer, request.cell, request.run, compared=True))

    return Comparing(titles, streams, gather, keep)


def _with_models(methods: Sequence[Method], models: Sequence[str]) -> Sequence[Method]:
    """Each method by each model; those that name a model stay as they are."""
    for method in methods:
        if method.baseline:
            raise InputError(f"{method.name} answers no single question", "Type %llm_eval with a labelled set")
    free = [method for method in methods if not method.model]
    named = [method for method in methods if method.model]
    return [*(with_model(method, model) for model in models for method in free), *named] if models else methods


def _check_different(methods: Sequence[Method], models: Mapping[str, str], loaded: Sequence[str]) -> None:
    """Refuse two methods that ask one model the same: a tuned model answers by itself after its training, and ``llm``
    beside it would be taken for its base."""
    for one, other in itertools.combinations([method for method in methods if not method.baseline], 2):
        model = models[one.name]
        if one.parts == other.parts and models[other.name] == model:
            base = next((name for name in loaded if name != model), "NAME")
            raise InputError(
                f"{one.name} and {other.name} are the same here: both ask {model}",
                f"Type -m {base} for the methods that name no model",
            )


class Ways:
    """Asks one question by any method.

    Args:
        session: answers.
        instruction: what to do, before the question; may be empty.
        pool: worked examples to choose from.
        knowledge_base: of ``rag``; the one used last where it is empty.
        all_shots: whether ``fewshot`` without a number takes all examples; else the four most similar ones.
    """

    def __init__(
        self,
        session: Session,
        instruction: str,
        pool: Sequence[Example],
        knowledge_base: str,
        *,
        all_shots: bool = False,
    ) -> None:
        self._session = session
        self._instruction = instruction
        self._pool = tuple(pool)
        self._knowledge_base = knowledge_base
        self._all = all_shots

    def ask(self, method: Method, question: str, request: AskRequest, choices: Sequence[str] = ()) -> AnswerStream:
        """The running answer of a method to a question.

        Args:
            method: one that asks a model.
            question: what is asked.
            request: the model and the options.
            choices: the only possible answers; none with ``cot``.
        """
        session, parts = self._session, method.parts
        shown = _joined(self._instruction, question)
        if "rag" in parts:
            request = dataclasses.replace(request, system=_joined(self._system(request), self._instruction))
            given, reasons = self._shots(method, question), "cot" in parts
            retrieval = self._retrieval(method)
            return session.ask_rag(question, request, retrieval, given=given, reasoning=reasons, choices=choices)
        if "cot" in parts:
            shots = self._shots(method, question)
            given = [Example(_joined(self._instruction, shot.input), shot.output) for shot in shots]
            strategy, votes = method.option("cot", "strategy", "steps"), method.number("cot", "votes", 1)
            return session.ask_cot(shown, request, strategy=strategy, votes=votes, given=given)
        if "fewshot" in parts:
            cell = FewShotCell(self._instruction, (), question)
            how = self._selection(method) | {"decide": method.option("fewshot", "decide")}
            return session.ask_fewshot(cell, request, given=self._pool, choices=choices, **how)
        return session.ask_messages(plain.build(shown, system=self._system(request)), request, choices=choices)

    def _retrieval(self, method: Method) -> RetrievalRequest:
        search = method.option("rag", "search", "hybrid")
        return RetrievalRequest(self._knowledge_base, k=method.number("rag", "k", 0) or None, search=search)

    def _system(self, request: AskRequest) -> str:
        return self._session.settings.system if request.system is None else request.system

    def _selection(self, method: Method) -> dict[str, Any]:
        """Which examples and how many, as ``ask_fewshot`` takes it."""
        number = method.number("fewshot", "k", 0)
        select = method.option("fewshot", "select", "all" if self._all and not number else "similar")
        return {"select": select, "k": number or (None if select == "all" else min(_SHOTS, len(self._pool)))}

    def _shots(self, method: Method, question: str) -> Sequence[Example]:
        if "fewshot" not in method.parts:
            return ()
        similarity = self._session.similarities
        return choosing.choose(self._pool, question=question, similarity=similarity, **self._selection(method))


class _Planner:
    """What was decided before anything is asked."""

    def __init__(self, session: Session, data: Data, request: EvaluationRequest) -> None:
        self._session, self._request = session, request
        loaded = [info.name for info in session.models]
        methods = read_methods(request.methods, loaded)
        table = read(data.source, data.name)
        cases, self._notes = _cases(table, request)
        self._trained_on = data.trained_on
        expected = [case.expected for case in cases]
        self._most_frequent = Counter(expected).most_common(1)[0][0]
        self._metric = request.metric or scoring.choose_metric(expected, request.choices)
        self._labels = _labels(expected, request.choices) if self._metric == "choice" else ()
        scoring.check(self._metric, expected, self._labels)
        self._cases, self._pool = self._split(cases, data.examples, methods)
        instruction = request.instruction or _instruction(self._labels)
        self._ways = Ways(session, instruction, self._pool, request.knowledge_base)
        self._methods = self._with_baselines(methods)
        self._models = {m.name: session.model_name(m.model or request.ask.model) for m in methods if not m.baseline}
        _check_different(methods, self._models, loaded)
        self._notes += self._unweighed()
        self._judge = self._judge_name()
        for method in methods:
            if "rag" in method.parts:
                session.knowledge.find(request.knowledge_base)
        self.title = f"{table.source}"

    def work(self, stop: threading.Event) -> Generator[EvaluationProgress, None, Any]:
        """Look for leakage, then ask."""
        from .evaluation.frames import Evaluation

        yield EvaluationProgress(0, 0, 0.0, status="looking for leakage")
        found = leaks.find(
            {case.row: case.input for case in self._cases},
            [example.input for example in self._pool],
            dict(self._training_rows()),
            dict(self._documents()),
        )
        store = self._store() if self._request.cache else None
        try:
            with self._session.quiet():  # what is said of one answer would be said of every row
                report = yield from Run(self._plan(found), store, stop).progress()
        finally:
            if store is not None:
                store.close()
        return Evaluation.of(report)

    def _plan(self, found: Sequence[Leak]) -> Plan:
        request = self._request
        known = {row for leak in found for row in leak.rows} if request.drop_leaks else set()
        cases = tuple(case for case in self._cases if case.row not in known)
        if not cases:
            raise InputError("every row leaks: none is left to ask", "Leave --drop-leaks out, or give other rows")
        return Plan(
            source=self.title,
            cases=cases,
            examples=len(self._pool),
            methods=self._methods,
            models=self._models,
            metric=self._metric,
            labels=self._labels,
            seed=request.seed,
            leaks=tuple(found),
            notes=(*leak_notes(found, dropped=request.drop_leaks), *self._notes),
            ask=self._asking(),
            at_once=self._session.at_once,
            guess=self._guess,
            judge=self._judged if self._judge else None,
        )

    # The rows

    def _split(
        self, cases: Sequence[Case], given: Sequence[Example], methods: Sequence[Method]
    ) -> tuple[tuple[Case, ...], tuple[Example, ...]]:
        """The rows to ask, in random order, and the examples."""
        request = self._request
        order = random.Random(request.seed).sample(list(cases), len(cases))
        wants = any(method.needs_examples for method in methods) or self._metric == "choice"
        kept = request.example_rows
        if kept is None:
            kept = min(_MOST_EXAMPLES, len(order) // 2) if wants and not given else 0
        if kept >= len(order):
            raise InputError(
                f"--example-rows {kept} leaves no row to ask of {len(order)}", "Give a smaller number, or more rows"
            )
        pool = _balanced(order, kept, by_label=self._metric == "choice")
        places = {case.row for case in pool}
        asked = [case for case in order if case.row not in places][: request.rows or None]
        examples = (*given, *(Example(case.input, case.expected) for case in pool))
        for method in methods:
            shots = method.number("fewshot", "k", min(_SHOTS, max(1, len(examples))))
            if method.needs_examples and not examples:
                raise InputError(f"{method.name} needs examples and there are none", "Type --examples VAR")
            if "fewshot" in method.parts and shots > len(examples):
                there = f"{method.name} needs {shots} examples and there are {len(examples)}"
                raise InputError(there, "Type fewshot with a smaller number, or --example-rows with a larger one")
        return tuple(asked), examples

    def _with_baselines(self, methods: Sequence[Method]) -> tuple[Method, ...]:
        """The methods, and for classification the two that ask no model, where they can be."""
        named = {next(iter(method.parts)) for method in methods}
        for method in methods:
            if method.baseline and self._metric == "judge":
                raise InputError(f"{method.name} asks no model, and a judge judges models", "Leave it out of --methods")
        added = ["majority", "neighbours"] if self._metric == "choice" and self._pool else []
        try:
            if "neighbours" in added and "neighbours" not in named:
                _ = self._session.knowledge.embedder().dimension
        except (MissingPackageError, ModelNotFoundError) as error:
            self._notes.append(f"neighbours is left out: {error.message}.")
            added.remove("neighbours")
        more = [read_method(name, ()) for name in added if name not in named]
        return (*sorted(methods, key=lambda method: method.baseline), *more)

    def _unweighed(self) -> list[str]:
        """Models that write labels freely because they give no probabilities."""
        constrained = [m for m in self._methods if self._metric == "choice" and not m.free and not m.baseline]
        names = dict.fromkeys(self._models[m.name] for m in constrained if not self._weighed(m))
        return [f"{', '.join(names)} gives no probabilities of labels: its answers are free text."] if names else []

    # What is asked

    def _asking(self) -> Ask:
        digest = key_of([dataclasses.astuple(example) for example in self._pool])
        identities = {name: self._session.identity(name) for name in {*self._models.values()}}

        def ask(method: Method, case: Case) -> Asked:
            model = self._models[method.name]
            weighed = self._weighed(method)
            choices = self._labels if weighed else ()
            stream = self._ways.ask(method, case.input, self._asked_as(method, model, weighed=weighed), choices)
            # Labels are decided by all examples, not by those in the prompt alone.
            pool = [digest, *sorted(method.parts["fewshot"].items())] if "fewshot" in method.parts else []
            votes = method.number("cot", "votes", 1)
            return Asked(stream, (__version__, identities[model], choices, votes, pool))

        return ask

    def _weighed(self, method: Method) -> bool:
        """Whether the labels are weighed, and nothing is written."""
        constrained = self._metric == "choice" and not method.free and not method.baseline
        return constrained and self._session.weighs_choices(self._models[method.name])

    def _asked_as(self, method: Method, model: str, *, weighed: bool) -> AskRequest:
        given = self._request.ask
        if weighed:  # nothing is generated that the other options could change
            return AskRequest(model=model, system=given.system, history=False)
        votes = method.number("cot", "votes", 1) > 1
        return dataclasses.replace(
            given,
            model=model,
            temperature=given.temperature if given.temperature is not None or votes else 0.0,
            repetition_penalty=1.0 if given.repetition_penalty is None else given.repetition_penalty,
            seed=self._request.seed if given.seed is None else given.seed,
            format="text",
            history=False,
        )

    # What asks no language model

    def _guess(self, method: Method, cases: Sequence[Case]) -> Sequence[str]:
        if "majority" in method.parts:
            return [self._most_frequent] * len(cases)  # of the data: examples hold each label equally often
        embedder = self._session.knowledge.embedder()
        known = embedder.vectors([example.input for example in self._pool])
        similar = embedder.vectors([case.input for case in cases]) @ known.T
        count = method.number("neighbours", "k", _NEIGHBOURS)
        return [self._vote(list(map(float, row)), count) for row in similar]

    def _vote(self, similar: Sequence[float], count: int) -> str:
        """The label with the most similarity among the nearest examples."""
        votes: Counter[str] = Counter()
        for place in sorted(range(len(similar)), key=lambda place: -similar[place])[:count]:
            votes[self._pool[place].output] += similar[place]  # type: ignore[assignment]
        return votes.most_common(1)[0][0]

    # The judge

    def _judge_name(self) -> str:
        judge, metric = self._request.judge, self._metric
        if metric != "judge":
            if judge:
                raise InputError(f"--judge goes with --metric judge, and the metric is {metric}", "Leave --judge out")
            return ""
        if not judge:
            raise InputError("--metric judge needs a judge", "Type --judge NAME with the name of a loaded model")
        name = self._session.model_name(judge)
        if name in self._models.values():
            self._notes.append(f"{name} judges its own answers too.")
        return name

    def _judged(self, case: Case, answer: str) -> Iterator[Asked]:
        choices = judging.VERDICTS if self._session.weighs_choices(self._judge) else ()
        request = AskRequest(model=self._judge, system="", history=False)
        if not choices:
            request = dataclasses.replace(request, temperature=0.0, repetition_penalty=1.0, max_new_tokens=8)
        for messages in judging.questions(case.input, answer, case.expected):
            stream = self._session.ask_messages(messages, request, choices=choices)
            yield Asked(stream, (__version__, self._session.identity(self._judge), choices))

    # Leakage

    def _training_rows(self) -> Iterator[tuple[str, Iterable[str]]]:
        if self._trained_on is not None:
            yield "--trained-on", _texts(read(self._trained_on, "the training rows"))
        for name in {*self._models.values()}:
            source = next(info.source for info in self._session.models if info.name == name)
            # A job's folder, or in it its merged model.
            files = [place / TRAIN for place in (Path(source), Path(source).parent)] if source else []
            for file in filter(Path.is_file, files):
                yield name, _texts(read(file))

    def _documents(self) -> Iterator[tuple[str, Callable[[str], Iterable[str]]]]:
        if any("rag" in method.parts for method in self._methods):
            base = self._session.knowledge.find(self._request.knowledge_base)
            yield base.name, _texts_of(base)

    def _store(self) -> AnswerStore | None:
        from .cache_folders import cache_folder

        try:
            return AnswerStore(cache_folder("answers") / "answers.sqlite")
        except OSError as error:
            self._notes.append(f"Answers are not kept on disk: {error}.")
            return None


def _need_pandas() -> None:
    """Refuse before anything is asked: the result is a DataFrame."""
    try:
        import pandas  # noqa: F401
    except ImportError as error:
        raise MissingPackageError("pandas", "evaluation") from error


def _cases(table: Table, request: EvaluationRequest) -> tuple[list[Case], list[str]]:
    """The rows that have both cells, and what was left out."""
    if len(table.columns) < 2:
        raise InputError(
            f"{table.source} has one column, {', '.join(table.columns)}",
            "Give two: what is asked, and what is expected",
        )
    asked = _column(table, request.input, "--input", _INPUTS)
    wanted = _column(table, request.expected, "--expected", _OUTPUTS)
    if asked == wanted:
        raise InputError(f"--input and --expected are both {asked}", "Name two columns")
    cases = [
        Case(place, _text(row.get(asked)), _text(row.get(wanted)))
        for place, row in enumerate(table.rows)
        if _text(row.get(asked)).strip() and _text(row.get(wanted)).strip()
    ]
    if not cases:
        raise InputError(f"{table.source} has no row with both {asked} and {wanted}", "Give rows with both")
    empty = len(table.rows) - len(cases)
    rows = "1 row lacks" if empty == 1 else f"{empty} rows lack"
    return cases, [f"{rows} {asked} or {wanted} and {'is' if empty == 1 else 'are'} left out."] if empty else []


def _column(table: Table, name: str, flag: str, usual: Sequence[str]) -> str:
    if not name:
        known = {column.strip().lower(): column for column in table.columns}
        name = next((known[word] for word in usual if word in known), "")
    if name in table.columns:
        return name
    columns = ", ".join(table.columns[:8]) + (", …" if len(table.columns) > 8 else "")
    if not name:
        raise InputError(f"{table.source} has the columns {columns}", f"Type {flag} with one of them")
    raise InputError(f"{table.source} has no column {name}", did_you_mean(name, table.columns) or f"It has {columns}")


def _text(cell: object) -> str:
    """A cell as text: a whole number in a column of floats without its .0, JSON where it is no plain value."""
    import json

    if cell is None:
        return ""
    if isinstance(cell, float):
        return "" if math.isnan(cell) else str(int(cell)) if cell.is_integer() else repr(cell)
    return json.dumps(cell, ensure_ascii=False) if isinstance(cell, list | dict) else str(cell)


def _labels(expected: Sequence[str], choices: Sequence[str]) -> tuple[str, ...]:
    return tuple(choices) or tuple(sorted(set(expected)))


def _instruction(labels: Sequence[str]) -> str:
    return f"Classify the text into {', '.join(labels[:-1])} or {labels[-1]}." if labels else ""


def _joined(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)


def _balanced(cases: Sequence[Case], count: int, *, by_label: bool) -> Sequence[Case]:
    """The first ``count`` rows, of each label as equal a number as there are."""
    if not by_label:
        return cases[:count]
    seen: Counter[str] = Counter()
    turns = []
    for place, case in enumerate(cases):
        turns.append((seen[case.expected], place))
        seen[case.expected] += 1
    return [cases[place] for _, place in sorted(turns)[:count]]


def _texts(table: Table) -> Iterator[str]:
    """Every text of some training rows, those of conversations one by one."""
    for row in table.rows:
        for cell in row.values():
            for part in cell if isinstance(cell, list) else [cell]:
                yield str(part.get("content", "")) if isinstance(part, Mapping) else _text(part)


def _texts_of(base: Base) -> Callable[[str], Iterable[str]]:
    """From a row to the texts of a knowledge base in which it may stand word for word."""
    if isinstance(base, KnowledgeBase):
        documents = [base.document(source) for source in base.sources]
        texts = [leaks.padded(document.text) for document in documents if document is not None]
        return lambda text: texts
    request = RetrievalRequest(base.name, k=3)
    return lambda text: [leaks.padded(passage.text) for passage in base.search(text, request)]
