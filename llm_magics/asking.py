"""From a question that is decided in every part to a running answer.

An ``Asker`` holds what is common to all methods: the options in force, one answer at a time for each
model, the answer's form, and its entry in the history. What is asked is decided in ``methods``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import random
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any

from .engines.base import BatchEngine, BatchScorer, Engine, Scorer, room_for_answer
from .errors import AnswerFormatError, BusyError, InputError, LLMMagicsError, ModelNotFoundError
from .history import Exchange, History
from .open_model import OpenModel
from .prompts import answers, cot, plain, rag, schemas
from .prompts import choices as deciding
from .settings import LLMMagics
from .values.answers import Answer, AnswerStream, Chunk, Usage
from .values.asking import AskRequest, GenerationOptions
from .values.knowledge import Passage
from .values.messages import Message, Prompt


@dataclasses.dataclass(frozen=True)
class Question:
    """Everything that was decided before the model is called.

    Attributes:
        method: ``llm``, ``fewshot``, ``cot`` or ``rag``.
        text: what was asked, as the history keeps it.
        model: name of the model.
        opened: the model.
        prompt: what it reads.
        options: how it answers.
        request: how it was asked.
        reasons: whether the model writes its reasoning before a final answer.
        sources: the passages in the prompt.
    """

    method: str
    text: str
    model: str
    opened: OpenModel
    prompt: Prompt
    options: GenerationOptions
    request: AskRequest
    reasons: bool = False
    sources: tuple[Passage, ...] = ()


class QuestionStream(AnswerStream):
    """A running answer that can be given to an engine together with others.

    Args:
        question: what was decided.
        weighed: where choices are weighed: from their probabilities after each of the prompts, and the seconds that
            it took, to the one chunk.
        choices: the only possible answers.
        prompts: after which they are weighed.
        nearness: what is joined with them, of the examples alone.
        single: whether the engine writes it in one go.
        rest: as ``AnswerStream``.
    """

    def __init__(
        self,
        question: Question,
        *,
        weighed: Callable[[Sequence[Sequence[float]], float], Chunk] | None = None,
        choices: Sequence[str] = (),
        prompts: Sequence[Prompt] = (),
        nearness: Mapping[str, float] | None = None,
        single: bool = False,
        **rest: Any,
    ) -> None:
        super().__init__(**rest)
        self.question = question
        self.weighed = weighed
        self.choices = tuple(choices)
        self.prompts = tuple(prompts)
        self.nearness = dict(nearness or {})
        self.single = single


class Asker:
    """Makes running answers of questions.

    Args:
        settings: the defaults of every option.
        history: where answers are written.
        models: the open models by name, as the session keeps them.
    """

    def __init__(self, settings: LLMMagics, history: History, models: Mapping[str, OpenModel]) -> None:
        self.settings = settings
        self.history = history
        self._models = models

    def options(self, request: AskRequest, **method: float) -> GenerationOptions:
        """The person's value, else the method's, else the setting."""
        settings = self.settings
        if request.schema is not None:  # a penalty punishes the braces and quotes that JSON repeats
            method = {"temperature": 0.0, "repetition_penalty": 1.0, **method}

        def pick(name: str) -> float:
            asked = getattr(request, name)
            return float(method.get(name, getattr(settings, name)) if asked is None else asked)

        options = GenerationOptions(
            temperature=pick("temperature"),
            top_p=pick("top_p"),
            max_new_tokens=settings.max_new_tokens if request.max_new_tokens is None else request.max_new_tokens,
            repetition_penalty=pick("repetition_penalty"),
            seed=settings.seed if request.seed is None else request.seed,
            stop=request.stop,
            schema=request.schema.text if request.schema else "",
        )
        if options.seed is None and not options.greedy:
            options = dataclasses.replace(options, seed=random.SystemRandom().randrange(10**6))
        return options

    def system(self, request: AskRequest) -> str:
        """The system text in force."""
        return self.settings.system if request.system is None else request.system

    def conversation(self, text: str, model: str, request: AskRequest) -> tuple[Message, ...]:
        """The turns that a question continues; none where it is asked without history.

        Args:
            text: the question.
            model: name of the model that is asked.
            request: how it is asked.
        """
        if not request.history:
            return ()
        limit = self.settings.history_turns
        return self.history.conversation(request.cell, request.run, limit, question=text, model=model)

    def without_model(self, method: str, text: str, said: str, request: AskRequest) -> AnswerStream:
        """What is answered without asking any model.

        Args:
            method: as in ``Question``.
            text: what was asked.
            said: the answer.
            request: how it was asked.
        """

        def chunks(stop: threading.Event) -> Iterator[Chunk]:
            yield Chunk(said, Usage(), "end")

        def finish(seen: list[Chunk]) -> Answer:
            answer = Answer(said, method=method, output_format="text")
            self._record(text, answer, request, chat=False)
            return answer

        prompt, options = Prompt((), "", 0), GenerationOptions(temperature=0)
        return AnswerStream(
            method=method, model="", format="text", prompt=prompt, options=options, chunks=chunks, finish=finish
        )

    def one_answer(self, question: Question) -> AnswerStream:
        """One generation, parted into reasoning and answer."""
        reasons = question.reasons
        if reasons and question.options.schema:
            return self._answer_after_reasoning(question)

        def chunks(stop: threading.Event) -> Iterator[Chunk]:
            for chunk in self._generate(question, question.options, stop):
                yield dataclasses.replace(chunk, part="reasoning") if reasons else chunk

        def finish(seen: list[Chunk]) -> Answer:
            text = "".join(chunk.text for chunk in seen)
            if not reasons:
                reasoning, text = answers.split_thinking(text)
                return self._answer(question, seen, text, reasoning=reasoning)
            final = answers.final_answer(text, whole=seen[-1].stop_reason in ("end", "stop"))
            return self._answer(question, seen, final.answer, reasoning=final.reasoning, parsed=final.parsed)

        return self._stream(question, chunks, finish, single=True)

    def _answer_after_reasoning(self, question: Question) -> AnswerStream:
        """Reasoning as the model likes to write it, then a final answer that is held to the schema."""

        def chunks(stop: threading.Event) -> Iterator[Chunk]:
            thought = ""
            for chunk in self._generate(question, dataclasses.replace(question.options, schema=""), stop):
                thought += chunk.text
                last = chunk.stop_reason if chunk.stop_reason == "stopped" else None
                yield dataclasses.replace(chunk, part="reasoning", stop_reason=last)
            spent = chunk.usage
            if not stop.is_set():
                turns = cot.final_turns(question.prompt.messages, thought)
                asked = dataclasses.replace(question, prompt=question.opened.engine.render(turns))
                for chunk in self._generate(asked, question.options, stop):
                    yield dataclasses.replace(chunk, usage=spent + chunk.usage)

        def finish(seen: list[Chunk]) -> Answer:
            reasoning, text = ("".join(c.text for c in seen if c.part == part) for part in ("reasoning", "answer"))
            return self._answer(question, seen, text, reasoning=reasoning.strip())

        return self._stream(question, chunks, finish)

    def majority(self, question: Question, count: int) -> AnswerStream:
        """Several chains one after the other, and the final answer that most of them give."""
        chains: list[tuple[str, bool]] = []  # the text, and whether it came to its own end

        def chunks(stop: threading.Event) -> Iterator[Chunk]:
            spent = Usage()
            for number in range(count):
                options = dataclasses.replace(question.options, seed=(question.options.seed or 0) + number)
                status = f"chain {number + 1} of {count}"
                before = f"\n\n#### Chain {number + 1}\n\n"
                text = ""
                for chunk in self._generate(question, options, stop):
                    text += chunk.text
                    usage = spent + chunk.usage
                    last = chunk.stop_reason if chunk.stop_reason == "stopped" or number == count - 1 else None
                    yield Chunk(before + chunk.text, usage, last, "reasoning", status)
                    before = ""
                if chunk.stop_reason == "stopped":  # half a chain has no vote
                    return
                chains.append((text, chunk.stop_reason in ("end", "stop")))
                spent = usage
                if stop.is_set():
                    return

        def finish(seen: list[Chunk]) -> Answer:
            votes = answers.tally([answers.final_answer(text, whole=whole) for text, whole in chains])
            reasoning = "".join(chunk.text for chunk in seen).strip()
            best = votes[0].answer if votes else ""
            details = {"reasoning": reasoning, "parsed": bool(votes), "votes": votes, "chains": len(chains)}
            return self._answer(question, seen, best, **details)

        return self._stream(question, chunks, finish)

    def one_choice(
        self,
        question: Question,
        choices: Sequence[str],
        *,
        leaning: Prompt | None = None,
        nearness: Mapping[str, float] | None = None,
    ) -> AnswerStream:
        """The most probable of the choices, by the model's own probabilities and what is joined with them.

        Args:
            question: what is asked.
            choices: the only possible answers.
            leaning: the same prompt with a question that says nothing, which shows what the model leans to; None
                leaves its probabilities as they are.
            nearness: probability of each choice by the examples alone, where it has any; None leaves them out.
        """
        if not isinstance(question.opened.engine, Scorer):
            raise InputError(f"{question.model} cannot give probabilities", "Leave --choices out")
        if len(set(choices)) < 2:
            raise InputError("--choices needs two different answers at least", "Type --choices positive,negative")
        prompts = (question.prompt,) if leaning is None else (question.prompt, leaning)
        details: dict[str, dict[str, Any]] = {"probabilities": {}, "evidence": {}}

        def weighed(scores: Sequence[Sequence[float]], seconds: float) -> Chunk:
            usage = Usage(sum(prompt.token_count for prompt in prompts), 0, 0.0, seconds)
            if not all(scores):
                return Chunk("", usage, "stopped")
            shares, evidence = deciding.weigh(choices, *scores, nearness=nearness)
            details.update(probabilities=shares, evidence=evidence)
            return Chunk(max(shares, key=shares.__getitem__), usage, "end")

        def chunks(stop: threading.Event) -> Iterator[Chunk]:
            begin = time.perf_counter()
            with self._answering(question) as engine:
                assert isinstance(engine, Scorer), "an adapter changes none of this"
                scores = [engine.score(prompt, choices, stop) for prompt in prompts]
            yield weighed(scores, time.perf_counter() - begin)

        def finish(seen: list[Chunk]) -> Answer:
            return self._answer(question, seen, seen[-1].text, **details)

        how: dict[str, Any] = {"choices": choices, "prompts": prompts, "nearness": nearness}
        return self._stream(question, chunks, finish, weighed=weighed, **how)

    def at_once(
        self, streams: Sequence[AnswerStream], stop: threading.Event
    ) -> Iterator[tuple[int, Answer | LLMMagicsError]]:
        """Answers to questions that are asked alike, together where the engine can.

        Args:
            streams: not begun; those of one model with the same options.
            stop: when set, what is not complete is given up.

        Yields:
            In the order in which they are complete: which one, and its answer, or why it has none.
        """
        together = [(n, s) for n, s in enumerate(streams) if isinstance(s, QuestionStream)]
        engine = together[0][1].question.opened.engine if together else None
        if isinstance(engine, BatchEngine) and all(stream.single for _, stream in together):
            yield from self._written_at_once(together, stop)
        elif isinstance(engine, BatchScorer) and all(stream.weighed for _, stream in together):
            yield from self._weighed_at_once(together, stop)
        else:
            together = []
        alone = set(range(len(streams))) - {number for number, _ in together}
        for number in sorted(alone):
            if stop.is_set():
                return
            found = _or_error(functools.partial(streams[number].run, stop))
            if isinstance(found, LLMMagicsError) or found.stop_reason != "stopped":
                yield number, found

    def _written_at_once(
        self, streams: Sequence[tuple[int, QuestionStream]], stop: threading.Event
    ) -> Iterator[tuple[int, Answer | LLMMagicsError]]:
        question = streams[0][1].question
        options = _with_stops(question, question.options)
        with self._answering(question) as engine:
            assert isinstance(engine, BatchEngine), "see at_once"
            for place, chunk in engine.stream_batch([stream.prompt for _, stream in streams], options, stop):
                number, stream = streams[place]
                if isinstance(chunk, LLMMagicsError):
                    yield number, chunk
                else:
                    yield number, _or_error(functools.partial(stream.complete, [chunk]))

    def _weighed_at_once(
        self, streams: Sequence[tuple[int, QuestionStream]], stop: threading.Event
    ) -> Iterator[tuple[int, Answer | LLMMagicsError]]:
        # By their texts: what several rows ask alike, such as a question that says nothing, is weighed once.
        prompts = {prompt.text: prompt for _, stream in streams for prompt in stream.prompts}
        texts, scores, waiting = list(prompts), dict[str, Any](), list(streams)
        first = streams[0][1]
        begin = time.perf_counter()
        with self._answering(first.question) as engine:
            assert isinstance(engine, BatchScorer), "see at_once"
            for place, found in engine.score_batch(list(prompts.values()), first.choices, stop):
                scores[texts[place]] = found
                complete = [pair for pair in waiting if all(prompt.text in scores for prompt in pair[1].prompts)]
                waiting = [pair for pair in waiting if pair not in complete]
                seconds = (time.perf_counter() - begin) / max(1, len(complete))
                begin = time.perf_counter() if complete else begin
                for number, stream in complete:
                    yield number, _decided(stream, [scores[prompt.text] for prompt in stream.prompts], seconds)

    def _generate(self, question: Question, options: GenerationOptions, stop: threading.Event) -> Iterator[Chunk]:
        free = not question.options.schema and self._format(question.request) in ("markdown", "text")
        with self._answering(question) as engine:
            chunks = engine.stream(question.prompt, _with_stops(question, options), stop)
            try:
                yield from _until_loop(chunks, question.text) if free else chunks
            finally:
                if isinstance(chunks, Generator):  # the engine is at work until then, and may not be asked again
                    chunks.close()

    @contextlib.contextmanager
    def _answering(self, question: Question) -> Iterator[Engine]:
        """The engine, for one answer at a time.

        Raises:
            BusyError: it is answering another cell.
            ModelNotFoundError: it was closed, or replaced, after the prompt was made for it.
        """
        opened = question.opened
        if not opened.busy.acquire(blocking=False):
            raise BusyError(f"{question.model} is answering another cell", "Run this one again when that has ended")
        try:
            if self._models.get(question.model) is not opened:
                raise ModelNotFoundError(f"{question.model} was closed meanwhile", "Run the cell again")
            yield opened.engine
        finally:
            opened.busy.release()

    @staticmethod
    def _check(question: Question) -> None:
        """What would fail at once fails before a card is shown.

        Raises:
            BusyError: the model is answering another cell.
            ContextLengthError: the prompt is longer than the model reads.
        """
        if question.opened.busy.locked():
            raise BusyError(f"{question.model} is answering another cell", "Run this one again when that has ended")
        prompt = question.prompt
        room_for_answer(prompt.token_count, question.opened.info, turns=len(prompt.messages))

    def _stream(
        self,
        question: Question,
        chunks: Callable[[threading.Event], Iterator[Chunk]],
        finish: Callable[[list[Chunk]], Answer],
        **kind: Any,
    ) -> AnswerStream:
        self._check(question)
        return QuestionStream(
            question,
            method=question.method,
            model=question.model,
            format=self._format(question.request),
            prompt=question.prompt,
            options=question.options,
            sources=question.sources,
            chunks=chunks,
            finish=finish,
            **kind,
        )

    def _answer(self, question: Question, seen: list[Chunk], text: str, **details: Any) -> Answer:
        """The answer in the wanted format, written into the history.

        Raises:
            AnswerFormatError: it is not JSON; the error holds the answer, and the history keeps it.
        """
        form = self._format(question.request)
        details |= {
            "method": question.method,
            "model": question.model,
            "prompt": question.prompt,
            "options": question.options,
            "usage": seen[-1].usage,
            "stop_reason": seen[-1].stop_reason or "stopped",
            "sources": question.sources,
            "quoted": rag.quoted(text, question.sources),
        }
        wrong: AnswerFormatError | None = None
        data: object = answers.first_code_block(text) if form == "code" else None
        if form == "json" and details["stop_reason"] != "stopped":
            try:
                data = self._parsed(question, text, cut=details["stop_reason"] == "length")
            except AnswerFormatError as error:
                wrong, form = error, "text"
        answer = Answer(text, data=data, output_format=form, **details)
        # An empty turn would teach the model to say nothing.
        self._record(question.text, answer, question.request, chat=question.method == "llm" and bool(answer.strip()))
        if wrong is not None:
            wrong.answer = answer
            raise wrong
        return answer

    def _format(self, request: AskRequest) -> str:
        return "json" if request.schema else request.format or self.settings.format

    @staticmethod
    def _parsed(question: Question, text: str, *, cut: bool) -> object:
        schema = question.request.schema
        return answers.parse_json(text) if schema is None else schemas.parse(text, schema, cut=cut)

    def _record(self, text: str, answer: Answer, request: AskRequest, *, chat: bool) -> None:
        if request.history:
            self.history.record(Exchange(plain.trim(text), answer, request.cell, request.run, chat))


def _until_loop(chunks: Iterator[Chunk], asked: str) -> Iterator[Chunk]:
    """Chunks up to where a model begins to say the same over and over, to the end of its tokens."""
    text = ""
    for chunk in chunks:
        text += chunk.text
        if chunk.stop_reason is None and chunk.text and answers.loops(text, asked):
            yield dataclasses.replace(chunk, stop_reason="loop")
            return
        yield chunk


def _with_stops(question: Question, options: GenerationOptions) -> GenerationOptions:
    """The options with the texts at which the model's own chat template ends an answer."""
    return dataclasses.replace(options, stop=(*options.stop, *question.opened.stops))


def _decided(
    stream: QuestionStream, scores: Sequence[tuple[float, ...] | LLMMagicsError], seconds: float
) -> Answer | LLMMagicsError:
    """The answer by the probabilities after each of its prompts, or why there is none."""
    known = [found for found in scores if not isinstance(found, LLMMagicsError)]
    if len(known) < len(scores) or stream.weighed is None:
        return next(found for found in scores if isinstance(found, LLMMagicsError))
    return _or_error(functools.partial(stream.complete, [stream.weighed(known, seconds)]))


def _or_error(answer: Callable[[], Answer]) -> Answer | LLMMagicsError:
    """An answer, or why there is none."""
    try:
        return answer()
    except LLMMagicsError as error:
        return error
