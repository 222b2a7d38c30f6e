"""What comes of a question: chunks while the model answers, and the answer when it has.

An ``AnswerStream`` is the one object that passes from the session to the display: iterate it for chunks, then read
``answer``. It knows neither who makes the chunks nor who shows them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import AnswerBrokenError, LLMMagicsError
from .asking import GenerationOptions
from .knowledge import Passage
from .messages import Message, Prompt
from .running import Stoppable

StopReason = Literal["end", "length", "stop", "stopped", "loop"]
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
        stop_reason: ``end``, ``length``, ``stop`` (a stop text), ``stopped`` (a person) or ``loop`` (it said the same
            over and over).
        parsed: False where ``%%cot`` found no final answer; ``text`` is then empty, never a guess.
        votes: for ``%%cot --votes``: final answers, the most frequent first.
        chains: for ``%%cot --votes``: how many chains were sampled, those without a final answer too.
        probabilities: for ``--choices``: the probability of each choice, by all that decided; they sum to 1.
        evidence: for ``--choices``: what ``probabilities`` were made of, each with the probability of each choice:
            ``model`` (its own), ``calibrated`` (what it leans to without the question taken out) and ``examples``
            (how near the question is to the examples of each choice; no language model).
        sources: for ``%%rag``: the passages that the model read, number 1 first, with scores and offsets.
        quoted: for ``%%rag``: numbers of the sources whose words the answer repeats, found by comparing the texts.
        data: for ``--format json``: the parsed value; for ``--schema`` with a pydantic class an instance of it.
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
    evidence: dict[str, dict[str, float]]
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
        evidence: Mapping[str, Mapping[str, float]] | None = None,
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
            evidence={name: dict(shares) for name, shares in (evidence or {}).items()},
            sources=tuple(sources),
            quoted=tuple(quoted),
            data=data,
            output_format=output_format,
        )
        return answer

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an Answer cannot be changed (tried to set {name})")


class AnswerStream(Stoppable):
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
        super().__init__()
        self.method = method
        self.model = model
        self.format = format
        self.prompt = prompt
        self.options = options
        self.sources = sources
        self._chunks = chunks
        self._finish = finish
        self._begun = False
        self._answer: Answer | None = None

    def __iter__(self) -> Iterator[Chunk]:
        if self._begun:
            raise LLMMagicsError("an answer can be streamed once", "Ask again for another")
        self._begun = True
        seen: list[Chunk] = []
        try:
            for chunk in self._chunks(self._stop):
                seen.append(chunk)
                yield chunk
        except AnswerBrokenError as error:
            error.answer = self.partial(seen)
            raise
        self._answer = self._finish(seen)

    def partial(self, seen: list[Chunk]) -> Answer:
        """What there is of an answer that broke off, with ``stop_reason`` ``stopped``.

        Args:
            seen: the chunks that came, possibly none; the answer is unparsed where none has text of the answer.
        """
        text = "".join(chunk.text for chunk in seen if chunk.part == "answer")
        return Answer(
            text,
            reasoning="".join(chunk.text for chunk in seen if chunk.part == "reasoning"),
            method=self.method,
            model=self.model,
            prompt=self.prompt,
            options=self.options,
            usage=seen[-1].usage if seen else Usage(self.prompt.token_count),
            stop_reason="stopped",
            parsed=bool(text),
            sources=self.sources,
            output_format=self.format,
        )

    def run(self, stop: threading.Event) -> Answer:
        """Iterate it to its end.

        Args:
            stop: ends it at the next token.
        """
        self._stop = stop
        for _ in self:
            pass
        return self.answer

    def complete(self, chunks: list[Chunk]) -> Answer:
        """The answer from chunks that were made elsewhere, as for several answers at once; it is not iterated then.

        Args:
            chunks: at least one, the last with a stop reason.
        """
        self._begun = True
        self._answer = self._finish(chunks)
        return self._answer

    @property
    def answer(self) -> Answer:
        """The answer, once the iteration has ended.

        Raises:
            LLMMagicsError: the stream has not been iterated to its end.
        """
        if self._answer is None:
            raise LLMMagicsError("the answer is not complete", "Iterate the stream to its end first")
        return self._answer
