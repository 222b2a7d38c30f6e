"""How the answers to a table's rows are shown: how far they are, then the first rows and the figures.

The rows run in a worker thread and the main thread paints, as for one answer: so an interrupt, which reaches only the
main thread, ends the work within a token, and what is done is kept.
"""

from __future__ import annotations

from typing import Any, Protocol

from ..errors import Interrupted
from ..values.tables import AnswerTable, RowsProgress
from . import card
from .formatters import captured
from .indexing import PATIENCE, TerminalLine
from .live import HINT_AFTER, Slot
from .markdown import printable
from .output import in_terminal
from .sources import one_line
from .tables import table_html, table_lines
from .words import counted, duration, rate
from .worker import Pace, Worker, watched

_SHOWN = 8  # rows of the result
_LONGEST = 80  # characters of a value


class _View(Protocol):
    def paint(self, progress: RowsProgress) -> None: ...

    def finish(self, bundle: dict[str, str] | None) -> None: ...


def show_table(
    table: AnswerTable, *, out: str, shell: Any, silent: bool = False, updates_per_second: float = 10.0
) -> None:
    """Answer all rows and show how far it is, then what came of it.

    Args:
        table: the answers in the making.
        out: the variable that gets the result.
        shell: the IPython shell; one with a kernel gets a card, any other gets printed text.
        silent: run it and show nothing.
        updates_per_second: repaints a second at most.

    Raises:
        Interrupted: a person stopped it; ``table.frame`` holds what is done.
        Exception: whatever the work raised.
    """
    view = None if silent else _view(table, shell)
    pace = Pace(updates_per_second, PATIENCE)

    def paint(worker: Worker[RowsProgress]) -> None:
        if view is not None and worker.latest is not None and pace.due():
            view.paint(worker.latest)

    def finish(worker: Worker[RowsProgress], interrupted: bool) -> None:
        latest = worker.latest
        shown = latest is not None and (worker.error is None or latest.done)
        if view is not None:
            view.finish(result_bundle(table, latest, out, stopped=interrupted) if latest and shown else None)

    worker, interrupted = watched(table, paint=paint, finish=finish)
    if interrupted:
        raise Interrupted(_interrupted(worker.latest, table.total, out))
    worker.reraise()


def progress_items(progress: RowsProgress) -> list[str]:
    """How far the work is, in words.

    Args:
        progress: rows done and in all, and seconds so far.
    """
    items = [f"{progress.done:,} of {counted(progress.total, 'row')}"]
    if progress.done > progress.kept:
        items.append(f"{rate(progress.speed)} rows/s")
        items += [f"{duration(progress.seconds_left)} left"] if progress.done < progress.total else []
    return items + _troubles(progress)


def result_bundle(table: AnswerTable, progress: RowsProgress, out: str, *, stopped: bool) -> dict[str, str]:
    """The final form: HTML and plain text.

    Args:
        table: the answers.
        progress: how far they are.
        out: the variable that gets the result.
        stopped: whether a person stopped it.
    """
    frame = table.frame
    complete = progress.done == progress.total and not stopped
    state, kind = ("done", "") if complete else ("stopped" if stopped else "failed", "warn" if stopped else "failed")
    usage = progress.usage
    items = [f"{progress.done:,} of {counted(progress.total, 'row')}", *_troubles(progress)]
    items += [f"{rate(progress.speed)} rows/s", f"{usage.seconds:.1f} s"] if progress.done > progress.kept else []
    totals = [f"{usage.prompt_tokens:,} prompt + {usage.new_tokens:,} new tokens"] if usage.prompt_tokens else []
    totals.append(f"{out} is a DataFrame of {counted(len(frame), 'row')}, {counted(frame.shape[1], 'column')}")
    columns, rows = _first_rows(frame, table.columns)
    title = f"%%{table.method}"
    page = card.card(
        card.head(title, table.model, state, kind),
        card.line([f"over {one_line(table.source)}", *items]),
        table_html(columns, rows),
        card.foot(totals),
        label=f"{title} over {table.source}, {state}",
    )
    head = f"{title} over {one_line(table.source)}, {state}: {' · '.join(items)}"
    lines = [head, *(table_lines(columns, rows) if rows else []), " · ".join(totals)]
    return {"text/html": page, "text/plain": "\n".join(lines)}


def _first_rows(frame: Any, added: tuple[str, ...]) -> tuple[list[str], list[tuple[object, ...]]]:
    """The first rows: the table's own first columns, and those that were added; a column of errors only if there are
    some."""
    shown = [name for name in added if name != "error" or bool(frame["error"].notna().any())]
    own = [name for name in frame.columns if name not in (*added, "tokens_in", "tokens_out", "seconds")]
    names = [*own[:2], *shown]
    rows = [tuple(_cell(value) for value in row) for row in frame[names].head(_SHOWN).itertuples(index=False)]
    return [printable(str(name)) for name in names], rows


def _cell(value: Any) -> object:
    if isinstance(value, float) and value == value:
        return round(value, 3)
    text = "" if value is None or value != value else one_line(str(value))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _troubles(progress: RowsProgress) -> list[str]:
    items = [f"{progress.kept:,} of {progress.total:,} rows were there already"] if progress.kept else []
    return items + ([f"{progress.failed:,} failed"] if progress.failed else [])


def _interrupted(progress: RowsProgress | None, total: int, out: str) -> str:
    if progress is None or not progress.done:
        return f"stopped before the first of {total:,} rows"
    rest = "running the cell again does the rest"
    return f"stopped after {progress.done:,} of {total:,} rows; they are in {out}, and {rest}"


def _view(table: AnswerTable, shell: Any) -> _View:
    return _TerminalView() if in_terminal(shell) else _NotebookView(table, shell)


class _TerminalView(TerminalLine):
    def paint(self, progress: RowsProgress) -> None:
        self.write_over(progress_items(progress))


class _NotebookView:
    """A card with a bar, from the first time it is painted; then the final card in its place."""

    def __init__(self, table: AnswerTable, shell: Any) -> None:
        self._table = table
        self._slot = Slot(shell)
        self._parts: tuple[Any, Any] | None = None

    def paint(self, progress: RowsProgress) -> None:
        if captured() is not None:
            return
        share, seconds = progress.done / progress.total, progress.usage.seconds
        bar = f'<div class="llm-bar"><progress max="1" value="{share:.4f}" aria-label="rows done"></progress></div>'
        hint = ["To stop and keep what is done: interrupt the kernel (■)"] if seconds > HINT_AFTER else []
        body, foot = bar + card.line(progress_items(progress)), card.foot([f"{seconds:.1f} s", *hint])
        if self._parts is None:
            self._parts = self._slot.html(body), self._slot.html(foot)
            head = card.head(f"%%{self._table.method}", self._table.model, "running", "running")
            self._slot.open(self._slot.html(head), *self._parts)
        self._parts[0].value, self._parts[1].value = body, foot

    def finish(self, bundle: dict[str, str] | None) -> None:
        self._slot.close(bundle)
