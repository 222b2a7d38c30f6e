"""What every engine can do. No method is here that an engine cannot honour.

An engine turns messages into the exact prompt, and a prompt into a stream of chunks. It knows
nothing of methods, history, notebooks or names. ``Scorer`` is apart, for engines that can also
give the probability of a text.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from ..errors import ContextLengthError
from ..messages import GenerationOptions, Message, Prompt
from ..results import Chunk, ModelInfo


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


def room_for_answer(tokens: int, info: ModelInfo) -> int:
    """Tokens left for the answer after a prompt; at least 1.

    Args:
        tokens: length of the prompt.
        info: the model.

    Raises:
        ContextLengthError: none is left.
    """
    room = info.context - tokens
    if room < 1:
        raise ContextLengthError(
            f"the prompt is {tokens} tokens, {1 - room} too many",
            f"{info.name} reads {info.context} with its answer: shorten it, or ask with --no-history",
        )
    return room
