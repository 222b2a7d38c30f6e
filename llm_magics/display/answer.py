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
from .worker import Worker, watched

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
    answer: Answer | None = None

    def finish(worker: Worker[Chunk], interrupted: bool) -> None:
        nonlocal answer
        view.paint(worker.take())
        answer = _answer_of(stream, worker)
        if answer is not None and not silent:
            mark_shown(shell, answer, above="the answer above")
        view.finish(answer, failed=worker.error is not None and not interrupted)

    paint = _Painter(view, 1.0 / updates_per_second if live else float("inf"))
    worker, interrupted = watched(stream, begin=view.start, paint=paint, finish=finish)
    if interrupted:
        raise Interrupted(_interrupted_after(answer), answer=answer)
    worker.reraise()
    return stream.answer


def _view(stream: AnswerStream, shell: Any) -> View:
    """Where there is a kernel a card, else printed text."""
    if in_terminal(shell):
        return TerminalView(stream)
    final = captured() is not None or not stream.model  # what no model answers is there at once
    return FinalView(shell) if final else NotebookView(stream, shell)


class _Painter:
    """Paints what has come, once an interval and with leisure; in between the view only hears that time goes by."""

    def __init__(self, view: View, interval: float) -> None:
        self._view = view
        self._interval = interval
        self._due = 0.0 if interval < float("inf") else interval

    def __call__(self, worker: Worker[Chunk]) -> None:
        begin = time.monotonic()
        if begin < self._due:
            self._view.tick(worker.latest.usage if worker.latest else None)
            return
        self._view.paint(worker.take())
        self._due = begin + max(self._interval, _LEISURE * (time.monotonic() - begin))


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
