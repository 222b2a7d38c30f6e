"""How a fine-tuning job is shown while it runs: a card in a notebook, a line that changes where nobody looks at it,
and in a terminal a line every few seconds.

The job runs in processes of its own; here its events are read and painted. A click on Stop and an interrupt
both end it after the step that it is in.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from ..errors import Interrupted
from ..values.training import TrainingEvent, TrainingRun, TriedOut
from . import card
from .live import Slot, StopButton
from .output import in_terminal, show_bundle, write
from .training import figures, loss_curve, progress_bar, progress_line, training_bundle, tried_bundle

_TITLE = "%llm_finetune"
_SECONDS_A_LINE = 5.0
_SHARE_A_LINE = 0.02  # of the time so far: a job of hours does not print thousands of lines
_LEISURE = 4.0  # a look at a long job reads many events: after one that took s seconds, wait 4 s


class Followed(Protocol):
    """A job, as much of it as is needed to show it."""

    def follow(self, interval: float = 0.25) -> Iterator[tuple[TrainingEvent, ...]]:
        """What is new, at every look, until its processes have ended."""
        ...

    def run(self) -> TrainingRun:
        """How it stands."""
        ...

    def ask_to_stop(self) -> None:
        """Let it end after its step."""
        ...

    def stop(self) -> TrainingRun:
        """End it; it saves what it has."""
        ...


class Asked(Protocol):
    """Who asks a tuned model and its base."""

    def try_out(self, run: TrainingRun, stop: threading.Event) -> Iterator[TriedOut]:
        """The questions with both answers, one after the other."""
        ...


class _View(Protocol):
    def paint(self, run: TrainingRun, note: str = "") -> None: ...

    def finish(self, run: TrainingRun | None) -> None: ...


def show_training(job: Followed, *, shell: Any, cell: str, silent: bool = False, updates: float = 4.0) -> TrainingRun:
    """Watch a job to its end.

    Args:
        job: the job.
        shell: the IPython shell.
        cell: identity of the notebook cell; empty where nobody looks at widgets.
        silent: show nothing.
        updates: repaints a second at most.

    Returns:
        How it ended: done, stopped by a click, failed or killed.

    Raises:
        Interrupted: a person stopped it; checkpoint and adapter are saved.
    """
    clicked = threading.Event()
    view = _view(shell, cell, clicked, silent=silent)
    run: TrainingRun | None = None
    try:
        try:
            _watch(job, view, clicked, updates)
            run = _stopped(job, view) if clicked.is_set() else job.run()
        except KeyboardInterrupt:
            run = _stopped(job, view)
            raise Interrupted(_said_of_stop(run)) from None
        return run
    finally:
        view.finish(run)


def _watch(job: Followed, view: _View, clicked: threading.Event, updates: float) -> None:
    due, looked = 0.0, 0.0
    for events in job.follow(1 / updates):
        if clicked.is_set():
            return
        now = time.monotonic()
        if now < due or not (events or now - looked > 1):
            continue
        view.paint(job.run())
        looked = time.monotonic()
        due = looked + _LEISURE * (looked - now)


def _stopped(job: Followed, view: _View) -> TrainingRun:
    job.ask_to_stop()  # before anything is painted: a second interrupt may come at any moment
    view.paint(job.run(), "stopping: the step ends, then checkpoint and adapter are saved")
    return job.stop()


def _said_of_stop(run: TrainingRun) -> str:
    if run.state == "done":
        return f"{run.name} had come to its end; %llm_load {run.name} opens it"
    again = f"%llm_finetune {run.name} --resume"
    if run.state == "failed":
        return f"{run.name} had failed: {run.text}"
    if not run.step:
        return f"{run.name} is stopped before its first step; {again} begins it again"
    if run.backend == "autotrain":
        return f"{run.name} is stopped at step {run.step}; AutoTrain saves nothing before its end, {again} begins anew"
    if not run.adapter:
        return f"{run.name} is ended at step {run.step} of {run.total}; {again} goes on from its last checkpoint"
    return (
        f"{run.name} is stopped at step {run.step} of {run.total}; {again} goes on, "
        f"%llm_load {run.name} tries it as it is"
    )


def show_tried(session: Asked, run: TrainingRun, *, shell: Any, silent: bool = False) -> None:
    """Show base and tuned model side by side, question after question. An interrupt keeps those that are there.

    Args:
        session: asks them.
        run: the job, its adapter attached.
        shell: the IPython shell.
        silent: show nothing, ask nothing.
    """
    if silent:
        return
    slot = None if in_terminal(shell) else Slot(shell)
    done: list[TriedOut] = []
    stop = threading.Event()
    try:
        if slot is not None:
            note = slot.html(card.line(["asking base and tuned model the same questions"]))
            slot.open(slot.html(card.head(_TITLE, f"{run.name} beside its base", "running", "running")), note)
        for one in session.try_out(run, stop):
            done.append(one)
            if slot is not None:
                note.value = card.line([f"{len(done)} asked", one.question[:80]])
    except KeyboardInterrupt:  # the model is there: a person who has seen enough goes on
        pass
    finally:
        stop.set()
        bundle = tried_bundle(run, done) if done else None
        if slot is not None:
            slot.close(bundle)
        elif bundle:
            show_bundle(bundle, shell=shell)


def _view(shell: Any, cell: str, clicked: threading.Event, *, silent: bool) -> _View:
    if silent:
        return _SilentView()
    if in_terminal(shell):
        return _LinesView(shell)
    # nbclient and papermill run cells without an identity, and show no widget that changes.
    return _NotebookView(shell, clicked) if cell else _LineView(shell)


def _line(run: TrainingRun, note: str) -> str:
    """What a job does, in one line, where it is not shown as a card."""
    return f"{run.name} · {note}" if note else progress_line(run)


class _SilentView:
    """Shows nothing."""

    def paint(self, run: TrainingRun, note: str = "") -> None:
        """Nothing to show."""

    def finish(self, run: TrainingRun | None) -> None:
        """Nothing to show."""


class _LinesView:
    """A line every few seconds, ever fewer in a long job; then the final card."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._began = time.monotonic()
        self._due = self._began
        self._last = ""

    def paint(self, run: TrainingRun, note: str = "") -> None:
        """Print a line where it is time for one."""
        now, line = time.monotonic(), _line(run, note)
        if (now < self._due and not note) or line == self._last:
            return
        self._last = line
        self._due = now + max(_SECONDS_A_LINE, _SHARE_A_LINE * (now - self._began))
        write(f"{line}\n")

    def finish(self, run: TrainingRun | None) -> None:
        """Show how it ended."""
        if run is not None:
            show_bundle(training_bundle(run), shell=self._shell)


