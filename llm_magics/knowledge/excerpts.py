"""The few sentences of a passage that a model is given to read.

A small model answers better from a quarter of the text: of twenty questions with the right passage it
answered 10 to 11 with 250 characters round the answer and 6 to 8 with 1,000. So each passage is cut to
the run of sentences that is nearest to the question, by words and, where an embedder is given, by meaning.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Sequence

from ..messages import Passage
from .base import TextEmbedder
from .keywords import KeywordIndex
from .splitting import outline

SIZE = 300  # characters of an excerpt
COUNT = 3  # excerpts that a model is given

_EDGE = re.compile(r"(?<=[.!?:])\s+(?=\S)|\n\s*\n\s*|\n(?=\S)")


def excerpts(
    question: str,
    passages: Sequence[Passage],
    *,
    size: int = SIZE,
    count: int = COUNT,
    embedder: TextEmbedder | None = None,
) -> tuple[Passage, ...]:
    """Cut passages to what is nearest to a question.

    Args:
        question: in a person's words.
        passages: what was found, the best first.
        size: longest excerpt in characters; one sentence that is longer is kept whole up to twice that.
        count: excerpts at most.
        embedder: compares by meaning too; without it shared words alone decide.

    Returns:
        Excerpts, the nearest first, at most one a passage. Their offsets are those in the source, and their
        place names the definition or list that they stand in.
    """
    spans = [(passage, *span) for passage in passages for span in _windows(passage.text, size)]
    if not spans:
        return ()
    labels = [" > ".join((passage.name, *outline(passage.text, start))) for passage, start, _ in spans]
    texts = [f"{label}\n{span[0].text[span[1] : span[2]]}" for label, span in zip(labels, spans, strict=True)]
    scores = dict(KeywordIndex(dict(enumerate(texts))).search(question, len(texts)))
    ranks = {id(passage): 1 / (_RANK + rank) for rank, passage in enumerate(passages)}
    total = [scores.get(row, 0.0) + ranks[id(span[0])] for row, span in enumerate(spans)]
    if embedder is not None:
        cosines = embedder.vectors(texts) @ embedder.question(question)
        total = [value + float(cosine) for value, cosine in zip(total, cosines, strict=True)]
    best: dict[int, int] = {}
    for row in sorted(range(len(spans)), key=lambda row: -total[row]):
        best.setdefault(id(spans[row][0]), row)
    return tuple(_cut(*spans[row]) for row in list(best.values())[:count])


_RANK = 4  # what the order of the passages counts for beside the nearness of their sentences


def _windows(text: str, size: int) -> list[tuple[int, int]]:
    """Runs of whole sentences up to the size, one beginning at each sentence."""
    edges = [0, *(found.end() for found in _EDGE.finditer(text)), len(text)]
    units = [(a, b) for a, b in itertools.pairwise(edges) if text[a:b].strip()]
    found: list[tuple[int, int]] = []
    for first, (start, end) in enumerate(units):
        for _, further in units[first + 1 :]:
            if further - start > size:
                break
            end = further
        found.append((start, min(end, start + 2 * size)))
        if end == units[-1][1]:
            break
    return found


def _cut(passage: Passage, start: int, end: int) -> Passage:
    start += len(passage.text[start:end]) - len(passage.text[start:end].lstrip())
    text = passage.text[start:end].rstrip()
    above = outline(passage.text, start)
    place = " > ".join(part for part in (passage.place, *above) if part)
    matches = tuple((a - start, b - start) for a, b in passage.matches if start <= a and b <= start + len(text))
    begin = passage.start + start
    return dataclasses.replace(passage, text=text, start=begin, end=begin + len(text), place=place, matches=matches)
