"""The values that come out: chunks while the model answers, and the answer when it has.

An ``AnswerStream`` is the one object that passes from the session to the display: iterate it for
chunks, then read ``answer``. It knows neither who makes the chunks nor who shows them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .errors import LLMMagicsError
from .messages import GenerationOptions, Message, Passage, Prompt

StopReason = Literal["end", "length", "stop", "stopped"]
"""``end``: the model ended. ``length``: the limit was reached. ``stop``: a stop text came.
``stopped``: a person stopped it."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer cost.

    Attributes:
        prompt_tokens: tokens read.
        new_tokens: tokens written.
        seconds_to_first_token: from the call to the first token, in seconds.
        seconds: from the call to the last token, in seconds.
        cached_tokens: how many of the prompt's tokens were still known from the question before.
    """

    prompt_tokens: int = 0
    new_tokens: int = 0
    seconds_to_first_token: float = 0.0
    seconds: float = 0.0
    cached_tokens: int = 0

    @property
    def tokens_per_second(self) -> float:
        """Decoding speed: tokens after the first, by the seconds after the first; 0 below two tokens."""
        decode = self.seconds - self.seconds_to_first_token
        return (self.new_tokens - 1) / decode if self.new_tokens > 1 and decode > 0 else 0.0

    def __add__(self, other: Usage) -> Usage:
        """Two answers one after the other, as ``--votes`` makes them."""
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.new_tokens + other.new_tokens,
            self.seconds_to_first_token or other.seconds_to_first_token,
            self.seconds + other.seconds,
            self.cached_tokens + other.cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a running answer.

    Attributes:
        text: the new text, possibly empty.
        usage: what the answer has cost so far.
        stop_reason: None until the last chunk.
        part: whether the text belongs to the answer or to the reasoning before it.
        status: a short line on what is going on, such as ``chain 2 of 5``.
    """

    text: str
    usage: Usage
    stop_reason: StopReason | None = None
    part: Literal["answer", "reasoning"] = "answer"
    status: str = ""


@dataclass(frozen=True, slots=True)
class Vote:
    """One final answer among several chains, and how many chains gave it."""

    answer: str
    count: int


class Answer(str):
    """What the model said: a ``str`` that knows where it came from. It cannot be changed.

    Attributes:
        text: the answer as a plain ``str``. For ``%%cot`` the final answer alone.
        reasoning: what the model wrote before its final answer; empty for the other methods.
        method: ``llm``, ``fewshot``, ``cot`` or ``rag``.
        model: name of the loaded model; empty where none was asked.
        messages: the turns that were sent, as ``Message`` values.
        prompt: the exact text that was sent, chat template applied.
        options: the generation options in force, with the seed that was used.
        usage: tokens and seconds.
        stop_reason: ``end``, ``length``, ``stop`` (a stop text) or ``stopped`` (a person).
        parsed: False where ``%%cot`` found no final answer; ``text`` is then empty, never a guess.
        votes: for ``%%cot --votes``: final answers, the most frequent first.
        chains: for ``%%cot --votes``: how many chains were sampled, those without a final answer too.
        probabilities: for ``--choices``: the probability of each choice; they sum to 1.
        sources: for ``%%rag``: the passages that the model read, number 1 first, with scores and offsets.
        quoted: for ``%%rag``: numbers of the sources whose words the answer repeats, found by comparing the texts.
        data: for ``--format json``: the parsed value.
        output_format: how the answer is shown: ``markdown``, ``text``, ``json`` or ``code``.
    """

    text: str
    reasoning: str
    method: str
    model: str
    messages: tuple[Message, ...]
    prompt: str
    options: GenerationOptions
    usage: Usage
    stop_reason: StopReason
    parsed: bool
    votes: tuple[Vote, ...]
    chains: int
    probabilities: dict[str, float]
    sources: tuple[Passage, ...]
    quoted: tuple[int, ...]
    data: Any
    output_format: str

    def __new__(
        cls,
        text: str,
        *,
        reasoning: str = "",
        method: str = "llm",
        model: str = "",
        prompt: Prompt | None = None,
        options: GenerationOptions | None = None,
        usage: Usage | None = None,
        stop_reason: StopReason = "end",
        parsed: bool = True,
        votes: tuple[Vote, ...] = (),
        chains: int = 0,
        probabilities: dict[str, float] | None = None,
        sources: tuple[Passage, ...] = (),
        quoted: tuple[int, ...] = (),
        data: Any = None,
        output_format: str = "markdown",
    ) -> Answer:
        """Make an answer; the arguments are the attributes."""
        answer = super().__new__(cls, text)
        answer.__dict__.update(
            text=str(text),
            reasoning=reasoning,
            method=method,
            model=model,
            messages=prompt.messages if prompt else (),
            prompt=prompt.text if prompt else "",
            options=options or GenerationOptions(),
            usage=usage or Usage(),
            stop_reason=stop_reason,
            parsed=parsed,
            votes=votes,
            chains=chains,
            probabilities=dict(probabilities or {}),
            sources=tuple(sources),
            quoted=tuple(quoted),
            data=data,
            output_format=output_format,
        )
        return answer

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an Answer cannot be changed (tried to set {name})")


