"""From a question that is decided in every part to a running answer.

An ``Asker`` holds what is common to all methods: the options in force, one answer at a time for each
model, the answer's form, and its entry in the history. What is asked is decided in ``session``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .engines.base import Engine, Scorer
from .errors import AnswerFormatError, BusyError, ContextLengthError, InputError, ModelNotFoundError
from .history import Exchange, History
from .messages import AskRequest, GenerationOptions, Passage, Prompt
from .prompts import answers, plain, rag
from .results import Answer, AnswerStream, Chunk, ModelInfo, Usage
from .settings import LLMMagics


@dataclasses.dataclass
class OpenModel:
    """A loaded model, where it came from and how it was asked for, and the lock of the cell it is answering."""

    engine: Engine
    info: ModelInfo
    origin: object
    stops: tuple[str, ...] = ()
    busy: threading.Lock = dataclasses.field(default_factory=threading.Lock)


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
        )
        if options.seed is None and not options.greedy:
            options = dataclasses.replace(options, seed=random.SystemRandom().randrange(10**6))
        return options

    def system(self, request: AskRequest) -> str:
        """The system text in force."""
        return self.settings.system if request.system is None else request.system

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

    def one_choice(self, question: Question, choices: Sequence[str]) -> AnswerStream:
        """The most probable of the choices, by the model's own probabilities."""
        engine = question.opened.engine
        if not isinstance(engine, Scorer):
            raise InputError(f"{question.model} cannot give probabilities", "Leave --choices out")
        if len(set(choices)) < 2:
            raise InputError("--choices needs two different answers at least", "Type --choices positive,negative")
        probabilities: dict[str, float] = {}

        def chunks(stop: threading.Event) -> Iterator[Chunk]:
            begin = time.perf_counter()
            with self._answering(question):
                scores = engine.score(question.prompt, choices, stop)
            seconds = time.perf_counter() - begin
            usage = Usage(question.prompt.token_count, 0, 0.0, seconds)
            if not scores:
                yield Chunk("", usage, "stopped")
                return
            probabilities.update(zip(choices, scores, strict=True))
            best = max(probabilities, key=probabilities.__getitem__)
            yield Chunk(best, usage, "end")

        def finish(seen: list[Chunk]) -> Answer:
            return self._answer(question, seen, seen[-1].text, probabilities=probabilities)

        return self._stream(question, chunks, finish)

    def _generate(self, question: Question, options: GenerationOptions, stop: threading.Event) -> Iterator[Chunk]:
        options = dataclasses.replace(options, stop=(*options.stop, *question.opened.stops))
        with self._answering(question) as engine:
            yield from engine.stream(question.prompt, options, stop)

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
        tokens, context = question.prompt.token_count, question.opened.info.context
        if tokens >= context:
            raise ContextLengthError(
                f"the prompt is {tokens} tokens, {tokens - context + 1} too many",
                f"{question.model} reads {context} with its answer: shorten it"
                + (", or ask with --no-history" if len(question.prompt.messages) > 2 else ""),
            )

    def _stream(
        self,
        question: Question,
        chunks: Callable[[threading.Event], Iterator[Chunk]],
        finish: Callable[[list[Chunk]], Answer],
    ) -> AnswerStream:
        self._check(question)
        return AnswerStream(
            method=question.method,
            model=question.model,
            format=question.request.format or self.settings.format,
            prompt=question.prompt,
            options=question.options,
            sources=question.sources,
            chunks=chunks,
            finish=finish,
        )

    def _answer(self, question: Question, seen: list[Chunk], text: str, **details: Any) -> Answer:
        """The answer in the wanted format, written into the history.

        Raises:
            AnswerFormatError: it is not JSON; the error holds the answer, and the history keeps it.
        """
        form = question.request.format or self.settings.format
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
                data = answers.parse_json(text)
            except AnswerFormatError as error:
                wrong, form = error, "text"
        answer = Answer(text, data=data, output_format=form, **details)
        # An empty turn would teach the model to say nothing.
        self._record(question.text, answer, question.request, chat=question.method == "llm" and bool(answer.strip()))
        if wrong is not None:
            wrong.answer = answer
            raise wrong
        return answer

    def _record(self, text: str, answer: Answer, request: AskRequest, *, chat: bool) -> None:
        if request.history:
            self.history.record(Exchange(plain.trim(text), answer, request.cell, request.run, chat))
