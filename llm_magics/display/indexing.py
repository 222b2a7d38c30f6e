"""How documents on their way into a knowledge base are shown: how far they are, then what came of it.

The work runs in the main thread, so that an interrupt reaches it; it is painted from there too, whenever it
tells how far it is. Work that is over before anybody could read a bar shows none.
"""

from __future__ import annotations

import mimetypes
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..values.knowledge import Added, Indexing, IndexingProgress, KnowledgeBaseInfo
from . import card
from .formatters import captured
from .live import HINT_AFTER, Slot
from .markdown import printable
from .output import in_terminal, write
from .sources import one_line
from .tables import table_html
from .words import counted, duration, rate
from .worker import Pace

PATIENCE = 0.3
"""Seconds before there is a bar."""

_TITLE = "%rag_add"
_GONE = "taken out, no longer in what was added"


class _View(Protocol):
    def paint(self, progress: IndexingProgress) -> None: ...

    def finish(self, bundle: dict[str, str] | None) -> None: ...


def show_indexing(indexing: Indexing, *, shell: Any, silent: bool = False, updates_per_second: float = 10.0) -> Added:
    """Run the work and show how far it is, then what came of it.

    Args:
        indexing: the documents on their way.
        shell: the IPython shell; one with a kernel gets a card, any other gets printed text.
        silent: run it and show nothing.
        updates_per_second: repaints a second at most.

    Returns:
        What was added.

    Raises:
        KeyboardInterrupt: a person stopped it; the card says what is kept.
        Exception: whatever the work raised; nothing is left on the page.
    """
    if silent:
        return indexing.run()
    before, began = indexing.info, time.monotonic()
    view = _view(indexing.knowledge_base, shell)
    pace = Pace(updates_per_second, PATIENCE)

    def paint(progress: IndexingProgress) -> None:
        if progress.long or pace.due():
            view.paint(progress)

    bundle: dict[str, str] | None = None
    try:
        added = indexing.run(paint)
        bundle = added_bundle(added, indexing.info)
    except KeyboardInterrupt:
        bundle = stopped_bundle(before, indexing.info, time.monotonic() - began)
        raise
    finally:
        view.finish(bundle)
    return added


def _view(name: str, shell: Any) -> _View:
    return _TerminalView() if in_terminal(shell) else _NotebookView(name, shell)


def added_bundle(added: Added, info: KnowledgeBaseInfo) -> dict[str, str]:
    """The final form of work that was done: HTML and plain text.

    Args:
        added: what came of it.
        info: the knowledge base after it.
    """
    state = "done" if added.new + added.changed + len(added.gone) else "nothing new"
    items = [f"{added.new:,} new", f"{added.changed:,} changed", counted(added.unchanged, "unchanged source")]
    items += [f"{len(added.gone):,} taken out"] if added.gone else []
    if added.chunks:
        items.append(counted(added.chunks, "chunk"))
        items += [f"{rate(added.chunks / added.seconds)} chunks/s"] if added.seconds else []
    return _bundle(info, state, "", [*items, _seconds(added.seconds)], added)


def stopped_bundle(before: KnowledgeBaseInfo, after: KnowledgeBaseInfo, seconds: float) -> dict[str, str]:
    """The final form of work that a person stopped: HTML and plain text.

    Args:
        before: the knowledge base as it was.
        after: as it is now.
        seconds: how long the work ran.
    """
    if not after.embedding:  # it was to be made by this and is not there
        return _bundle(after, "stopped", "warn", ["nothing was added", _seconds(seconds)], None)
    sources, chunks = after.sources - before.sources, after.chunks - before.chunks
    more = f", {counted(chunks, 'chunk')}" if chunks > 0 else ""  # a source that became shorter may outweigh it
    kept = f"{counted(sources, 'new source')}{more} kept, each source whole"
    items = [kept if sources > 0 else "no new source was finished, each source is whole", _seconds(seconds)]
    return _bundle(after, "stopped", "warn", items, None)


def progress_items(progress: IndexingProgress) -> list[str]:
    """How far the work is, in words.

    Args:
        progress: chunks done and in all, seconds so far, and what goes on.
    """
    if progress.status or not progress.total:
        return [one_line(progress.status) or "reading"]
    items = [f"{progress.done:,} of {counted(progress.total, 'chunk')}"]
    if progress.done:
        items += [f"{rate(progress.speed)} chunks/s"]
        items += [f"{duration(progress.seconds_left)} left"] if progress.done < progress.total else []
    return items


