"""How documents on their way into a knowledge base are shown: how far they are, then what came of it.

The work runs in the main thread, so that an interrupt reaches it; it is painted from there too, whenever it
tells how far it is. Work that is over before anybody could read a bar shows none.
"""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol

from ..results import Added, Indexing, IndexingProgress, KnowledgeBaseInfo
from . import card
from .formatters import captured
from .live import HINT_AFTER, Slot
from .markdown import printable
from .sources import one_line
from .tables import table_html

PATIENCE = 0.3
"""Seconds before there is a bar."""

_TITLE = "%rag_add"


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
    due = began + PATIENCE

    def paint(progress: IndexingProgress) -> None:
        nonlocal due
        if progress.long or time.monotonic() >= due:
            view.paint(progress)
            due = time.monotonic() + 1 / updates_per_second

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
    return _TerminalView() if getattr(shell, "kernel", None) is None else _NotebookView(name, shell)


def added_bundle(added: Added, info: KnowledgeBaseInfo) -> dict[str, str]:
    """The final form of work that was done: HTML and plain text.

    Args:
        added: what came of it.
        info: the knowledge base after it.
    """
    state = "done" if added.new + added.changed else "nothing new"
    items = [f"{added.new:,} new", f"{added.changed:,} changed", card.counted(added.unchanged, "unchanged source")]
    if added.chunks:
        items.append(card.counted(added.chunks, "chunk"))
        items += [f"{_rate(added.chunks / added.seconds)} chunks/s"] if added.seconds else []
    return _bundle(info, state, "", [*items, _seconds(added.seconds)], added)


def stopped_bundle(before: KnowledgeBaseInfo, after: KnowledgeBaseInfo, seconds: float) -> dict[str, str]:
    """The final form of work that a person stopped: HTML and plain text.

    Args:
        before: the knowledge base as it was.
        after: as it is now.
        seconds: how long the work ran.
    """
    sources, chunks = after.sources - before.sources, after.chunks - before.chunks
    kept = f"{card.counted(sources, 'new source')}, {card.counted(chunks, 'chunk')} kept, each source whole"
    items = [kept if sources > 0 else "no new source was finished, each source is whole", _seconds(seconds)]
    return _bundle(after, "stopped", "warn", items, None)


def progress_items(progress: IndexingProgress) -> list[str]:
    """How far the work is, in words.

    Args:
        progress: chunks done and in all, seconds so far, and what goes on.
    """
    if progress.status or not progress.total:
        return [one_line(progress.status) or "reading"]
    items = [f"{progress.done:,} of {card.counted(progress.total, 'chunk')}"]
    if progress.done:
        items += [f"{_rate(progress.speed)} chunks/s"]
        items += [f"{_duration(progress.seconds_left)} left"] if progress.done < progress.total else []
    return items


def _bundle(info: KnowledgeBaseInfo, state: str, kind: str, items: list[str], added: Added | None) -> dict[str, str]:
    # A reason often begins with the name, which stands beside it.
    reasons = added.skipped.items() if added else ()
    skipped = {name: reason.removeprefix(f"{name} ") for name, reason in reasons}
    name = one_line(info.name)
    totals = [
        f"{name} holds {card.counted(info.sources, 'source')}, {card.counted(info.chunks, 'chunk')}",
        one_line(info.embedding),
        f"{one_line(info.index)} index" if info.index == "exact" else one_line(info.index),
        f"saved in {printable(info.folder)}" if info.folder else "in memory only",
    ]
    page = card.card(
        card.head(_TITLE, name, state, kind),
        card.line(items),
        _skipped_html(skipped, unfolded=state == "nothing new"),
        card.foot(totals),
        label=f"{_TITLE} {name}, {state}",
    )
    first = [state] if kind else []
    lines = [f"{name}: {' · '.join([*first, *items])}", " · ".join(totals), *_skipped_lines(skipped)]
    return {"text/html": page, "text/plain": "\n".join(lines)}


def _skipped_html(skipped: Mapping[str, str], *, unfolded: bool) -> str:
    if not skipped:
        return ""
    opened, title = " open" if unfolded else "", card.counted(len(skipped), "source")
    table = table_html(("source", "reason"), [*skipped.items()])
    return f'<details class="llm-fold"{opened}><summary>{title} skipped</summary>{table}</details>'


def _skipped_lines(skipped: Mapping[str, str]) -> list[str]:
    if not skipped:
        return []
    lines = (f"  {one_line(name)}: {one_line(reason)}" for name, reason in skipped.items())
    return [f"{card.counted(len(skipped), 'source')} skipped:", *lines]


def _rate(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 0.05 else "under 0.1 s"


def _duration(seconds: float) -> str:
    """``12 s``, ``3 min``, ``1 h 5 min``."""
    if seconds < 60:
        return f"{max(1, math.ceil(seconds))} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class _TerminalView:
    """One line that is written over, where there is somebody to see it; then the final lines."""

    def __init__(self) -> None:
        self._painted = False

    def paint(self, progress: IndexingProgress) -> None:
        if sys.stdout.isatty():
            line = " · ".join(progress_items(progress))[: shutil.get_terminal_size().columns - 1]
            self._write(f"\r{line}\x1b[K")
            self._painted = True

    def finish(self, bundle: dict[str, str] | None) -> None:
        self._write("\r\x1b[K" if self._painted else "")
        self._write(f"{bundle['text/plain']}\n" if bundle else "")

    @staticmethod
    def _write(text: str) -> None:
        encoding = sys.stdout.encoding or "utf-8"  # a terminal that is not UTF-8 gets what it can show
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()


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
