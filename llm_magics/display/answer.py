"""Shows a running answer, and holds the two ways to stop it.

The stream runs in a worker thread; the main thread waits and paints. Only so does a click on Stop,
which arrives in a subshell, and an interrupt, which only reaches the main thread, end it within a
token. The function returns when the answer is complete: Run All must not start the next cell on half
an answer.
"""

from __future__ import annotations

import signal
import threading
import time
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from ..errors import Interrupted, LLMMagicsError
from ..results import Answer, AnswerStream, Chunk, Usage
from .formatters import captured, mark_shown
from .live import FinalView, NotebookView, SilentView, TerminalView, View

_TICK = 0.05
"""Seconds between two looks at the keyboard."""

_LEISURE = 4.0
"""A repaint holds the interpreter that the model also needs, so after one that took s seconds, wait 4 s."""


def show_answer(
    stream: AnswerStream, *, shell: Any, updates_per_second: float = 10.0, live: bool = True, silent: bool = False
) -> Answer:
    """Run an answer to its end and show it as it grows.

    Args:
        stream: the answer; it is iterated in a thread of its own.
        shell: the IPython shell; one with a kernel gets a card, any other gets printed text.
        updates_per_second: repaints a second at most.
        live: show the text as it grows; if not, only when it is complete, with the figures and the way to stop
            it before.
        silent: run it and show nothing.

    Returns:
        The answer; after a click on Stop the partial one, with ``stop_reason`` ``stopped``.

    Raises:
        Interrupted: the kernel was interrupted; carries the partial answer. A second interrupt does
            not wait for the model to come back, a third one ends whatever hangs.
        Exception: whatever the stream raised, with its own traceback.
    """
    view = SilentView() if silent else _view(stream, shell)
    interval = 1.0 / updates_per_second if live else float("inf")
    worker = _Worker(stream)
    interrupts = _Interrupts()
    answer: Answer | None = None
    with interrupts:
        try:
            view.start()
            worker.start()
            _pump(stream, worker, view, interrupts, interval)
        except KeyboardInterrupt:  # the third, or one that did not come as a signal
            interrupts.count += 1
        finally:
            stream.stop()  # whatever ended the loop, the model does not go on unseen
            answer = _answer_of(stream, worker)
            if answer is not None and not silent:
                mark_shown(shell, answer, above="the answer above")
            view.finish(answer, failed=worker.error is not None and not interrupts.count)
    if interrupts.count:
        raise Interrupted(_interrupted_after(answer), answer=answer)
    worker.reraise()
    return stream.answer


def _view(stream: AnswerStream, shell: Any) -> View:
    """Where there is a kernel a card, else printed text."""
    if getattr(shell, "kernel", None) is None:
        return TerminalView(stream)
    final = captured() is not None or not stream.model  # what no model answers is there at once
    return FinalView(shell) if final else NotebookView(stream, shell)


def _pump(stream: AnswerStream, worker: _Worker, view: View, interrupts: _Interrupts, interval: float) -> None:
    """Paint until the worker is done or a second interrupt says not to wait for it."""
    due = 0.0 if interval < float("inf") else interval
    while not worker.done.wait(_TICK) and interrupts.count < 2:
        if interrupts.count:
            stream.stop()
        begin = time.monotonic()
        if begin >= due:
            view.paint(worker.take())
            end = time.monotonic()
            due = begin + max(interval, _LEISURE * (end - begin))
        else:
            view.tick(worker.usage())
    view.paint(worker.take())


class _Worker:
    """Iterates the stream. The main thread takes the chunks from it.

    Args:
        stream: the answer.
    """

    def __init__(self, stream: AnswerStream) -> None:
        self.chunks: list[Chunk] = []
        self.done = threading.Event()
        self.error: BaseException | None = None
        self._stream = stream
        self._taken = 0
        # A daemon: a model that hangs must not keep the kernel from shutting down.
        self._thread = threading.Thread(target=self._run, name="llm_magics answer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def take(self) -> Sequence[Chunk]:
        """The chunks since the last call."""
        new = self.chunks[self._taken :]
        self._taken += len(new)
        return new

    def usage(self) -> Usage | None:
        """What the answer has cost so far; None before the first chunk."""
        return self.chunks[-1].usage if self.chunks else None

    def reraise(self) -> None:
        """Raise here what was raised there, and keep no reference to it: its frames hold tensors."""
        error, self.error = self.error, None
        if error is None:
            return
        try:
            if isinstance(error, LLMMagicsError):
                _clear_frames(error)
            raise error
        finally:
            del error

    def _run(self) -> None:
        try:
            for chunk in self._stream:
                self.chunks.append(chunk)
        except BaseException as error:  # whatever it is, the main thread must hear of it
            self.error = error
        finally:
            self.done.set()


class _Interrupts:
    """Counts interrupts in place of raising them, so that none lands in the middle of a repaint.

    From the third on they raise, so that nothing can hold the kernel. Outside the main thread, which
    never sees a signal, it does nothing.
    """

    def __init__(self) -> None:
        self.count = 0
        self._before: Any = None

    def __enter__(self) -> _Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._pressed)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _pressed(self, number: int, frame: object) -> None:
        # Runs between any two instructions of the main thread: it must take no lock, so it only counts.
        self.count += 1
        if self.count > 2:
            raise KeyboardInterrupt


def _answer_of(stream: AnswerStream, worker: _Worker) -> Answer | None:
    """The answer, or what there is of it where the stream failed or does not come back."""
    carried = getattr(worker.error, "answer", None)
    if isinstance(carried, Answer):
        return carried
    if worker.done.is_set() and worker.error is None:
        return stream.answer
    chunks = list(worker.chunks)
    if not any(chunk.text for chunk in chunks) and worker.error is not None:
        return None
    text = "".join(chunk.text for chunk in chunks if chunk.part == "answer")
    return Answer(
        text,
        reasoning="".join(chunk.text for chunk in chunks if chunk.part == "reasoning"),
        method=stream.method,
        model=stream.model,
        prompt=stream.prompt,
        options=stream.options,
        usage=chunks[-1].usage if chunks else Usage(stream.prompt.token_count),
        stop_reason="stopped",  # by a person, or by the error that the card then shows in its place
        parsed=bool(text),
        output_format=stream.format,
    )


def _interrupted_after(answer: Answer | None) -> str:
    tokens = answer.usage.new_tokens if answer is not None else 0
    if not tokens:
        return "stopped before the first token"
    return f"stopped after {tokens} token{'s' if tokens > 1 else ''}; the partial answer is in _"


def _clear_frames(error: BaseException | None) -> None:
    """Empty the frames behind an error that is shown in one line: IPython keeps them until the next error."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