class Passages(tuple[Passage, ...]):
    """What a knowledge base found for a question, the best first.

    Attributes:
        question: what was asked.
        knowledge_base: name of the base that was searched.
    """

    question: str
    knowledge_base: str

    def __new__(cls, found: Iterable[Passage], question: str = "", knowledge_base: str = "") -> Passages:
        """Make it of passages; the other arguments are the attributes."""
        passages = super().__new__(cls, found)
        passages.question, passages.knowledge_base = question, knowledge_base
        return passages


class AnswerStream:
    """One running answer. Iterate it once, from any one thread, then read ``answer``.

    Args:
        method: ``llm``, ``fewshot``, ``cot`` or ``rag``; the card's title.
        model: name of the loaded model; empty where none is asked.
        format: ``markdown``, ``text``, ``json`` or ``code``.
        prompt: what is sent.
        options: the generation options in force.
        sources: for ``%%rag``: the passages in the prompt, number 1 first.
        chunks: called once with a stop event; yields the chunks. When the event is set it ends
            with ``stop_reason="stopped"`` at the next token.
        finish: called once with all chunks; returns the answer. Runs after a stop as well.
    """

    def __init__(
        self,
        *,
        method: str,
        model: str,
        format: str,
        prompt: Prompt,
        options: GenerationOptions,
        chunks: Callable[[threading.Event], Iterator[Chunk]],
        finish: Callable[[list[Chunk]], Answer],
        sources: tuple[Passage, ...] = (),
    ) -> None:
        self.method = method
        self.model = model
        self.format = format
        self.prompt = prompt
        self.options = options
        self.sources = sources
        self._chunks = chunks
        self._finish = finish
        self._begun = False
        self._stop = threading.Event()
        self._answer: Answer | None = None

    def __iter__(self) -> Iterator[Chunk]:
        if self._begun:
            raise LLMMagicsError("an answer can be streamed once", "Ask again for another")
        self._begun = True
        seen: list[Chunk] = []
        for chunk in self._chunks(self._stop):
            seen.append(chunk)
            yield chunk
        self._answer = self._finish(seen)

    def stop(self) -> None:
        """Ask for the end at the next token. Safe from any thread, and more than once."""
        self._stop.set()

    @property
    def answer(self) -> Answer:
        """The answer, once the iteration has ended.

        Raises:
            LLMMagicsError: the stream has not been iterated to its end.
        """
        if self._answer is None:
            raise LLMMagicsError("the answer is not complete", "Iterate the stream to its end first")
        return self._answer


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """An open model, in the figures that a person asks for.

    Attributes:
        name: what the person calls it.
        source: where it came from: Hub id, folder or file.
        engine: what runs it, such as ``transformers`` or ``llamacpp``.
        device: ``cpu``, ``cuda:0`` and so on; for llama.cpp its own name of a GPU, such as ``CUDA0``.
        dtype: type of the weights that are not quantized.
        quantization: ``none``, ``nf4``, ``int8``, or the type of a GGUF file's weights, such as ``Q8_0``.
        parameters: number of weights.
        memory: bytes that the weights take.
        context: the longest prompt with its answer, in tokens.
        seconds: what opening it took.
    """

    name: str
    source: str
    engine: str
    device: str
    dtype: str
    quantization: str
    parameters: int
    memory: int
    context: int
    seconds: float


