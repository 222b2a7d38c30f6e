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

import dataclasses
import functools
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .asking import Asker, OpenModel, Question
from .engines.base import Engine
from .errors import BusyError, InputError, Interrupted, ModelNotFoundError, did_you_mean
from .history import History
from .messages import (
    AskRequest,
    Example,
    GenerationOptions,
    Message,
    ModelRequest,
    Passage,
    Prompt,
    RetrievalRequest,
)
from .prompts import cot, examples, fewshot, plain, rag, templates
from .results import AnswerStream, MemoryFreed, ModelInfo, Passages
from .settings import LLMMagics, load_settings

if TYPE_CHECKING:
    from langchain_core.vectorstores import VectorStore

    from .integrations.chat_model import ChatLLMMagics
    from .integrations.embeddings import SentenceEmbeddings
    from .integrations.rag_chain import RagChain
    from .knowledge.bases import KnowledgeBases

_HALVINGS = 6  # of a passage that is longer than the model's context


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
        self._models: dict[str, OpenModel] = {}
        self._lock = threading.RLock()  # held while models are opened and closed, never while one answers
        self._asker = Asker(self.settings, self.history, self._models)
        self._bases: KnowledgeBases | None = None

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
        self._models[name] = OpenModel(engine, info, origin, stops)
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

    def _close(self, name: str, opened: OpenModel) -> MemoryFreed:
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
        request = request or RetrievalRequest()
        if not text.strip():
            raise InputError("there is no question", "Type it below the %%rag line, or after %rag")
        base = self.knowledge.find(request.knowledge_base)
        return Passages(base.search(text, request), text.strip(), base.name)

    def knowledge_base(self, name: str = "", *, store: Any = None) -> VectorStore:
        """A knowledge base as a LangChain vector store; ``.as_retriever()`` makes a retriever of it.

        Args:
            name: the one used last, or ``default``, unless given; made where there is none.
            store: any LangChain vector store, such as ``PGVector``, to be made the base of that name.

        Returns:
            A view of the base; of a base in a database, the database's own vector store.

        Raises:
            KnowledgeError: the base is damaged.
            MissingPackageError: a package is not installed.
        """
        from .integrations import langchain

        base = self.knowledge.open(name) if store is None else self.knowledge.use(store, name)
        return langchain.vector_store(base)

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
        request = request or AskRequest()
        if not text.strip():
            raise InputError("the prompt is empty", "Type it below the %%llm line, or after %llm")
        name, opened = self._model(request.model)
        options = self._asker.options(request)
        system = self._asker.system(request)
        turns = self._conversation(request)

        def build(left_out: int) -> Sequence[Message]:
            return plain.build(text, system=system, conversation=turns[2 * left_out :])

        prompt, left_out = _fitting(opened, options, build, len(turns) // 2)
        if left_out:
            what = "1 earlier exchange" if left_out == 1 else f"{left_out} earlier exchanges"
            self._say(f"{what} left out: {name} reads {opened.info.context} tokens")
        return self._asker.one_answer(Question("llm", text, name, opened, prompt, options, request))

    def ask_messages(self, messages: Sequence[Message], request: AskRequest | None = None) -> AnswerStream:
        """Ask with these messages as they are: no system text and no conversation is added, none is kept.

        Args:
            messages: the turns, the question last.
            request: how to ask; its system text and history do not count.

        Raises:
            InputError: there are no messages, or an option is out of range.
            ModelError: as ``ask``.
        """
        if not any(message.content.strip() for message in messages):
            raise InputError("the prompt is empty", "Put a question into the messages")
        request = dataclasses.replace(request or AskRequest(), history=False)
        name, opened = self._model(request.model)
        options = self._asker.options(request)
        prompt = opened.engine.render(messages)
        return self._asker.one_answer(Question("llm", messages[-1].content, name, opened, prompt, options, request))

    def ask_fewshot(
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
        options = self._asker.options(request, temperature=0.0, repetition_penalty=1.0)
        cell = dataclasses.replace(cell, examples=chosen)
        prompt = opened.engine.render(fewshot.build(cell, system=self._asker.system(request)))
        question = Question("fewshot", text, name, opened, prompt, options, request)
        return self._asker.one_choice(question, choices) if choices else self._asker.one_answer(question)

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
        request = request or AskRequest()
        if votes < 1:
            raise InputError(f"--votes is {votes}", "It takes a whole number from 1, such as 5")
        messages = cot.build(text, strategy=strategy, examples=given, system=self._asker.system(request))
        name, opened = self._model(request.model)
        options = self._asker.options(request, repetition_penalty=1.0, **({"temperature": 0.7} if votes > 1 else {}))
        if votes > 1 and options.greedy:
            raise InputError("--votes with --temperature 0 gives the same chain each time", "Leave one of them out")
        prompt = opened.engine.render(messages)
        question = Question("cot", text, name, opened, prompt, options, request, reasons=True)
        return self._asker.majority(question, votes) if votes > 1 else self._asker.one_answer(question)

    def ask_rag(
        self,
        text: str,
        request: AskRequest | None = None,
        retrieval: RetrievalRequest | None = None,
        *,
        given: Sequence[Example] = (),
        reasoning: bool = False,
        context: bool = True,
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

        Returns:
            The running answer with its sources. Where nothing is found no model is asked, and the answer
            says so.

        Raises:
            InputError: there is no question.
            KnowledgeError: there is no such knowledge base.
            ModelError: as ``ask``.
        """
        request, retrieval = request or AskRequest(), retrieval or RetrievalRequest()
        passages = self._excerpts(text, retrieval) if context else ()
        if context and not passages:
            return self._asker.without_model("rag", text, self._nothing_found(text, retrieval), request)
        name, opened = self._model(request.model)
        options = self._asker.options(request, temperature=0.0, repetition_penalty=1.0)
        system = self._asker.system(request)

        def build(step: int) -> Sequence[Message]:
            return rag.build(text, _shortened(passages, step), system=system, examples=given, reasoning=reasoning)

        prompt, step = _fitting(opened, options, build, len(passages) - 1 + _HALVINGS if passages else 0)
        read = _shortened(passages, step)
        if read != passages:
            self._say(_read_of(passages, read, name, opened.info.context))
        question = Question("rag", text, name, opened, prompt, options, request, reasoning, read)
        return self._asker.one_answer(question)

    def _excerpts(self, text: str, retrieval: RetrievalRequest) -> tuple[Passage, ...]:
        """The sentences that a model is given to read."""
        from .knowledge.excerpts import COUNT, excerpts

        passages = self.retrieve(text, retrieval)
        return excerpts(text, passages, count=retrieval.k or COUNT)

    def _nothing_found(self, text: str, retrieval: RetrievalRequest) -> str:
        base = self.knowledge.find(retrieval.knowledge_base)
        best = base.search(text, dataclasses.replace(retrieval, min_score=0.0))
        if not best:
            return f"Not in the documents: nothing in {base.name} fits the question."
        score = max(passage.score for passage in best)
        return (
            f"Not in the documents: the best passage of {base.name} has a score of {score:.2f}, "
            f"and --min-score is {retrieval.min_score:.2f}."
        )

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

    # What the ways to ask have in common

    def _conversation(self, request: AskRequest) -> tuple[Message, ...]:
        if not request.history:
            return ()
        return self.history.conversation(request.cell, request.run, self.settings.history_turns)

    def _similarities(self, texts: Sequence[str], question: str) -> Sequence[float]:
        return self.knowledge.embedder().similarities(texts, question)


def _fitting(
    opened: OpenModel, options: GenerationOptions, build: Callable[[int], Sequence[Message]], steps: int
) -> tuple[Prompt, int]:
    """The first of ever shorter prompts that leaves room for an answer, and its number; the last if none does."""
    context = opened.info.context
    for step in range(steps + 1):
        prompt = opened.engine.render(build(step))
        if prompt.token_count + min(options.max_new_tokens, context // 4) <= context:
            break
    return prompt, step


def _shortened(passages: Sequence[Passage], step: int) -> tuple[Passage, ...]:
    """Passages without the last ``step`` ones; where one is left, it loses its second half with every step more."""
    read = tuple(passages[: max(1, len(passages) - step)])
    halvings = step - len(passages) + 1
    if not read or halvings < 1:
        return read
    text = read[0].text[: len(read[0].text) >> halvings]
    matches = tuple(match for match in read[0].matches if match[1] <= len(text))
    return (dataclasses.replace(read[0], text=text, end=read[0].start + len(text), matches=matches),)


def _read_of(passages: Sequence[Passage], read: Sequence[Passage], name: str, context: int) -> str:
    """What was left out of the prompt, in one line."""
    of = f"{len(read)} of {len(passages)} passages" if len(passages) > 1 else "the passage"
    cut = f", cut to {len(read[0].text)} characters" if len(read[0].text) < len(passages[0].text) else ""
    return f"The model reads {of}{cut}: {name} has room for {context} tokens"


def _refuse_sampling(request: AskRequest) -> None:
    """``--choices`` weighs the given answers; nothing is generated that these options could change."""
    names = ("temperature", "top_p", "max_new_tokens", "repetition_penalty", "seed")
    given = [name for name in names if getattr(request, name) is not None] + (["stop"] if request.stop else [])
    given += ["format"] if request.format in ("json", "code") else []
    if given:
        flag = f"--{given[0].replace('_', '-')}"
        raise InputError(f"{flag} changes nothing with --choices: the most probable one is taken", f"Leave {flag} out")