def _bundle(info: KnowledgeBaseInfo, state: str, kind: str, items: list[str], added: Added | None) -> dict[str, str]:
    skipped = _skipped(added.skipped) if added else []
    gone = [(name,) for name in (added.gone if added else ())]
    left_out = f"{counted(len(added.skipped) if added else 0, 'source')} skipped"
    taken_out = f"{counted(len(gone), 'source')} {_GONE}"
    name = one_line(info.name)
    totals = (
        []
        if not info.embedding
        else [
            f"{name} holds {counted(info.sources, 'source')}, {counted(info.chunks, 'chunk')}",
            one_line(info.embedding),
            f"{one_line(info.index)} index" if info.index == "exact" else one_line(info.index),
            f"saved in {printable(info.folder)}" if info.folder else "in memory only",
        ]
    )
    page = card.card(
        card.head(_TITLE, name, state, kind),
        card.line(items),
        _fold(taken_out, ("source",), gone),
        _fold(left_out, ("source", "reason"), skipped, unfolded=state == "nothing new"),
        card.foot(totals),
        label=f"{_TITLE} {name}, {state}",
    )
    first = [state] if kind else []
    lines = [
        f"{name}: {' · '.join([*first, *items])}",
        *([" · ".join(totals)] if totals else []),
        *_listed(taken_out, gone),
        *_listed(left_out, skipped),
    ]
    return {"text/html": page, "text/plain": "\n".join(lines)}


def _skipped(skipped: Mapping[str, str]) -> list[tuple[str, str]]:
    """What was skipped, each with its reason; several images in one row: a folder of documents is full of them."""
    rows = [(name, reason.removeprefix(f"{name} ")) for name, reason in skipped.items()]
    images = [row for row in rows if (mimetypes.guess_type(row[0])[0] or "").startswith("image/")]
    if len(images) < 2:
        return rows
    return [*(row for row in rows if row not in images), (f"{len(images):,} images", "no text in them is read")]


def _fold(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, unfolded: bool = False) -> str:
    if not rows:
        return ""
    opened = " open" if unfolded else ""
    return f'<details class="llm-fold"{opened}><summary>{title}</summary>{table_html(columns, rows)}</details>'


def _listed(title: str, rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    return [f"{title}:", *("  " + ": ".join(map(one_line, row)) for row in rows)]


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 0.05 else "under 0.1 s"


class TerminalLine:
    """One line that is written over, where there is somebody to see it; then the final lines."""

    def __init__(self) -> None:
        self._painted = False

    def write_over(self, items: list[str]) -> None:
        """Show these in place of what the line held."""
        if sys.stdout.isatty():
            line = " · ".join(items)[: shutil.get_terminal_size().columns - 1]
            write(f"\r{line}\x1b[K")
            self._painted = True

    def finish(self, bundle: dict[str, str] | None) -> None:
        """Put the final lines in its place; None leaves nothing."""
        write("\r\x1b[K" if self._painted else "")
        write(f"{bundle['text/plain']}\n" if bundle else "")


class _TerminalView(TerminalLine):
    def paint(self, progress: IndexingProgress) -> None:
        self.write_over(progress_items(progress))


class _NotebookView:
    """A card with a bar, from the first time it is painted; then the final card in its place."""

    def __init__(self, name: str, shell: Any) -> None:
        self._name = name
        self._slot = Slot(shell)
        self._parts: tuple[Any, Any] | None = None

    def paint(self, progress: IndexingProgress) -> None:
        if captured() is not None:
            return
        share = progress.done / progress.total if progress.total else 0.0
        bar = f'<div class="llm-bar"><progress max="1" value="{share:.4f}" aria-label="chunks done"></progress></div>'
        hint = ["To stop: interrupt the kernel (■)"] if progress.seconds > HINT_AFTER else []
        body, foot = bar + card.line(progress_items(progress)), card.foot([f"{progress.seconds:.1f} s", *hint])
        if self._parts is None:
            self._parts = self._slot.html(body), self._slot.html(foot)
            self._slot.open(self._slot.html(card.head(_TITLE, self._name, "running", "running")), *self._parts)
        self._parts[0].value, self._parts[1].value = body, foot

    def finish(self, bundle: dict[str, str] | None) -> None:
        self._slot.close(bundle)