@dataclass(frozen=True, slots=True)
class MemoryFreed:
    """What closing a model gave back, measured and not computed.

    Attributes:
        name: the model's name.
        place: ``GPU`` or ``RAM``.
        before: bytes in use by this process before.
        after: bytes in use after.
    """

    name: str
    place: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class IndexingProgress:
    """How far the indexing of documents is.

    Attributes:
        done: chunks that have their vectors.
        total: chunks in all; 0 while they are not known.
        seconds: since the indexing began.
        status: what goes on, such as ``reading notes.md``; empty while vectors are made.
        long: whether the step that begins now tells nothing for seconds, so that it is worth showing at once.
    """

    done: int
    total: int
    seconds: float
    status: str = ""
    long: bool = False

    @property
    def speed(self) -> float:
        """Chunks a second; 0 before the first."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float:
        """Seconds to go at the speed so far; infinite before the first chunk."""
        return (self.total - self.done) / self.speed if self.speed else float("inf")


@dataclass(frozen=True, slots=True)
class Added:
    """What came of adding documents to a knowledge base.

    Attributes:
        new: sources that were not there before.
        changed: sources whose old chunks were replaced.
        unchanged: sources that were there already in the same text and splitting.
        chunks: chunks written.
        seconds: what reading, cutting and embedding took.
        skipped: what could not be read, each with the reason.
    """

    new: int
    changed: int
    unchanged: int
    chunks: int
    seconds: float = 0.0
    skipped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KnowledgeBaseInfo:
    """A knowledge base, in the figures that a person asks for.

    Attributes:
        name: what the person calls it.
        sources: how many there are.
        chunks: how many there are.
        embedding: name of the embedding model.
        index: how it is searched: ``exact``, IVF with what it reads, or the name of the database.
        folder: where it is saved after each change; empty where it lives in memory alone.
    """

    name: str
    sources: int
    chunks: int
    embedding: str
    index: str
    folder: str = ""


class Indexing:
    """Documents on their way into a knowledge base. Run it once, then read ``info``.

    Args:
        knowledge_base: its name.
        work: called with a function that is told the progress; returns what came of it.
        info: the base in figures, after the work or in the middle of it.
    """

    def __init__(
        self,
        knowledge_base: str,
        work: Callable[[Callable[[IndexingProgress], None]], Added],
        info: Callable[[], KnowledgeBaseInfo],
    ) -> None:
        self.knowledge_base = knowledge_base
        self._work = work
        self._info = info

    def run(self, progress: Callable[[IndexingProgress], None] = lambda progress: None) -> Added:
        """Read, cut, embed and keep the documents.

        Args:
            progress: told how far it is, many times a second.

        Raises:
            KeyboardInterrupt: a person stopped it; the sources that were done are kept, each of them whole.
            LLMMagicsError: nothing could be added, in one line.
        """
        return self._work(progress)

    @property
    def info(self) -> KnowledgeBaseInfo:
        """The knowledge base as it is now."""
        return self._info()


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What was understood of the rows to train on, in the figures that a person checks before a job starts.

    Attributes:
        source: the file, folder, Hub id or variable.
        shape: what the columns were taken for, such as ``prompt and completion``.
        rows: rows that are trained on, with those of ``--mix``.
        valid_rows: rows held out for validation.
        mixed_rows: rows of ``--mix`` among ``rows``.
        tokens: tokens of the training rows.
        trained_tokens: those of them that the loss is taken on: the answers.
        longest: tokens of the longest row.
        dropped: reasons for which rows were left out, each with how many.
        first: the first row as the model will see it.
        first_answer: the part of it that the loss is taken on.
        steps: optimizer steps of the job.
        seconds: what the job may take, in seconds; a rough guess.
        warnings: what will hardly work, each with what to change.
    """

    source: str
    shape: str
    rows: int
    valid_rows: int
    mixed_rows: int
    tokens: int
    trained_tokens: int
    longest: int
    dropped: tuple[tuple[str, int], ...]
    first: str
    first_answer: str
    steps: int
    seconds: float
    warnings: tuple[str, ...] = ()


TrainingState = Literal["running", "done", "stopped", "failed", "killed"]
"""``done``: came to its last step. ``stopped``: a person stopped it. ``failed``: it ended with an error.
``killed``: its process is gone without a word."""


@dataclass(frozen=True, slots=True)
class TrainingEvent:
    """Something that a fine-tuning job did.

    Attributes:
        kind: ``start`` (a process began), ``phase`` (``text`` says what it does), ``begin`` (training begins
            after ``step`` steps of an earlier process), ``step``, ``eval``, ``save`` (a checkpoint), ``merged``,
            ``end``, ``stopped`` or ``error`` (``text`` says what).
        time: seconds since 1970.
        step: optimizer steps done.
        total: optimizer steps of the whole job.
        epoch: how often every row has been seen.
        loss: mean negative log-likelihood of the trained tokens of this step, in nats.
        valid_loss: the same over the validation rows.
        learning_rate: of this step.
        tokens: tokens that this process has read so far.
        memory: bytes that it takes, on the GPU where it has one.
        text: words for a person.
    """

    kind: str
    time: float
    step: int = 0
    total: int = 0
    epoch: float = 0.0
    loss: float | None = None
    valid_loss: float | None = None
    learning_rate: float | None = None
    tokens: int = 0
    memory: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A fine-tuning job as it stands.

    Attributes:
        name: of the job and of the tuned model.
        state: see ``TrainingState``.
        base: the model it trains on, as a person typed it.
        folder: where everything of it lies.
        trainer: ``sft``, ``dpo`` or ``orpo``.
        backend: ``trl`` or ``autotrain``.
        events: what it did, in order; steps that a later process did again are there once.
        adapter: folder of the adapter; empty where there is none yet.
        merged: folder of the merged model; empty where there is none.
        text: why it failed; else empty.
    """

    name: str
    state: TrainingState
    base: str
    folder: str
    trainer: str
    backend: str
    events: tuple[TrainingEvent, ...] = ()
    adapter: str = ""
    merged: str = ""
    text: str = ""

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return max((event.step for event in self.events), default=0)

    @property
    def total(self) -> int:
        """Optimizer steps of the whole job; 0 before it is known."""
        return max((event.total for event in self.events), default=0)

    @property
    def losses(self) -> tuple[tuple[int, float], ...]:
        """Step and training loss."""
        return tuple((event.step, event.loss) for event in self.events if event.loss is not None)

    @property
    def valid_losses(self) -> tuple[tuple[int, float], ...]:
        """Step and validation loss."""
        return tuple((event.step, event.valid_loss) for event in self.events if event.valid_loss is not None)
