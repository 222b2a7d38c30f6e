"""What ``%%rag --retrieve-only`` shows: the passages that fit a question, with no model asked."""

from __future__ import annotations

from typing import Any

from ..values.knowledge import Passages
from .card import card, foot, head
from .formatters import mark_shown
from .markdown import NO_MATHS, escape, printable
from .output import show_bundle
from .sources import one_line, sources_html, sources_with_text
from .words import counted


def show_passages(passages: Passages, *, shell: Any, silent: bool = False) -> None:
    """Show what was found for a question.

    Args:
        passages: what was found, number 1 first; may be none.
        shell: the IPython shell; one with a kernel gets a card, any other gets printed text.
        silent: show nothing, at the end of the cell either.
    """
    if silent:
        mark_shown(shell, passages)
        return
    show_bundle({"text/html": passages_html(passages), "text/plain": passages_text(passages)}, shell=shell)
    mark_shown(shell, passages, above="the passages above")


def passages_html(passages: Passages) -> str:
    """The card of what was found, the first passage open.

    Args:
        passages: what was found, number 1 first; may be none.
    """
    found = counted(len(passages), "passage")
    return card(
        head("%%rag", passages.knowledge_base, found if passages else "nothing found"),
        sources_html(passages, unfolded=1) or f'<div class="llm-body {NO_MATHS}">{escape(_nothing(passages))}</div>',
        foot(["no model was asked"]),
        label=f"{found} of {printable(passages.knowledge_base)} for {printable(passages.question)}",
    )


def passages_text(passages: Passages) -> str:
    """The same as plain text, each passage in full.

    Args:
        passages: what was found, number 1 first; may be none.
    """
    if not passages:
        return _nothing(passages)
    found = f"{counted(len(passages), 'passage')} of {one_line(passages.knowledge_base)}"
    return f"{found} for: {one_line(passages.question)}\n\n{sources_with_text(passages)}"


def _nothing(passages: Passages) -> str:
    return f"Nothing in {one_line(passages.knowledge_base)} fits the question."