class _LineView:
    """One line that changes every few seconds, and the final card in its place: a saved notebook holds that alone."""

    def __init__(self, shell: Any) -> None:
        self._slot = Slot(shell)
        self._due = 0.0

    def paint(self, run: TrainingRun, note: str = "") -> None:
        """Change the line where it is time for that."""
        now = time.monotonic()
        if now >= self._due or note:
            self._due = now + _SECONDS_A_LINE
            self._slot.line(_line(run, note))

    def finish(self, run: TrainingRun | None) -> None:
        """Put the final card in place."""
        self._slot.close(None if run is None else training_bundle(run))


class _NotebookView:
    """A live card with the loss curve and a Stop button; then the final card in its place."""

    def __init__(self, shell: Any, clicked: threading.Event) -> None:
        self._slot = Slot(shell)
        self._began = time.monotonic()
        self._stop = StopButton(self._slot, shell, clicked.set, "End the training after this step and keep what it has")
        self._parts: Sequence[Any] = ()

    def paint(self, run: TrainingRun, note: str = "") -> None:
        """Repaint bar, curve and figures."""
        seconds = time.monotonic() - self._began
        hint = [note] if note else self._stop.state(seconds)
        values = (progress_bar(run), loss_curve(run), card.foot([*figures(run), *hint]))
        if not self._parts:
            slot = self._slot
            self._parts = [slot.html(value) for value in values]
            head = slot.html(card.head(_TITLE, f"{run.name} on {run.base}", "running", "running"))
            slot.open(slot.row("llm-live-head", head, self._stop.widget), *self._parts)
        for part, value in zip(self._parts, values, strict=True):
            if part.value != value:
                part.value = value

    def finish(self, run: TrainingRun | None) -> None:
        """Put the final card in place."""
        self._slot.close(None if run is None else training_bundle(run))
