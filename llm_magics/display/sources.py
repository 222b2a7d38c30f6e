"""The passages that an answer was made from: a numbered list of folds, and lines of plain text.

Pure functions. Names, titles and passages come from documents that anybody may have written: each of them
passes through ``markdown.escape``. The folds are ``<details>``, so they open by mouse and keyboard without
a script, in a saved notebook too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..values.knowledge import Passage
from .markdown import NO_MATHS, Cited, breakable, escape, printable

LONGEST = 20_000
"""Characters of a passage that a card shows. A source that was not cut may be a whole book."""

ORDER = "best first by words and meaning together"
"""Why sources can stand in another order than their scores: a score is of a whole passage and of one of the two."""


def new_key() -> str:
    """What the anchors of one card begin with, so that two cards on a page do not lead into each other."""
    return f"llm-{os.urandom(4).hex()}"


def anchors(sources: Sequence[Passage], key: str) -> Cited:
    """What each citation leads to: the name of the anchor, and the name of the source.

    Args:
        sources: the passages, number 1 first.
        key: what ``new_key`` gave for this card.
    """
    return {number: (f"{key}-{number}", one_line(source.name)) for number, source in enumerate(sources, start=1)}


def sources_html(sources: Sequence[Passage], key: str = "", *, unfolded: int = 0) -> str:
    """The list of sources.

    Args:
        sources: the passages, number 1 first; none gives an empty text.
        key: what ``new_key`` gave for this card; empty where nothing leads here.
        unfolded: how many of the first ones are open.
    """
    folds = "".join(
        _fold(number, source, f"{key}-{number}" if key else "", number <= unfolded)
        for number, source in enumerate(sources, start=1)
    )
    if not folds:
        return ""
    title = '<div class="llm-d">Sources</div>'
    order = "" if _by_score(sources) else f'<div class="llm-order llm-note">{ORDER}</div>'
    return f'<div class="llm-sources {NO_MATHS}" role="group" aria-label="Sources">{title}{order}{folds}</div>'


def sources_text(sources: Sequence[Passage]) -> str:
    """The list of sources in lines, without the passages.

    Args:
        sources: the passages, number 1 first; none gives an empty text.
    """
    if not sources:
        return ""
    title = "Sources" if _by_score(sources) else f"Sources, {ORDER}"
    return "\n".join([title, *map(_line, range(1, len(sources) + 1), sources)])


def sources_with_text(sources: Sequence[Passage]) -> str:
    """Each source in a line, and below it its passage in full.

    Args:
        sources: the passages, number 1 first.
    """
    blocks = [f"{_line(number, source)}\n{printable(source.text)}" for number, source in enumerate(sources, start=1)]
    return "\n\n".join(blocks if _by_score(sources) else [f"Sources, {ORDER}", *blocks])


def _by_score(sources: Sequence[Passage]) -> bool:
    """Whether the order is that of the scores, as a person sees them."""
    scores = [round(source.score, 2) for source in sources]
    return scores == sorted(scores, reverse=True)


def one_line(name: str) -> str:
    """A name from outside without line breaks and control characters."""
    return " ".join(printable(name).split())


def _line(number: int, source: Passage) -> str:
    return f"[{number}] {one_line(source.name)}  {source.score:.2f}"


def _fold(number: int, source: Passage, anchor: str, unfolded: bool) -> str:
    # JupyterLab looks a link's target up by its id and, where it finds one, scrolls to it without opening the
    # fold. A name it does not find, so the browser follows the link, which opens the folds around the target.
    target = f'<a class="llm-target" name="{escape(anchor)}"></a>' if anchor else ""
    score = f"{min(max(source.score, 0.0), 1.0):.2f}"
    return (
        f'<details class="llm-source"{" open" if unfolded else ""}><summary><b>[{number}]</b> '
        f'<span class="llm-name">{breakable(one_line(source.name))}</span><span class="llm-d"> · </span>'
        f'<progress max="1" value="{score}" aria-label="score"></progress> <span class="llm-score">{score}</span>'
        f'</summary><div class="llm-passage">{target}{_passage(source)}</div></details>'
    )


def _passage(source: Passage) -> str:
    """The text, escaped, with the words of the question marked; line ends hold without a style sheet too."""
    text, pieces, end = source.text[:LONGEST], [], 0
    for start, stop in sorted(source.matches):
        if end <= start < stop <= len(text):
            pieces.append(f'{escape(text[end:start])}<u class="llm-match">{escape(text[start:stop])}</u>')
            end = stop
    pieces.append(escape(text[end:]))
    if len(source.text) > LONGEST:
        pieces.append(f'…\n<i class="llm-note">{len(source.text) - LONGEST:,} more characters are not shown</i>')
    return "".join(pieces).strip("\n").replace("\n", "<br>")
