"""What ``%%rag --retrieve-only`` shows: the passages that fit a question, with no model asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..messages import Passage
from .card import card, counted, foot, head
from .markdown import NO_MATHS, escape, printable
from .sources import one_line, passages_text, sources_html


def show_passages(passages: Sequence[Passage], question: str, *, shell: Any, knowledge_base: str) -> None:
    """Show what was found for a question.

    Args:
        passages: what was found, number 1 first; may be none.
        question: what was looked for.
        shell: the IPython shell; one with a kernel gets a card, any other gets printed text.
        knowledge_base: its name.
    """
    found = counted(len(passages), "passage")
    nothing = f"Nothing in {one_line(knowledge_base)} fits the question."
    lines = [f"{found} of {one_line(knowledge_base)} for: {one_line(question)}", passages_text(passages)]
    text = "\n\n".join(lines) if passages else nothing
    if getattr(shell, "kernel", None) is None:
        print(text)
        return
    page = card(
        head("%%rag", knowledge_base, found if passages else "nothing found"),
        sources_html(passages, unfolded=1) or f'<div class="llm-body {NO_MATHS}">{escape(nothing)}</div>',
        foot(["no model was asked"]),
        label=f"{found} of {printable(knowledge_base)} for {printable(question)}",
    )
    shell.display_pub.publish({"text/html": page, "text/plain": text}, {})
