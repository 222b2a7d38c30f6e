"""Shows a running answer, and holds the two ways to stop it.

The stream runs in a worker thread; the main thread waits and paints. Only so does a click on Stop,
which arrives in a subshell, and an interrupt, which only reaches the main thread, end it within a
token. The function returns when the answer is complete: Run All must not start the next cell on half
an answer.
"""

from __future__ import annotations

import time
from typing import Any

from ..errors import Interrupted
from ..values.answers import Answer, AnswerStream, Chunk
from .formatters import captured, mark_shown
from .live import FinalView, NotebookView, SilentView, TerminalView, View
from .output import in_terminal
from .worker import Interrupts, Worker

_TICK = 0.05
"""Seconds between two looks at the keyboard."""

_LEISURE = 4.0
"""A repaint holds the interpreter that the model also needs, so after one that took s seconds, wait 4 s."""


def show_answer(
    stream: AnswerStream,
    *,
    shell: Any,
    updates_per_second: float = 10.0,
    live: bool = True,
    silent: bool = False,
    view: View | None = None,
) -> Answer:
    """Run an answer to its end and show it as it grows.

    Args:
        stream: the answer; it is iterated in a thread of its own.
        shell: the IPython shell; one with a kernel gets a card, any other gets printed text.
        updates_per_second: repaints a second at most.
        live: show the text as it grows; if not, only when it is complete, with the figures and the way to stop
            it before.
        silent: run it and show nothing.
        view: where it is shown, if not in the output of the cell that runs.

    Returns:
        The answer; after a click on Stop the partial one, with ``stop_reason`` ``stopped``.

    Raises:
        Interrupted: the kernel was interrupted; carries the partial answer. A second interrupt does
            not wait for the model to come back, a third one ends whatever hangs.
        Exception: whatever the stream raised, with its own traceback.
    """
    view = view or (SilentView() if silent else _view(stream, shell))
    interval = 1.0 / updates_per_second if live else float("inf")
    worker: Worker[Chunk] = Worker(stream)
    interrupts = Interrupts()
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
    if in_terminal(shell):
        return TerminalView(stream)
    final = captured() is not None or not stream.model  # what no model answers is there at once
    return FinalView(shell) if final else NotebookView(stream, shell)


def _pump(stream: AnswerStream, worker: Worker[Chunk], view: View, interrupts: Interrupts, interval: float) -> None:
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
            view.tick(worker.pieces[-1].usage if worker.pieces else None)
    view.paint(worker.take())


def _answer_of(stream: AnswerStream, worker: Worker[Chunk]) -> Answer | None:
    """The answer, or what there is of it where the stream failed or does not come back."""
    carried = getattr(worker.error, "answer", None)
    if isinstance(carried, Answer):
        return carried
    if worker.done.is_set() and worker.error is None:
        return stream.answer
    chunks = list(worker.pieces)
    if not any(chunk.text for chunk in chunks) and worker.error is not None:
        return None
    return stream.partial(chunks)


def _interrupted_after(answer: Answer | None) -> str:
    tokens = answer.usage.new_tokens if answer is not None else 0
    if not tokens:
        return "stopped before the first token"
    return f"stopped after {tokens} token{'s' if tokens > 1 else ''}; the partial answer is in _"
