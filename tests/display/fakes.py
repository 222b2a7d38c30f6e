"""A running answer without a model: words at a given pace."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from llm_magics.values.answers import Answer, AnswerStream, Chunk, StopReason, Usage
from llm_magics.values.asking import GenerationOptions
from llm_magics.values.knowledge import Passage
from llm_magics.values.messages import Message, Prompt

PROMPT = Prompt((Message("user", "Why?"),), "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n", 12)


def a_stream(
    text: str = "one two three",
    *,
    reasoning: str = "",
    per_second: float = 0.0,
    method: str = "llm",
    format: str = "markdown",
    at: Callable[[int], None] | None = None,
    error: Exception | None = None,
    options: GenerationOptions = GenerationOptions(seed=7),  # noqa: B008
    sources: tuple[Passage, ...] = (),
    model: str = "fake",
    **answer: Any,
) -> AnswerStream:
    """A stream of words; ``at`` is called before each one, ``error`` is raised after the last."""

    def chunks(stop: threading.Event) -> Iterator[Chunk]:
        begin = time.perf_counter()
        parts = [("reasoning", word) for word in reasoning.split(" ")] if reasoning else []
        parts += [("answer", word) for word in text.split(" ")] if text else []
        reason: StopReason = "end"
        usage = Usage(PROMPT.token_count)
        for count, (part, word) in enumerate(parts):
            if stop.wait(1 / per_second) if per_second else stop.is_set():
                reason = "stopped"
                break
            if at is not None:
                at(count)
            usage = Usage(PROMPT.token_count, count + 1, 0.01, time.perf_counter() - begin)
            space = "" if count == 0 or parts[count - 1][0] != part else " "
            yield Chunk(space + word, usage, None, part, "chain 1 of 1" if part == "reasoning" else "")  # type: ignore[arg-type]
        if error is not None:
            raise error
        yield Chunk("", usage, reason)

    def finish(seen: list[Chunk]) -> Answer:
        said = "".join(chunk.text for chunk in seen if chunk.part == "answer")
        return Answer(
            said,
            reasoning="".join(chunk.text for chunk in seen if chunk.part == "reasoning"),
            method=method,
            model=model,
            sources=sources,
            prompt=PROMPT,
            usage=seen[-1].usage,
            stop_reason=seen[-1].stop_reason or "end",
            output_format=format,
            options=options,
            **answer,
        )

    return AnswerStream(
        method=method,
        model=model,
        sources=sources,
        format=format,
        prompt=PROMPT,
        options=options,
        chunks=chunks,
        finish=finish,
    )
