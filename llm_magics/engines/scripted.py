"""An engine that says what it is told to: for tests, examples and notebooks without a model."""

from __future__ import annotations

import dataclasses
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from ..errors import LLMMagicsError
from ..values.answers import Chunk, StopReason, Usage
from ..values.asking import GenerationOptions
from ..values.messages import Message, Prompt
from ..values.models import ModelInfo
from .base import room_for_answer
from .stop_texts import StopTexts


class ScriptedEngine:
    """Gives prepared answers, one word as one token. Put it into a session with ``Session.add``.

    Args:
        answers: the answers in order (the last one repeats), or a function of the messages.
        tokens_per_second: pace of the stream; 0 is as fast as possible.
        context: longest prompt in tokens.

    Attributes:
        prompts: every prompt that was asked, in order.
    """

    def __init__(
        self,
        answers: Iterable[str] | Callable[[Sequence[Message]], str],
        *,
        tokens_per_second: float = 0.0,
        context: int = 8192,
    ) -> None:
        self._reply = answers if callable(answers) else _in_turn(list(answers))
        self._pace = 1.0 / tokens_per_second if tokens_per_second else 0.0
        self._context = context
        self.prompts: list[Prompt] = []

    def info(self) -> ModelInfo:
        """Figures of a model without weights."""
        return ModelInfo("scripted", "llm_magics", "scripted", "cpu", "none", "none", 0, 0, self._context, 0.0)

    def render(self, messages: Sequence[Message]) -> Prompt:
        """``role: content`` lines."""
        text = "\n".join(f"{message.role}: {message.content}" for message in messages) + "\nassistant:"
        return Prompt(tuple(messages), text, len(_words(text)))

    def stream(self, prompt: Prompt, options: GenerationOptions, stop: threading.Event) -> Iterator[Chunk]:
        """The next prepared answer, word by word, with the same limits as a real engine."""
        room_for_answer(prompt.token_count, self.info())
        self.prompts.append(prompt)
        words = _words(self._reply(prompt.messages))
        begin, first, count = time.perf_counter(), 0.0, 0
        reason: StopReason = "end"
        cut = StopTexts(options.stop)
        for word in words:
            if stop.wait(self._pace) if self._pace else stop.is_set():
                reason = "stopped"
                break
            if count == options.max_new_tokens:
                reason = "length"
                break
            count += 1
            first = first or time.perf_counter() - begin
            yield Chunk(cut.push(word), Usage(prompt.token_count, count, first, time.perf_counter() - begin))
            if cut.found:
                reason = "stop"
                break
        yield Chunk(cut.flush(), Usage(prompt.token_count, count, first, time.perf_counter() - begin), reason)

    def stream_batch(
        self, prompts: Sequence[Prompt], options: GenerationOptions, stop: threading.Event
    ) -> Iterator[tuple[int, Chunk | LLMMagicsError]]:
        """The next prepared answers, each as a whole, one after the other."""
        for number, prompt in enumerate(prompts):
            try:
                chunks = list(self.stream(prompt, options, stop))
            except LLMMagicsError as error:
                yield number, error
                continue
            if chunks[-1].stop_reason == "stopped":
                return
            yield number, dataclasses.replace(chunks[-1], text="".join(chunk.text for chunk in chunks))

    def close(self) -> None:
        """Nothing to free."""


def _in_turn(answers: list[str]) -> Callable[[Sequence[Message]], str]:
    turn = iter(answers)
    last = answers[-1] if answers else ""
    return lambda messages: next(turn, last)


def _words(text: str) -> list[str]:
    """Words with the white space before them: joined, they are the text again."""
    return re.findall(r"\s*\S+|\s+$", text)
