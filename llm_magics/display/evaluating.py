"""Shows a running evaluation: how far it is, the scores so far, then its card.

It runs in a worker thread, so that an interrupt ends it within a token and keeps what is done.
"""

from __future__ import annotations

from typing import Any, Protocol

from ..errors import Interrupted
from ..values.evaluation import Evaluating, EvaluationProgress
from . import card
from .evaluation import TITLE, evaluation_bundle, progress_html, progress_items
from .formatters import captured, mark_shown
from .indexing import PATIENCE, TerminalLine
from .live import HINT_AFTER, Slot
from .markdown import printable
from .output import in_terminal
from .words import counted
from .worker import Pace, Worker, watched

_UPDATES = 4.0
"""Repaints a second: an evaluation takes minutes."""


class _View(Protocol):
    def paint(self, progress: EvaluationProgress) -> None: ...

    def finish(self, bundle: dict[str, str] | None) -> None: ...


def show_evaluation(evaluating: Evaluating, *, shell: Any, silent: bool = False) -> Any:
    """Run an evaluation to its end and show how far it is, then what came of it.

    Args:
        evaluating: the evaluation; it is iterated in a thread of its own.
        shell: the IPython shell; one with a kernel gets a card, any other gets printed text.
        silent: run it and show nothing.

    Returns:
        The ``Evaluation``.

    Raises:
        Interrupted: the kernel was interrupted; carries the evaluation of the rows that are done. A second
            interrupt does not wait for the model to come back, a third one ends whatever hangs.
        Exception: whatever was raised while it ran.
    """
    view = _SilentView() if silent else _view(evaluating.title, shell)
    pace = Pace(_UPDATES, PATIENCE)
    result: Any = None

    def paint(worker: Worker[EvaluationProgress]) -> None:
        if worker.latest is not None and pace.due():
            view.paint(worker.latest)

    def finish(worker: Worker[EvaluationProgress], interrupted: bool) -> None:
        nonlocal result
        result = evaluating.result if worker.done.is_set() and worker.error is None else None
        view.finish(evaluation_bundle(result.report) if result is not None else None)

    worker, interrupted = watched(evaluating, paint=paint, finish=finish)
    if result is not None:
        mark_shown(shell, result, above="the evaluation above")
    if interrupted:
        raise Interrupted(_interrupted(result), answer=result)
    worker.reraise()
    return result


def _interrupted(result: Any) -> str:
    if result is None:
        return "stopped; answers that are done are on disk, and the same line goes on from there"
    done = counted(len(result.report.outcomes), "answer")
    return f"stopped after {done}; what is done is in _, and the same line goes on from there"


def _view(title: str, shell: Any) -> _View:
    return _TerminalView() if in_terminal(shell) else _NotebookView(title, shell)


class _SilentView:
    """Shows nothing."""

    def paint(self, progress: EvaluationProgress) -> None: ...

    def finish(self, bundle: dict[str, str] | None) -> None: ...


class _TerminalView(TerminalLine):
    def paint(self, progress: EvaluationProgress) -> None:
        self.write_over([printable(item) for item in progress_items(progress)])


class _NotebookView:
    """A card with a bar and the scores so far, from the first time it is painted; then the final card in its place."""

    def __init__(self, title: str, shell: Any) -> None:
        self._title = title
        self._slot = Slot(shell)
        self._parts: tuple[Any, Any] | None = None

    def paint(self, progress: EvaluationProgress) -> None:
        if captured() is not None:
            return
        hint = ["To stop: interrupt the kernel (■); what is done is kept"] if progress.seconds > HINT_AFTER else []
        body, foot = progress_html(progress), card.foot([f"{progress.seconds:.1f} s", *hint])
        if self._parts is None:
            self._parts = self._slot.html(body), self._slot.html(foot)
            self._slot.open(self._slot.html(card.head(TITLE, self._title, "running", "running")), *self._parts)
        self._parts[0].value, self._parts[1].value = body, foot

    def finish(self, bundle: dict[str, str] | None) -> None:
        self._slot.close(bundle)
