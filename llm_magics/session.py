"""One session: open models, the conversation, and the ways to ask. Knows nothing of IPython.

    from llm_magics import Session
    session = Session()
    session.load(ModelRequest("smollm2"))
    stream = session.llm("What is a llama?")
    for chunk in stream:
        print(chunk.text, end="")
    stream.answer.usage

Each asking method returns an ``AnswerStream`` at once: its ``prompt`` is ready to be looked at,
and nothing is generated before it is iterated.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .engines.base import Engine, Scorer
from .errors import (
    AnswerFormatError,
    BusyError,
    ContextLengthError,
    InputError,
    Interrupted,
    ModelNotFoundError,
    did_you_mean,
)
from .history import Exchange, History
from .messages import AskRequest, Example, GenerationOptions, Message, ModelRequest, Prompt
from .prompts import answers, cot, examples, fewshot, plain, templates
from .results import Answer, AnswerStream, Chunk, MemoryFreed, ModelInfo, Usage
from .settings import LLMMagics, load_settings


@dataclasses.dataclass
class _OpenModel:
    """A loaded model, where it came from and how it was asked for, and the lock of the cell it is answering."""

    engine: Engine
    info: ModelInfo
    origin: object
    stops: tuple[str, ...] = ()
    busy: threading.Lock = dataclasses.field(default_factory=threading.Lock)


@dataclasses.dataclass(frozen=True)
class _Question:
    """Everything that was decided before the model is called."""

    method: str
    text: str
    model: str
    opened: _OpenModel
    prompt: Prompt
    options: GenerationOptions
    request: AskRequest


class Session:
    """Open models, the conversation so far, and the ways to ask.

    Args:
        settings: from ``load_settings()`` unless given.
        say: told in one line what takes long or was decided; ``print`` unless given.

    Attributes:
        settings: the settings in force.
        history: everything that was asked and answered.
    """

    def __init__(self, settings: LLMMagics | None = None, *, say: Callable[[str], None] = print) -> None:
        self.settings = settings or load_settings()
        self.history = History()
        self._say = say
        self._models: dict[str, _OpenModel] = {}
        self._lock = threading.RLock()  # held while models are opened and closed, never while one answers
        self._embedder: tuple[str, Callable[[Sequence[str], str], Sequence[float]]] | None = None

    # Models

    @property
    def models(self) -> tuple[ModelInfo, ...]:
        """The open models; the last one answers where no name is given."""
        return tuple(opened.info for opened in self._models.values())

    def load(self, request: ModelRequest, *, name: str = "") -> ModelInfo:
        """Open a model. One of the same name is closed first, so that two are never in memory.

        The same request for a name that is open already changes nothing, and takes 0 seconds, unless
        the files have changed since.

        Args:
            request: what to open, and how.
            name: what to call it; the alias, or the last part of the id, unless given.

        Raises:
            ModelError: one of its kinds. The old model stays open where the new one is not found,
                damaged in its headers, or too large.
            Interrupted: the person stopped it.
        """
        from .engines import opening, resolve

        stops = templates.STOPS.get(request.chat_template, ())
        if request.chat_template:
            request = dataclasses.replace(request, chat_template=templates.chat_template(request.chat_template))
        with self._lock:
            source = resolve.resolve(request.model, revision=request.revision, known=self._models)
            source = dataclasses.replace(source, name=name or source.name)
            opened = self._models.get(source.name)
            if opened is not None and opened.origin == (source, request):
                self._models[source.name] = self._models.pop(source.name)  # the last one answers
                return dataclasses.replace(opened.info, seconds=0.0)
            try:
                memory = opened.info.memory if opened else 0
                open_engine = opening.prepare(source, request, coming_back=memory, say=self._say)
                if opened is not None:
                    self.unload(source.name)
                engine = open_engine()
            except KeyboardInterrupt:
                raise Interrupted(f"stopped while opening {source.name}; it is not open") from None
            return self._keep(source.name, engine, (source, request), stops)

    def add(self, name: str, engine: Engine) -> ModelInfo:
        """Make an engine of one's own a loaded model; one of that name is closed first.

        Args:
            name: what to call it.
            engine: any object with the methods of ``Engine``, such as a ``ScriptedEngine``.
        """
        with self._lock:
            if name in self._models:
                self.unload(name)
            return self._keep(name, engine, None)

    def _keep(self, name: str, engine: Engine, origin: object, stops: tuple[str, ...] = ()) -> ModelInfo:
        info = dataclasses.replace(engine.info(), name=name)
        self._models[name] = _OpenModel(engine, info, origin, stops)
        return info

    def unload(self, name: str = "") -> MemoryFreed:
        """Close a model and measure the memory that comes back.

        Args:
            name: the model; the one loaded last unless given.

        Raises:
            ModelNotFoundError: no such model is loaded.
            BusyError: it is answering a cell.
        """
        if name and name not in self._models:
            hint = did_you_mean(name, self._models) or "%llm_load alone shows what is open"
            raise ModelNotFoundError(f"no model {name} is open", hint)
        with self._lock:
            name, opened = self._find(name)
            if not opened.busy.acquire(blocking=False):
                raise BusyError(f"{name} is answering another cell", "Stop that cell first")
            return self._close(name, opened)

    def _close(self, name: str, opened: _OpenModel) -> MemoryFreed:
        from .engines import memory

        memory.give_back()
        before = memory.used_bytes(opened.info.device)
        del self._models[name]
        opened.engine.close()
        memory.give_back()
        place = "GPU" if opened.info.device.startswith("cuda") else "RAM"
        return MemoryFreed(name, place, before, memory.used_bytes(opened.info.device))

    def login(self) -> None:
        """Log in to the Hugging Face Hub, by its own dialogue; the token is stored by it and not seen here."""
        from .engines.hub import login

        login()

    def close(self) -> None:
        """Close every model that is not answering."""
        for info in self.models:
            if not self._models[info.name].busy.locked():
                self.unload(info.name)

    def _find(self, name: str) -> tuple[str, _OpenModel]:
        if not name and not self._models:
            raise ModelNotFoundError("no model is loaded", f"Type %llm_load {self.settings.default_model}")
        name = name or next(reversed(self._models))
        if name not in self._models:
            hint = did_you_mean(name, self._models) or f"Type %llm_load {name}"
            loaded = f"; loaded: {', '.join(self._models)}" if self._models else ""
            raise ModelNotFoundError(f"no model {name} is loaded{loaded}", hint)
        return name, self._models[name]

    def _model(self, name: str) -> tuple[str, _OpenModel]:
        """The model that answers; the default one is opened where none is loaded."""
        with self._lock:
            if not self._models and name in ("", self.settings.default_model):
                info = self.load(ModelRequest(self.settings.default_model))
                self._say(f"Opened {info.name} (no model was loaded; %llm_load opens others)")
            return self._find(name)

    # Asking

    def llm(self, text: str, request: AskRequest | None = None) -> AnswerStream:
        """Ask, with this session's conversation so far.

        Args:
            text: the question.
            request: how to ask.

        Raises:
            InputError: the text is empty or an option is out of range.
            ModelError: no such model, or the prompt is too long for it.
        """
        request = request or AskRequest()
        if not text.strip():
            raise InputError("the prompt is empty", "Type it below the %%llm line, or after %llm")
        name, opened = self._model(request.model)
        options = self._options(request)
        system = self._system(request)
        turns = self._conversation(request)
        while True:
            prompt = opened.engine.render(plain.build(text, system=system, conversation=turns))
            if not turns or prompt.token_count + min(options.max_new_tokens, opened.info.context // 4) <= (
                opened.info.context
            ):
                break
            turns = turns[2:]
        left_out = (len(self._conversation(request)) - len(turns)) // 2
        if left_out:
            what = "1 earlier exchange" if left_out == 1 else f"{left_out} earlier exchanges"
            self._say(f"{what} left out: {name} reads {opened.info.context} tokens")
        return self._one_answer(_Question("llm", text, name, opened, prompt, options, request))

    def fewshot(
        self,
        text: str,
        request: AskRequest | None = None,
        *,
        given: Sequence[Example] = (),
        k: int | None = None,
        select: str = "all",
        choices: Sequence[str] = (),
    ) -> AnswerStream:
        """Ask with worked examples. Greedy and without a repetition penalty unless asked for.

        Args:
            text: the cell: instruction, examples, question (see ``prompts.fewshot``).
            request: how to ask.
            given: examples from elsewhere; those in the cell come after them.
            k: how many examples to use; all unless given.
            select: ``all``, ``first``, ``balanced`` or ``similar`` (nearest by sentence embedding).
            choices: the only possible answers; each gets its probability.

        Raises:
            InputError: the cell cannot be read, or there are no examples.
            ModelError: as ``llm``.
        """
        request = request or AskRequest()
        cell = fewshot.parse_cell(text)
        pool = (*given, *cell.examples)
        if not pool:
            raise InputError(
                "there are no examples", "Type lines such as: I loved it => Positive, or name them with -e"
            )
        if choices:
            _refuse_sampling(request)
        similarity = self._similarities if select == "similar" else None
        chosen = examples.choose(pool, k=k, select=select, question=cell.question, similarity=similarity)
        name, opened = self._model(request.model)
        options = self._options(request, temperature=0.0, repetition_penalty=1.0)
        cell = dataclasses.replace(cell, examples=chosen)
        prompt = opened.engine.render(fewshot.build(cell, system=self._system(request)))
        question = _Question("fewshot", text, name, opened, prompt, options, request)
        return self._one_choice(question, choices) if choices else self._one_answer(question)

    def cot(
        self,
        text: str,
        request: AskRequest | None = None,
        *,
        strategy: str = "steps",
        votes: int = 1,
        given: Sequence[Example] = (),
    ) -> AnswerStream:
        """Ask for the reasoning and, apart from it, the final answer. Without a repetition penalty unless
        asked for: it punishes the very numbers that the reasoning needs.

        Args:
            text: the question.
            request: how to ask.
            strategy: ``steps``, ``plan`` or ``zero-shot`` (see ``prompts.cot``).
            votes: how many chains are sampled; the most frequent final answer is taken
                (self-consistency, Wang et al. 2022, arXiv:2203.11171). Above 1 the temperature is
                0.7 unless given, and each chain has the next seed.
            given: worked examples.

        Raises:
            InputError: no question, an unknown strategy, or votes below 1.
            ModelError: as ``llm``.
        """
        request = request or AskRequest()
        if votes < 1:
            raise InputError(f"--votes is {votes}", "It takes a whole number from 1, such as 5")
        messages = cot.build(text, strategy=strategy, examples=given, system=self._system(request))
        name, opened = self._model(request.model)
        options = self._options(request, repetition_penalty=1.0, **({"temperature": 0.7} if votes > 1 else {}))
        if votes > 1 and options.greedy:
            raise InputError("--votes with --temperature 0 gives the same chain each time", "Leave one of them out")
        prompt = opened.engine.render(messages)
        question = _Question("cot", text, name, opened, prompt, options, request)
        return self._majority(question, votes) if votes > 1 else self._one_answer(question)

    @staticmethod
    def examples(source: object, name: str) -> tuple[Example, ...]:
        """Worked examples from a value or a file.

        Args:
            source: pairs, a dict, dicts, a DataFrame with two columns, or the ``Path`` of a CSV or
                JSON Lines file.
            name: what the person calls it, for the error.

        Raises:
            InputError: it holds no examples.
        """
        return examples.read_file(source) if isinstance(source, Path) else examples.from_value(source, name)

    # How a request becomes options, and a prompt a stream

    def _options(self, request: AskRequest, **method: float) -> GenerationOptions:
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

    def _system(self, request: AskRequest) -> str:
        return self.settings.system if request.system is None else request.system

    def _conversation(self, request: AskRequest) -> tuple[Message, ...]:
        if not request.history:
            return ()
        return self.history.conversation(request.cell, request.run, self.settings.history_turns)

    def _similarities(self, texts: Sequence[str], question: str) -> Sequence[float]:
        from .knowledge.embeddings import Embedder

        if self._embedder is None or self._embedder[0] != self.settings.embedding:
            self._embedder = self.settings.embedding, Embedder(self.settings.embedding).similarities
        return self._embedder[1](texts, question)

    def _one_answer(self, question: _Question) -> AnswerStream:
        """One generation, parted into reasoning and answer."""
        reasons = question.method == "cot"

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

    def _majority(self, question: _Question, count: int) -> AnswerStream:
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

    def _one_choice(self, question: _Question, choices: Sequence[str]) -> AnswerStream:
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

    def _generate(self, question: _Question, options: GenerationOptions, stop: threading.Event) -> Iterator[Chunk]:
        options = dataclasses.replace(options, stop=(*options.stop, *question.opened.stops))
        with self._answering(question) as engine:
            yield from engine.stream(question.prompt, options, stop)

    @contextlib.contextmanager
    def _answering(self, question: _Question) -> Iterator[Engine]:
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
    def _check(question: _Question) -> None:
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
        question: _Question,
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
            chunks=chunks,
            finish=finish,
        )

    def _answer(self, question: _Question, seen: list[Chunk], text: str, **details: Any) -> Answer:
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
        }
        wrong: AnswerFormatError | None = None
        data: object = answers.first_code_block(text) if form == "code" else None
        if form == "json" and details["stop_reason"] != "stopped":
            try:
                data = answers.parse_json(text)
            except AnswerFormatError as error:
                wrong, form = error, "text"
        answer = Answer(text, data=data, output_format=form, **details)
        request = question.request
        if request.history:
            # An empty turn would teach the model to say nothing.
            chat = question.method == "llm" and bool(answer.strip())
            self.history.record(Exchange(plain.trim(question.text), answer, request.cell, request.run, chat))
        if wrong is not None:
            wrong.answer = answer
            raise wrong
        return answer


def _refuse_sampling(request: AskRequest) -> None:
    """``--choices`` weighs the given answers; nothing is generated that these options could change."""
    names = ("temperature", "top_p", "max_new_tokens", "repetition_penalty", "seed")
    given = [name for name in names if getattr(request, name) is not None] + (["stop"] if request.stop else [])
    given += ["format"] if request.format in ("json", "code") else []
    if given:
        flag = f"--{given[0].replace('_', '-')}"
        raise InputError(f"{flag} changes nothing with --choices: the most probable one is taken", f"Leave {flag} out")
