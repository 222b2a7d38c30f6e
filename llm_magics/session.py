"""One session: open models, the conversation, and the ways to ask. Knows nothing of IPython.

    from llm_magics import Session
    session = Session()
    session.load(ModelRequest("smollm2"))
    stream = session.ask("What is a llama?")
    for chunk in stream:
        print(chunk.text, end="")
    stream.answer.usage

Each asking method returns an ``AnswerStream`` at once: its ``prompt`` is ready to be looked at,
and nothing is generated before it is iterated.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import BusyError, InputError, Interrupted, LLMMagicsError, ModelNotFoundError, TrainingError, did_you_mean
from .history import History
from .settings import LLMMagics, load_settings
from .values.asking import AskRequest
from .values.models import MemoryFreed, ModelInfo, ModelRequest

if TYPE_CHECKING:
    from langchain_core.vectorstores import VectorStore

    from .asking import Asker
    from .engines.base import Engine
    from .engines.resolve import Source
    from .finetuning.jobs import Job, Jobs
    from .finetuning.spec import Decided
    from .integrations.chat_model import ChatLLMMagics
    from .integrations.embeddings import SentenceEmbeddings
    from .integrations.rag_chain import RagChain
    from .knowledge.bases import KnowledgeBases
    from .knowledge.nearest import Nearness
    from .methods import Methods
    from .open_model import OpenModel
    from .over import Tables
    from .prompts import fewshot
    from .values.answers import Answer, AnswerStream
    from .values.asking import AnswerSchema
    from .values.comparison import Comparing, ComparisonRequest
    from .values.evaluation import Evaluating, EvaluationRequest
    from .values.knowledge import Passages, RetrievalRequest
    from .values.messages import Example, Message
    from .values.tables import AnswerTable
    from .values.training import RowSource, TrainingRequest, TrainingRun, TriedOut


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
        self._told = say
        self._hushed: Counter[int] = Counter()  # of each thread: how many ``quiet`` it is in
        self._models: dict[str, OpenModel] = {}
        self._lock = threading.RLock()  # held while models are opened and closed, never while one answers
        self._bases: KnowledgeBases | None = None
        self.settings.observe(self._limit_caches, "prefix_cache_bytes")

    # What a theme needs is made, and its module imported, when the first cell asks for it.

    @functools.cached_property
    def _asker(self) -> Asker:
        from .asking import Asker

        return Asker(self.settings, self.history, self._models)

    @functools.cached_property
    def _methods(self) -> Methods:
        from .methods import Methods

        return Methods(
            self._asker,
            model=self._model,
            knowledge=lambda: self.knowledge,
            nearness=self._nearness,
            say=self._say,
        )

    @functools.cached_property
    def _nearness(self) -> Nearness:
        from .knowledge.nearest import Nearness

        return Nearness(lambda: self.knowledge.embedder())

    @functools.cached_property
    def _tables(self) -> Tables:
        from .over import Tables

        return Tables(model=self.model_name, at_once=self._asker.at_once, quiet=self.quiet, history=self.history)

    # Models

    @property
    def models(self) -> tuple[ModelInfo, ...]:
        """The open models; the last one answers where no name is given."""
        return tuple(opened.figures for opened in self._models.values())

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
        from . import tuning
        from .engines import opening, resolve
        from .prompts import templates

        run = None if request.adapter else tuning.tuned(request.model)
        if run is not None or request.adapter:
            request = request if run is None else dataclasses.replace(request, model=run.base, adapter=run.adapter)
            return self._put_on(request, name or (run.name if run else ""))
        opening.check_address(request)
        typed, stops = request, templates.STOPS.get(request.chat_template, ())
        if request.chat_template:
            request = dataclasses.replace(request, chat_template=templates.chat_template(request.chat_template))
        with self._lock:
            source = resolve.resolve(request.model, revision=request.revision, known=self._models)
            source = dataclasses.replace(source, name=name or source.name)
            opened = self._models.get(source.name)
            if opened is not None and opened.origin == (source, typed):
                self._models[source.name] = self._models.pop(source.name)  # the last one answers
                return dataclasses.replace(opened.info, seconds=0.0)
            try:
                memory = opened.info.memory if opened else 0
                open_engine = opening.prepare(
                    source, request, coming_back=memory, settings=self.settings, say=self._say
                )
                if opened is not None:
                    self.unload(source.name)
                engine = open_engine()
            except KeyboardInterrupt:
                raise Interrupted(f"stopped while opening {source.name}; it is not open") from None
            return self._keep(source.name, engine, (source, typed), stops)

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

    def _keep(
        self, name: str, engine: Engine, origin: tuple[Source, ModelRequest] | None, stops: tuple[str, ...] = ()
    ) -> ModelInfo:
        from .open_model import OpenModel

        info = dataclasses.replace(engine.info(), name=name)
        self._models[name] = OpenModel(engine, info, origin, stops)
        self._limit_caches()
        return info

    def _limit_caches(self, change: object = None) -> None:
        for opened in self._models.values():
            opened.limit_cache(self.settings.prefix_cache_bytes)

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
            del self._models[name]
            sharing = self._sharing(opened)
            return dataclasses.replace(opened.close(), sharing=sharing)

    def _sharing(self, closing: OpenModel) -> tuple[str, ...]:
        """The open models that hold the weights of one that is closed; the last counts them as its own from now on."""
        from . import tuning

        names = tuple(name for name, opened in self._models.items() if tuning.share(opened.engine, closing.engine))
        if names:
            heir = self._models[names[-1]]
            memory = heir.info.memory + closing.info.memory - tuning.own_bytes(closing.engine)
            heir.info = dataclasses.replace(heir.info, memory=memory)
        return names

    def login(self) -> None:
        """Log in to the Hugging Face Hub, by its own dialogue; the token is stored by it and not seen here."""
        from .engines.hub import login

        login()

    def close(self) -> None:
        """Close every model that is not answering."""
        for info in self.models:
            if not self._models[info.name].busy.locked():
                self.unload(info.name)

    def _find(self, name: str) -> tuple[str, OpenModel]:
        if not name and not self._models:
            raise ModelNotFoundError("no model is loaded", f"Type %llm_load {self.settings.default_model}")
        name = name or next(reversed(self._models))
        if name not in self._models:
            hint = did_you_mean(name, self._models) or f"Type %llm_load {name}"
            loaded = f"; loaded: {', '.join(self._models)}" if self._models else ""
            raise ModelNotFoundError(f"no model {name} is loaded{loaded}", hint)
        return name, self._models[name]

    def _model(self, name: str) -> tuple[str, OpenModel]:
        """The model that answers; the default one is opened where none is loaded."""
        with self._lock:
            if not self._models and name in ("", self.settings.default_model):
                info = self.load(ModelRequest(self.settings.default_model))
                self._say(f"Opened {info.name} (no model was loaded; %llm_load opens others)")
            return self._find(name)

    # Fine-tuning

    def plan_finetuning(self, request: TrainingRequest, rows: RowSource, *, adapt: bool = False) -> Decided:
        """Read the rows and decide everything that a fine-tuning job needs; starts nothing.

        Args:
            request: what to train and how. Its base is a loaded model's name, which brings its revision and its chat
                template along, or what ``load`` takes; empty for the model that answers.
            rows: on what.
            adapt: leave out quantization that this machine cannot do, and say so.

        Returns:
            The job to be, for ``jobs.start``; its ``report`` says what was understood.

        Raises:
            InputError: rows or options that cannot be used.
            ModelError: no such base, or one that cannot be trained on.
            MissingPackageError: what is needed is not installed.
        """
        from . import tuning
        from .aliases import MODELS
        from .engines import resolve

        request = self._on_base(request)
        source = resolve.resolve(request.base, revision=request.revision, known=self._models)
        if request.name in {*MODELS, request.base, source.name, *self._open_as(source)}:
            raise InputError(f"--name {request.name} is the base's own name", f"Type --name {request.name}-tuned")
        held = [opened.info for opened in self._models.values() if opened.origin]
        return tuning.plan(request, rows, adapt=adapt, held=held, say=self._say)

    @property
    def jobs(self) -> Jobs:
        """The fine-tuning jobs of the working folder."""
        from . import tuning

        return tuning.jobs()

    def in_the_way(self, job: Job) -> list[str]:
        """The open models, by their names, that leave a job no room in memory.

        Args:
            job: the job.
        """
        from . import tuning

        marks = (event.kind for event in reversed(job.run().events) if event.kind in ("start", "begin"))
        if next(marks, "") == "begin":
            return []  # it has its memory already, and what is free is free beside it
        return tuning.in_the_way(job, [opened.info for opened in self._models.values() if opened.origin])

    @contextlib.contextmanager
    def room_for(self, job: Job) -> Iterator[None]:
        """Put away the open models where a job does not fit beside them; they come back when it has ended.

        Args:
            job: one that has just been started, or one that runs.

        Raises:
            BusyError: one of them is answering; then none is put away.
        """
        order, away, name = list(self._models), self.in_the_way(job), job.folder.name
        origins = {one: self._models[one].origin for one in away}
        requests = {one: origin[1] for one, origin in origins.items() if origin}
        for busy in away:
            if self._models[busy].busy.locked():
                message = f"{busy} is answering another cell, and leaves {name} no room in memory"
                raise BusyError(message, f"Type %llm_finetune {name} --resume when that has ended")
        if away:
            self._say(f"{' and '.join(away)} put away while {name} is trained: both do not fit in memory")
        try:
            for one in away:
                self.unload(one)
            yield
        finally:  # those that left are opened again, whatever kept others
            self._bring_back(requests, order)

    def _bring_back(self, requests: Mapping[str, ModelRequest], order: Sequence[str]) -> None:
        """Open models again under their names, those that are not, and let the one answer that did before."""
        # A base comes before what shares its weights, which would open it under a name that is not the person's.
        for name, request in sorted(requests.items(), key=lambda item: bool(item[1].adapter)):
            if name in self._models:
                continue
            try:
                self.load(request, name=name)
            except LLMMagicsError as error:  # the others come back, and what the job came to is told
                self._say(f"{name} could not be opened again: {error}")
        if requests:
            for name in [*(n for n in order if n in self._models), *(n for n in self._models if n not in order)]:
                self._models[name] = self._models.pop(name)

    def attach(self, run: TrainingRun) -> ModelInfo:
        """Make what a job came to a model of its own name, which shares the weights of its base.

        Args:
            run: a job with an adapter, done or stopped.

        Raises:
            TrainingError: it failed, or has no adapter.
            ModelError: its base or its adapter cannot be opened.
            BusyError: the base, or an earlier model of that name, is answering.
        """
        from .finetuning.spec import read_spec

        if run.state in ("failed", "killed"):
            again = f"Type %llm_finetune {run.name} --resume"
            hint = again if run.state == "killed" else f"Look at {run.folder}/trainer.log"
            raise TrainingError(f"{run.name}: {run.text}", hint)
        if not run.adapter:
            raise TrainingError(f"{run.name} has no adapter yet", "Type %llm_finetune --status")
        # Python code that comes with the base was let run when the job was typed.
        trusted = read_spec(Path(run.folder)).request.trust_remote_code
        try:
            return self._put_on(ModelRequest(run.base, adapter=run.adapter, trust_remote_code=trusted), run.name)
        except BusyError as error:  # not by running the cell again: it trained
            raise BusyError(error.message, f"Type %llm_load {run.name} when that has ended") from None

    def try_out(self, run: TrainingRun, stop: threading.Event) -> Iterator[TriedOut]:
        """Ask a tuned model and its base the same questions; see ``tuning.try_out``. Where they cannot be asked, a
        line says why: the job is done all the same.

        Args:
            run: a job whose adapter is attached.
            stop: when set, no further question is asked.
        """
        from . import tuning

        try:
            yield from tuning.try_out(self._find(run.name)[1].engine, run, stop)
        except (LLMMagicsError, OSError) as error:
            self._say(f"{run.name} and its base are not asked the same questions: {error}")

    def _on_base(self, request: TrainingRequest) -> TrainingRequest:
        """A request whose base is what ``ModelRequest.model`` takes, with what an open one was opened with."""
        name = request.base or next(reversed(self._models), self.settings.default_model)
        opened = self._models.get(name)
        if opened is None:
            return dataclasses.replace(request, base=name)
        if opened.origin is None:
            raise InputError(f"{name} cannot be trained on: it has no files", "Name a model with --base")
        typed = opened.origin[1]
        if typed.adapter and request.name != name:  # that a job is trained anew is said by its magic
            self._say(f"{name} is a tuned model itself: its base {typed.model} is trained on, without what it learned")
        revision, template = request.revision or typed.revision, request.chat_template or typed.chat_template
        return dataclasses.replace(request, base=typed.model, revision=revision, chat_template=template)

    def _open_as(self, base: Source) -> list[str]:
        """The names under which a base is open, in whatever form. Its tuned models are not it."""
        origins = [(name, opened.origin) for name, opened in self._models.items() if opened.origin]
        return [name for name, (at, typed) in origins if at.location == base.location and not typed.adapter]

    def _put_on(self, request: ModelRequest, name: str) -> ModelInfo:
        """Open an adapter beside its base, which is opened where it is not yet.

        Raises:
            InputError: the name is its base's.
            ModelError: the base or the adapter cannot be opened.
            BusyError: the base, or the model whose place it takes, is answering.
        """
        from . import tuning

        begin = time.perf_counter()
        request = tuning.as_trained(request)
        name = name or Path(request.adapter).expanduser().resolve().name
        with self._lock:
            self._check_place(name, request)
            opened = self._base_for_adapters(dataclasses.replace(request, adapter="", engine="transformers"), name)
            # The layers of the base are others afterwards, and no answer may go through them meanwhile.
            if not opened.busy.acquire(blocking=False):
                message = f"{opened.info.name} is answering another cell, and {name} shares its weights"
                raise BusyError(message, "Run this one again when that has ended")
            try:
                opened.engine, tuned = tuning.attach(opened.engine, name, request.adapter)
            finally:
                opened.busy.release()
            before = self._models.get(name)
            if before is not None and not tuning.share(before.engine, tuned):
                try:
                    self.unload(name)
                except BusyError:  # since it was looked at
                    tuned.close()
                    raise
            self._models.pop(name, None)  # the last one answers
            assert opened.origin is not None, "see _base_for_adapters"
            source, typed = opened.origin
            origin = (source, dataclasses.replace(typed, adapter=request.adapter))
            info = self._keep(name, tuned, origin, opened.stops)
            return dataclasses.replace(info, seconds=time.perf_counter() - begin)

    def _check_place(self, name: str, request: ModelRequest) -> None:
        """Whether a tuned model may take a name, before anything is opened for it."""
        from .engines import resolve

        before = self._models.get(name)
        if before is None:
            return
        if before.busy.locked():
            raise BusyError(f"{name} is answering another cell", "Run this one again when that has ended")
        if name in self._open_as(resolve.resolve(request.model, revision=request.revision, known=self._models)):
            raise InputError(f"{name} is the name of its base here", f"Take --as {name}-tuned")

    def _base_for_adapters(self, request: ModelRequest, adapter: str) -> OpenModel:
        """The base where it is open in a form that takes adapters; opened anew, under its old name, where not."""
        from . import tuning
        from .engines import resolve

        source = resolve.resolve(request.model, revision=request.revision, known=self._models)
        origins = [(name, opened.origin) for name, opened in self._models.items() if opened.origin]
        there = [(name, typed) for name, (at, typed) in origins if at.location == source.location]
        names = [name for name, typed in there if tuning.fits(typed, request)]
        for name in names:
            if tuning.takes_adapters(self._models[name].engine):
                return self._models[name]
        name = names[-1] if names else f"{source.name}-base" if source.name in {*self._models, adapter} else source.name
        self.load(request, name=name)
        if names:
            self._say(f"{name} is opened anew by transformers: {adapter} shares its weights")
        elif there:
            self._say(f"{name} is opened too: {adapter} was trained on another revision or chat template")
        return self._models[name]

    # Knowledge bases

    @property
    def knowledge(self) -> KnowledgeBases:
        """The knowledge bases of this session: adding, listing, removing, saving and loading."""
        from .knowledge.bases import KnowledgeBases

        with self._lock:
            if self._bases is None:
                self._bases = KnowledgeBases(self.settings)
            return self._bases

    def retrieve(self, text: str, request: RetrievalRequest | None = None) -> Passages:
        """The passages of a knowledge base that fit a question, the best first; no model is asked.

        Args:
            text: the question.
            request: where and how to look.

        Raises:
            InputError: there is no question.
            KnowledgeError: there is no such knowledge base.
        """
        from . import retrieving
        from .values.knowledge import RetrievalRequest

        return retrieving.retrieve(self.knowledge, text, request or RetrievalRequest())

    def knowledge_base(self, name: str = "", *, store: Any = None) -> VectorStore:
        """A knowledge base as a LangChain vector store; ``.as_retriever()`` makes a retriever of it.

        Args:
            name: the one used last, or ``default``, unless given; made where there is none.
            store: any LangChain vector store, such as ``PGVector``, to be made the base of that name.

        Returns:
            A view of the base, which is saved as after ``%rag_add``; of a base in a database, the database's own
            vector store.

        Raises:
            KnowledgeError: the base is damaged.
            MissingPackageError: a package is not installed.
        """
        from .integrations import langchain

        base = self.knowledge.open(name) if store is None else self.knowledge.use(store, name)
        return langchain.vector_store(base, self.knowledge.keep)

    # Chains

    @functools.cached_property
    def llm(self) -> ChatLLMMagics:
        """The model that answers, as a LangChain chat model; see ``integrations.chat_model``."""
        from .integrations import langchain

        return langchain.chat_model(self)

    @property
    def rag(self) -> RagChain:
        """What ``%%rag`` does, as a LangChain runnable; see ``integrations.rag_chain``."""
        from .integrations import langchain

        return langchain.rag_chain(self, self.llm.turn)

    @property
    def embeddings(self) -> SentenceEmbeddings:
        """The embedding model of the settings, as LangChain takes it: ``PGVector(embeddings=session.embeddings)``."""
        from .integrations import langchain

        return langchain.embeddings(self.knowledge.embedder())

    # Asking

    def ask(self, text: str, request: AskRequest | None = None) -> AnswerStream:
        """Ask, with this session's conversation so far.

        Args:
            text: the question.
            request: how to ask.

        Raises:
            InputError: the text is empty or an option is out of range.
            ModelError: no such model, or the prompt is too long for it.
        """
        return self._methods.plain(text, request or AskRequest())

    def ask_messages(
        self, messages: Sequence[Message], request: AskRequest | None = None, *, choices: Sequence[str] = ()
    ) -> AnswerStream:
        """Ask with these messages as they are: no system text and no conversation is added, none is kept.

        Args:
            messages: the turns, the question last.
            request: how to ask; its system text and history do not count.
            choices: the only possible answers; each gets its probability.

        Raises:
            InputError: there are no messages, or an option is out of range.
            ModelError: as ``ask``.
        """
        return self._methods.messages(messages, request or AskRequest(), choices)

    def ask_fewshot(
        self,
        text: str | fewshot.FewShotCell,
        request: AskRequest | None = None,
        *,
        given: Sequence[Example] = (),
        k: int | None = None,
        select: str = "all",
        choices: Sequence[str] = (),
        decide: str = "",
    ) -> AnswerStream:
        """Ask with worked examples. Greedy and without a repetition penalty unless asked for.

        Args:
            text: the cell: instruction, examples, question (see ``prompts.fewshot``), or the same taken apart.
            request: how to ask.
            given: examples from elsewhere; those in the cell come after them.
            k: how many examples to use; all unless given, with ``similar`` the nearest 8.
            select: ``all``, ``first``, ``balanced`` or ``similar`` (nearest by sentence embedding).
            choices: the only possible answers; each gets its probability.
            decide: what decides between them, ``model``, ``calibrated`` or ``blend``; see ``prompts.choices``.

        Raises:
            InputError: the cell cannot be read, or there are no examples.
            ModelError: as ``llm``.
        """
        return self._methods.fewshot(
            text, request or AskRequest(), given=given, k=k, select=select, choices=choices, decide=decide
        )

    def ask_cot(
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
        return self._methods.cot(text, request or AskRequest(), strategy=strategy, votes=votes, given=given)

    def ask_rag(
        self,
        text: str,
        request: AskRequest | None = None,
        retrieval: RetrievalRequest | None = None,
        *,
        given: Sequence[Example] = (),
        reasoning: bool = False,
        context: bool = True,
        choices: Sequence[str] = (),
    ) -> AnswerStream:
        """Ask a knowledge base: retrieval-augmented generation, Lewis et al. 2020 (arXiv:2005.11401).

        Greedy and without a repetition penalty unless asked for: an answer repeats words of its passages.

        Args:
            text: the question.
            request: how to ask.
            retrieval: where and how to look for passages.
            given: worked examples.
            reasoning: ask for the reasoning and, apart from it, the final answer.
            context: False asks the same question without any passage.
            choices: the only possible answers; each gets its probability.

        Returns:
            The running answer with its sources. Where nothing is found no model is asked, and the answer
            says so.

        Raises:
            InputError: there is no question.
            KnowledgeError: there is no such knowledge base.
            ModelError: as ``ask``.
        """
        from .values.knowledge import RetrievalRequest

        return self._methods.rag(
            text,
            request or AskRequest(),
            retrieval or RetrievalRequest(),
            given=given,
            reasoning=reasoning,
            context=context,
            choices=choices,
        )

    def over(
        self,
        table: object,
        ask: Callable[[Any, AskRequest], AnswerStream],
        text: str = "",
        request: AskRequest | None = None,
        *,
        method: str,
        source: str = "the table",
        column: str = "",
        reasoning: bool = False,
        choices: Sequence[str] = (),
        before: object = None,
        out: str = "",
    ) -> AnswerTable:
        """Ask for every row of a table.

        Args:
            table: a DataFrame, or what ``over.read_table`` makes one of.
            ask: one of the ways to ask, such as ``session.ask``, its own options filled in.
            text: the cell; a ``RowText`` where it takes values from a row.
            request: how to ask. No conversation is sent along.
            method: ``llm``, ``fewshot``, ``cot`` or ``rag``, as ``ask`` is.
            source: what the person calls the table.
            column: the column whose text is asked, below the cell's.
            reasoning: whether the model writes its reasoning, which gets a column.
            choices: the only possible answers, each of which gets a column.
            before: the ``frame`` of an earlier run; what it holds is not asked again.
            out: the variable that gets the result, for the history.

        Returns:
            The answers in the making. Rows that fail have their error; the others go on.

        Raises:
            InputError: no table, no such column, or every row would be asked the same.
            ModelError: no such model.
            MissingPackageError: pandas is not installed.
        """
        asked: dict[str, Any] = {"method": method, "source": source, "column": column, "out": out, "before": before}
        asked |= {"reasoning": reasoning, "choices": choices}
        return self._tables.ask(table, ask, text, request or AskRequest(), **asked)

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
        from .prompts import examples

        return examples.read_file(source) if isinstance(source, Path) else examples.from_value(source, name)

    @staticmethod
    def schema(source: object, name: str) -> AnswerSchema:
        """The form of an answer, for ``AskRequest.schema``.

        Args:
            source: a pydantic class, a dictionary with a JSON schema, or the ``Path`` of a JSON file.
            name: what the person calls it, for the error.

        Raises:
            InputError: it is no JSON schema.
            MissingPackageError: jsonschema is not installed.
        """
        from .prompts import schemas

        return schemas.from_file(source) if isinstance(source, Path) else schemas.from_value(source, name)

    # Evaluation

    def evaluate(
        self,
        data: object,
        request: EvaluationRequest | None = None,
        *,
        name: str = "",
        examples: Sequence[Example] = (),
        trained_on: object = None,
    ) -> Evaluating:
        """Ask a labelled set in several ways, and say which helps and by how much.

        Args:
            data: a path, the id of a data set on the Hub, a DataFrame, or a list of pairs or dicts.
            request: columns, methods, metric and the rest.
            name: what the person calls a value.
            examples: worked examples from elsewhere; then no row is kept as one.
            trained_on: rows that a model was trained on, as ``data``, where its folder does not tell.

        Returns:
            The running evaluation: ``.run()`` gives an ``Evaluation``, a DataFrame with a row for each method.

        Raises:
            InputError: data, columns or options that cannot be used.
            KnowledgeError: a method asks a knowledge base that is not there.
            ModelError: a model that is not loaded.
            MissingPackageError: a package of the extra ``evaluation`` is not installed.
        """
        from . import evaluating
        from .values.evaluation import EvaluationRequest

        source = evaluating.Data(data, name, tuple(examples), trained_on)
        return evaluating.evaluate(self, source, request or EvaluationRequest())

    def compare(
        self,
        text: str,
        ways: ComparisonRequest | None = None,
        request: AskRequest | None = None,
        *,
        given: Sequence[Example] = (),
    ) -> Comparing:
        """Ask one question in several ways.

        Args:
            text: the question; above it may stand an instruction and worked examples, as in ``%%fewshot``.
            ways: methods, models and temperatures.
            request: the options of every answer; all have one seed.
            given: worked examples from elsewhere.

        Returns:
            The running answers: ``.run()`` gives a ``Comparison``, a DataFrame with a row for each.

        Raises:
            InputError: there is no question, or a method that cannot be asked.
            KnowledgeError: a method asks a knowledge base that is not there.
            ModelError: a model that is not loaded.
            MissingPackageError: pandas is not installed.
        """
        from . import evaluating
        from .values.comparison import ComparisonRequest

        return evaluating.compare(self, text, request or AskRequest(), ways or ComparisonRequest(), given)

    def at_once(
        self, streams: Sequence[AnswerStream], stop: threading.Event
    ) -> Iterator[tuple[int, Answer | LLMMagicsError]]:
        """Answers to questions that are asked alike, together where the engine can; see ``Asker.at_once``."""
        return self._asker.at_once(streams, stop)

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Nothing is said in the meantime in this thread; another cell, in another thread, is heard."""
        thread = threading.get_ident()
        self._hushed[thread] += 1
        try:
            yield
        finally:
            self._hushed[thread] -= 1

    def _say(self, line: str) -> None:
        if not self._hushed[threading.get_ident()]:
            self._told(line)

    def similarities(self, texts: Sequence[str], question: str) -> Sequence[float]:
        """Cosine of each text with a question, by the embedding model of the settings."""
        return self._nearness.similarities(texts, question)

    def model_name(self, name: str = "") -> str:
        """The name of a loaded model; of the one that answers where none is given. The default one is opened.

        Raises:
            ModelNotFoundError: it is not loaded.
        """
        return self._model(name)[0]

    def weighs_choices(self, name: str) -> bool:
        """Whether a loaded model gives the probabilities of choices."""
        return self._model(name)[1].weighs_choices

    def identity(self, name: str) -> list[object]:
        """What tells a loaded model from another of its name, as JSON values: origin, precision, and its files."""
        return self._model(name)[1].identity
