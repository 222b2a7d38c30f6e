"""One question in several ways, side by side: cards in a grid, and plain text one below the other.

Each card is filled in its turn. What is saved is one piece of HTML, whose grid falls into a column where a viewer drops
the style sheet; folds are ``<details>``, so that the exact prompt of each answer is a click away without a kernel.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any, Protocol

from ..errors import Interrupted
from ..values.answers import Answer, Chunk
from ..values.comparison import Comparing
from ..values.messages import Prompt
from . import card
from .formatters import captured, mark_shown
from .live import HINT_AFTER, Slot, TerminalView
from .markdown import NO_MATHS, escape, printable
from .output import in_terminal
from .prompt import show_prompt
from .sources import sources_html
from .words import counted
from .worker import Pace, Worker, watched

TITLE = "%%llm_compare"


def comparison_html(titles: Sequence[str], answers: Sequence[Answer]) -> str:
    """The cards of some answers in a grid.

    Args:
        titles: how each was asked.
        answers: as many answers.
    """
    state, kind = ("stopped", "warn") if any(a.stop_reason == "stopped" for a in answers) else ("done", "")
    cells = "".join(f'<div class="llm-cell">{_cell(*pair)}</div>' for pair in zip(titles, answers, strict=True))
    return card.card(
        card.head(TITLE, _counted(len(titles)), state, kind),
        f'<div class="llm-grid">{cells}</div>',
        label=f"Comparison of {_counted(len(titles))}, {state}",
    )


def comparison_text(titles: Sequence[str], answers: Sequence[Answer]) -> str:
    """The same as plain text.

    Args:
        titles: how each was asked.
        answers: as many answers.
    """
    parts = []
    for title, answer in zip(titles, answers, strict=True):
        costs = " · ".join([card.state_of(answer)[0], *card.costs(answer.usage, answer.options)])
        parts.append(f"── {printable(_named(title, answer.model))} ──\n{card.said(answer).rstrip()}\n({costs})")
    return "\n\n".join(parts)


def show_comparison(comparing: Comparing, *, shell: Any, updates_per_second: float = 10.0, silent: bool = False) -> Any:
    """Ask in all ways and show the answers side by side as they grow.

    Args:
        comparing: the question on its way; it is iterated in a thread of its own.
        shell: the IPython shell; one with a kernel gets cards, any other gets printed text.
        updates_per_second: repaints a second at most.
        silent: run it and show nothing.

    Returns:
        The ``Comparison``.

    Raises:
        Interrupted: the kernel was interrupted; carries the answers that there are. A second interrupt does not
            wait for the model to come back, a third one ends whatever hangs.
        Exception: whatever was raised while it ran.
    """
    view = _SilentView() if silent else _view(comparing, shell)
    pace = Pace(updates_per_second)

    def paint(worker: Worker[tuple[int, Chunk]]) -> None:
        if pace.due():
            view.paint(worker.take())

    def finish(worker: Worker[tuple[int, Chunk]], interrupted: bool) -> None:
        view.paint(worker.take())
        view.finish(list(comparing.answers))

    worker, interrupted = watched(comparing, begin=view.start, paint=paint, finish=finish)
    result = comparing.result if comparing.answers else None
    if result is not None:
        mark_shown(shell, result, above="the comparison above")
    if interrupted:
        done = f"stopped after {counted(len(comparing.answers), 'answer')}; what there is is in _"
        raise Interrupted(done if comparing.answers else "stopped before the first answer", answer=result)
    worker.reraise()
    return result


def show_prompts(titles: Sequence[str], prompts: Sequence[Prompt], *, shell: Any) -> None:
    """Show what would be sent in each way.

    Args:
        titles: how each would be asked.
        prompts: as many prompts.
        shell: the IPython shell.
    """
    for title, prompt in zip(titles, prompts, strict=True):
        if in_terminal(shell):
            print(f"── {printable(title)} ──")
        show_prompt(prompt, shell=shell)


def _view(comparing: Comparing, shell: Any) -> _View:
    if in_terminal(shell):
        return _TerminalView(comparing)
    return _NotebookView(comparing, shell)


def _cell(title: str, answer: Answer) -> str:
    """One answer as it stands in the grid."""
    state, kind = card.state_of(answer)
    said = card.body(answer) if answer.text else f'<div class="llm-none" role="note">{card.without_text(answer)}</div>'
    parts = [
        card.head(title, "" if _names(title, answer.model) else answer.model, state, kind),
        card.reasoning(answer, {}),
        said,
        sources_html(answer.sources),
        _prompt(answer.prompt),
        card.foot(card.costs(answer.usage, answer.options) if card.asked(answer) else []),
    ]
    return "".join(part for part in parts if part)


def _prompt(text: str) -> str:
    return (
        f'<details class="llm-fold"><summary>Exact prompt</summary><div class="llm-body {NO_MATHS}">'
        f'<pre class="llm-joined">\n<code>{escape(text)}</code></pre></div></details>'
        if text
        else ""
    )


def _counted(number: int) -> str:
    return counted(number, "way")


def _named(title: str, model: str) -> str:
    return title if not model or _names(title, model) else f"{title} · {model}"


def _names(title: str, model: str) -> bool:
    """Whether the title names the model already, as in ``my-tuned+rag at 0.7``."""
    return f"+{model}+" in f"+{title.rpartition(' at ')[0] or title}+"


class _View(Protocol):
    def start(self) -> None: ...

    def paint(self, pieces: Sequence[tuple[int, Chunk]]) -> None: ...

    def finish(self, answers: Sequence[Answer]) -> None: ...


class _SilentView:
    """Shows nothing."""

    def start(self) -> None: ...

    def paint(self, pieces: Sequence[tuple[int, Chunk]]) -> None: ...

    def finish(self, answers: Sequence[Answer]) -> None: ...


class _TerminalView:
    """Prints each answer as it comes, below its title."""

    def __init__(self, comparing: Comparing) -> None:
        self._comparing = comparing
        self._views = [TerminalView(stream) for stream in comparing.streams]
        self._begun = self._ended = 0

    def start(self) -> None: ...

    def paint(self, pieces: Sequence[tuple[int, Chunk]]) -> None:
        for place, chunk in pieces:
            self._begin(place)
            self._views[place].paint([chunk])

    def finish(self, answers: Sequence[Answer]) -> None:
        for place in range(len(answers)):
            self._begin(place)
        self._end(len(answers))

    def _begin(self, place: int) -> None:
        """The title, after the costs of the answer before."""
        if place >= self._begun:
            self._end(place)
            title = _named(self._comparing.titles[place], self._comparing.streams[place].model)
            sys.stdout.write(f"{chr(10) if place else ''}── {printable(title)} ──\n")
            self._begun = place + 1

    def _end(self, count: int) -> None:
        for place in range(self._ended, min(count, len(self._comparing.answers))):
            self._views[place].finish(self._comparing.answers[place], failed=False)
            self._ended = place + 1


class _NotebookView:
    """A card for each way from the beginning, filled one after the other; at the end plain HTML in their place."""

    def __init__(self, comparing: Comparing, shell: Any) -> None:
        self._comparing = comparing
        self._slot = Slot(shell)
        self._texts = ["" for _ in comparing.titles]
        self._reasoned = [0 for _ in comparing.titles]
        self._done = 0
        self._cells: list[Any] = []
        self._began = time.monotonic()

    def start(self) -> None:
        if captured() is not None:
            return
        import ipywidgets as W

        self._cells = [self._slot.html(self._waiting(place)) for place in range(len(self._texts))]
        for cell in self._cells:
            cell.add_class("llm-cell")
        grid = self._slot.keep(W.Box(self._cells))
        grid.add_class("llm-grid")
        self._foot = self._slot.html("")
        head = card.head(TITLE, _counted(len(self._texts)), "running", "running")
        self._slot.open(self._slot.html(head), grid, self._foot)

    def paint(self, pieces: Sequence[tuple[int, Chunk]]) -> None:
        last: dict[int, Chunk] = {}
        for place, chunk in pieces:
            self._texts[place] += chunk.text if chunk.part == "answer" else ""
            self._reasoned[place] = chunk.usage.new_tokens if chunk.part == "reasoning" else self._reasoned[place]
            last[place] = chunk
        if not self._cells:
            return
        for place, chunk in last.items():
            self._cells[place].value = self._running(place, chunk)
        for place in range(self._done, len(self._comparing.answers)):
            self._cells[place].value = _cell(self._comparing.titles[place], self._comparing.answers[place])
            self._done = place + 1
        if time.monotonic() - self._began > HINT_AFTER:
            seconds = f"{time.monotonic() - self._began:.1f} s"
            self._foot.value = card.foot([seconds, "To stop: interrupt the kernel (■)"])

    def finish(self, answers: Sequence[Answer]) -> None:
        titles = self._comparing.titles[: len(answers)]
        page, text = comparison_html(titles, answers), comparison_text(titles, answers)
        self._slot.close({"text/html": page, "text/plain": text} if answers else None)

    def _waiting(self, place: int) -> str:
        return self._head(place, "waiting", "")

    def _head(self, place: int, state: str, kind: str) -> str:
        title, model = self._comparing.titles[place], self._comparing.streams[place].model
        return card.head(title, "" if _names(title, model) else model, state, kind)

    def _running(self, place: int, chunk: Chunk) -> str:
        stream, head = self._comparing.streams[place], self._head(place, "running", "running")
        reasoned = card.line([f"reasoning, {self._reasoned[place]} tokens"]) if self._reasoned[place] else ""
        shown = f'<div class="llm-body {NO_MATHS}">{card.piece(self._texts[place], stream.format)}</div>'
        return head + reasoned + shown + card.foot(card.costs(chunk.usage))
