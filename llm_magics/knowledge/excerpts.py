"""The few sentences of a passage that a model is given to read.

A small model answers better from a quarter of the text: of twenty questions with the right passage it
answered 10 to 11 with 250 characters round the answer and 6 to 8 with 1,000. So each passage is cut to
the run of sentences that shares most with the question. Comparing them by meaning too took 0.3 s more a
question, and kept the answer in 13 of 20 instead of 12.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Sequence

from ..messages import Passage
from .keywords import KeywordIndex
from .splitting import outline

SIZE = 300  # characters of an excerpt
COUNT = 3  # excerpts that a model is given

_RANK = 4  # what the order of the passages counts for beside the nearness of their sentences
_HINT = 0.15  # what a number counts for where one is asked for

# Questions that a number answers, and numbers: the expected type of the answer (Li and Roth 2002, C02-1150).
_ASKS_NUMBER = re.compile(
    r"\bhow (?:many|much|long|often|large|big|old|far|fast|high)\b"
    r"|\b(?:number|value|size|limit|port|percentage|status|code|default|maximum|minimum|largest|smallest)\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"\b\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|hundred|thousand|million)\b", re.IGNORECASE
)
_EDGE = re.compile(r"(?:(?<=[.!?])|(?<=\w:))\s+(?=\S)|\n\s*\n\s*|\n(?=[^\s:])")  # a term stays with its description


def excerpts(
    question: str, passages: Sequence[Passage], *, size: int = SIZE, count: int = COUNT
) -> tuple[Passage, ...]:
    """Cut passages to what is nearest to a question.

    Args:
        question: in a person's words.
        passages: what was found, the best first.
        size: longest excerpt in characters; one sentence that is longer is kept whole up to twice that.
        count: excerpts at most.

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
    if _ASKS_NUMBER.search(question):
        found = (bool(_NUMBER.search(passage.text, start, end)) for passage, start, end in spans)
        total = [value + _HINT * numbers for value, numbers in zip(total, found, strict=True)]
    best: dict[int, int] = {}
    for row in sorted(range(len(spans)), key=lambda row: -total[row]):
        best.setdefault(id(spans[row][0]), row)
    return tuple(_cut(*spans[row]) for row in list(best.values())[:count])


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
