"""What chains ask of a session, and whose turn it is."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from ..values.answers import AnswerStream
from ..values.asking import AskRequest
from ..values.knowledge import RetrievalRequest
from ..values.messages import Example, Message

T = TypeVar("T")


class Asks(Protocol):
    """The part of a session that chains use."""

    def ask_messages(self, messages: Sequence[Message], request: AskRequest | None = None) -> AnswerStream:
        """Ask with these messages alone."""

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
        """Ask a knowledge base."""


class Turn:
    """One answer at a time: a batch, and chains side by side, wait for one another.

    A thread that asks while its own stream is still open is let through: waiting for itself would never
    end, and the model says that it is busy.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holder = 0

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for the turn and keep it. Another thread may end it, as when an open stream is collected."""
        if self._holder == threading.get_ident():
            yield
            return
        with self._lock:
            self._holder = threading.get_ident()
            try:
                yield
            finally:
                self._holder = 0


async def in_thread(work: Callable[[threading.Event], Iterator[T]]) -> AsyncIterator[T]:
    """Run a generator to its end in one thread, and pass on what it yields.

    One thread from the first item to the last: were each item fetched by whichever thread is free, those
    that wait for their turn could take all threads, and the one whose turn it is would never go on.

    Args:
        work: makes the generator; the event is set when nobody listens any more, as after a cancellation.

    Yields:
        The generator's items.
    """
    stop, loop, done = threading.Event(), asyncio.get_running_loop(), object()
    items: asyncio.Queue[object] = asyncio.Queue()

    def run() -> None:
        try:
            for item in work(stop):
                loop.call_soon_threadsafe(items.put_nowait, item)
                if stop.is_set():
                    return
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(items.put_nowait, done)

    running = asyncio.ensure_future(asyncio.to_thread(run))
    running.add_done_callback(lambda task: task.cancelled() or task.exception())  # heard, also where nobody waits
    try:
        while (item := await items.get()) is not done:
            yield item  # type: ignore[misc]
        await running
    finally:
        stop.set()


def texts(stop: Sequence[str] | str | None) -> tuple[str, ...]:
    """The texts at which an answer ends, which many write as one text."""
    return (stop,) if isinstance(stop, str) else tuple(stop or ())
