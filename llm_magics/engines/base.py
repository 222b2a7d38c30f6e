"""What every engine can do. No method is here that an engine cannot honour.

An engine turns messages into the exact prompt, and a prompt into a stream of chunks. It knows
nothing of methods, history, notebooks or names. ``Scorer``, ``BatchEngine`` and ``BatchScorer`` are apart, for
engines that can also give the probability of a text, or answer several prompts at once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from ..errors import ContextLengthError, LLMMagicsError
from ..values.answers import Chunk
from ..values.asking import GenerationOptions
from ..values.messages import Message, Prompt
from ..values.models import ModelInfo


class Engine(Protocol):
    """A model that is open and can answer."""

    def info(self) -> ModelInfo:
        """The open model in figures."""
        ...

    def render(self, messages: Sequence[Message]) -> Prompt:
        """The exact text that would go to the model, and its length in tokens."""
        ...

    def stream(self, prompt: Prompt, options: GenerationOptions, stop: threading.Event) -> Iterator[Chunk]:
        """Answer, piece by piece.

        Args:
            prompt: from ``render``.
            options: how to choose tokens.
            stop: when set, the stream ends with ``stop_reason="stopped"`` at the next token.

        Yields:
            Chunks with the usage so far; the last one alone has a stop reason.

        Raises:
            ContextLengthError: the prompt is longer than the context.
            OutOfMemoryError: the model stays usable.
        """
        ...

    def close(self) -> None:
        """Free the weights. The engine cannot be used afterwards."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """An engine that can say how probable given answers are."""

    def score(self, prompt: Prompt, choices: Sequence[str], stop: threading.Event) -> tuple[float, ...]:
        """Probability of each choice as the answer to the prompt; they sum to 1. Empty after a stop."""
        ...


@runtime_checkable
class BatchEngine(Protocol):
    """An engine that can answer several prompts at once, faster than one after the other."""

    def stream_batch(
        self, prompts: Sequence[Prompt], options: GenerationOptions, stop: threading.Event
    ) -> Iterator[tuple[int, Chunk | LLMMagicsError]]:
        """Answer several prompts, each as a whole.

        Args:
            prompts: from ``render``; any number of them.
            options: how to choose tokens, for all of them.
            stop: when set, what is not complete is given up and the stream ends.

        Yields:
            In the order in which they are complete: which prompt, and its whole answer with its usage and stop
            reason, or why that one could not be answered. Every prompt comes once unless it was stopped.
        """
        ...


@runtime_checkable
class PrefixKeeper(Protocol):
    """An engine that keeps what it has read, so that a prompt with the same beginning costs only what is new."""

    def cached_bytes(self) -> int:
        """Bytes that this takes now."""
        ...

    def limit_cache(self, limit: int) -> None:
        """Keep at most this many bytes from now on; 0 keeps nothing."""
        ...


@runtime_checkable
class BatchScorer(Protocol):
    """An engine that can weigh given answers to several prompts at once, faster than one after the other."""

    def score_batch(
        self, prompts: Sequence[Prompt], choices: Sequence[str], stop: threading.Event
    ) -> Iterator[tuple[int, tuple[float, ...] | LLMMagicsError]]:
        """Which prompt, and the probabilities as ``Scorer.score`` gives them, or why there are none.

        Every prompt comes once unless it was stopped, in the order in which they are complete.
        """
        ...


def room_for_answer(tokens: int, info: ModelInfo, *, turns: int = 0) -> int:
    """Tokens left for the answer after a prompt; at least 1.

    Args:
        tokens: length of the prompt.
        info: the model.
        turns: messages in it, where that is known: of one question alone no history can be left out.

    Raises:
        ContextLengthError: none is left.
    """
    room = info.context - tokens
    if room < 1:
        history = "" if 0 < turns <= 2 else ", or ask with --no-history"
        raise ContextLengthError(
            f"the prompt is {tokens} tokens, {1 - room} too many",
            f"{info.name} reads {info.context} with its answer: shorten it{history}",
        )
    return room
