"""Several prompts at once on llama.cpp's server, which answers as many as it has slots in one computation.

Each slot reads a prompt's beginning for itself. Where that is long and the answers are short, as with labels after
many examples, one slot that knows the beginning is faster than all of them; so the first answers are made one after
the other, and what they cost decides.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from ..errors import LLMMagicsError
from ..values.answers import Chunk, Usage
from ..values.asking import GenerationOptions
from ..values.messages import Prompt

Stream = Callable[[Prompt, GenerationOptions, threading.Event], Iterator[Chunk]]
Found = tuple[int, Chunk | LLMMagicsError]

_TRIED = 3  # prompts that are answered one after the other before it is decided
_READING = 0.25  # what reading a token of a prompt costs on a CPU, of writing one: docs/decisions.md
_SAVED = 0.45  # of the cost of writing that answering with all slots saves
_LOOK = 0.05  # seconds between two looks at the stop event


def stream_batch(
    stream: Stream,
    prompts: Sequence[Prompt],
    options: GenerationOptions,
    stop: threading.Event,
    *,
    slots: int,
    context: int,
    gpu: bool,
) -> Iterator[Found]:
    """Answer several prompts. See ``BatchEngine.stream_batch``.

    Args:
        stream: the engine's own, for one prompt.
        prompts: any number of them.
        options: how to choose tokens, for all of them.
        stop: when set, what is not complete is given up.
        slots: prompts that the server answers at once.
        context: tokens that all slots have together.
        gpu: whether a GPU computes: there reading costs next to nothing.
    """
    # Prompts that begin alike come one after the other: a slot reads only what is new.
    order = sorted(range(len(prompts)), key=lambda number: prompts[number].text)
    tried = order if len(order) <= _TRIED else order[:_TRIED]
    usages: list[Usage] = []
    for number in tried:
        found = _whole(stream, prompts[number], options, stop)
        if found is None:
            return
        if isinstance(found, Chunk):
            usages.append(found.usage)
        yield number, found
    rest = order[len(tried) :]
    longest = max((prompts[number].token_count for number in rest), default=0) + options.max_new_tokens
    at_once = min(slots, len(rest), max(1, context // longest if longest else 1))
    if not gpu and not _pays(usages, len(rest), at_once):
        at_once = 1
    yield from _at_once(stream, [(number, prompts[number]) for number in rest], options, stop, max(1, at_once))


def _pays(usages: Sequence[Usage], rest: int, slots: int) -> bool:
    """Whether what all slots save in writing is more than what they read again."""
    if not usages:
        return slots > 1
    written = sum(usage.new_tokens for usage in usages) / len(usages)
    known = max(usage.cached_tokens for usage in usages)
    return rest * written * _SAVED > (slots - 1) * known * _READING


def _at_once(
    stream: Stream,
    numbered: Sequence[tuple[int, Prompt]],
    options: GenerationOptions,
    stop: threading.Event,
    slots: int,
) -> Iterator[Found]:
    """Answers in the order in which they are complete, ``slots`` of them in the making at any time."""
    done: queue.SimpleQueue[tuple[int, Chunk | BaseException | None]] = queue.SimpleQueue()
    given_up = threading.Event()

    def answer(number: int, prompt: Prompt) -> None:
        try:
            done.put((number, _whole(stream, prompt, options, given_up)))
        except BaseException as error:  # a bug, raised again where somebody sees it
            done.put((number, error))

    with ThreadPoolExecutor(slots, "llm_magics batch") as threads:
        try:
            for number, prompt in numbered:
                threads.submit(answer, number, prompt)
            left = len(numbered)
            while left:
                try:
                    number, found = done.get(timeout=_LOOK)
                except queue.Empty:
                    if stop.is_set():
                        return
                    continue
                left -= 1
                if isinstance(found, Chunk | LLMMagicsError):
                    yield number, found
                elif found is not None:
                    raise found
                if stop.is_set():
                    return
        finally:
            given_up.set()
            threads.shutdown(cancel_futures=True)


def _whole(
    stream: Stream, prompt: Prompt, options: GenerationOptions, stop: threading.Event
) -> Chunk | LLMMagicsError | None:
    """One answer in one piece; None after a stop."""
    text = ""
    try:
        for chunk in stream(prompt, options, stop):
            text += chunk.text
    except LLMMagicsError as error:
        return error
    return None if chunk.stop_reason == "stopped" else Chunk(text, chunk.usage, chunk.stop_reason)
