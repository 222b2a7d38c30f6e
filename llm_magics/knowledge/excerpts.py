"""The few sentences of the passages that a model is given to read.

A small model answers better from a quarter of the text: of twenty questions with the right passage it
answered 10 to 11 with 250 characters round the answer and 6 to 8 with 1,000. So passages are cut to the runs
of sentences that are nearest to the question, by words and, where an embedder is given, by meaning.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..values.knowledge import Passage
from .base import TextEmbedder
from .keywords import KeywordIndex
from .splitting import outline

SIZE = 300  # characters of an excerpt
COUNT = 3  # excerpts that a model is given
PASSAGES = 5  # passages that they are looked for in
# Where passages are short, such as the rows of a list, twice as many of both, up to so many characters altogether.
MORE = 2
_ROOM, _PASSAGES_ROOM = SIZE + SIZE // 2, PASSAGES * SIZE

_RANK = 12  # what the order of the passages counts for beside the nearness of their sentences
_HINT = 0.3  # what a number counts for where one is asked for
_NEAR = 16  # runs of sentences that are compared by meaning too: each costs a run of the embedder
_EACH = 2  # excerpts of one passage at most

# Questions that a number answers, and numbers: the expected type of the answer (Li and Roth 2002, C02-1150).
_ASKS_NUMBER = re.compile(
    r"\bhow (?:many|much|long|often|large|big|old|far|fast|high)\b"
    r"|\b(?:number|value|size|limit|port|percentage|status|code|default|maximum|minimum|largest|smallest)\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"\b\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|hundred|thousand|million)\b", re.IGNORECASE
)
# Ends of sentences: with white space behind them, and those of Chinese and Japanese, which need none. A paragraph
# and a line that is not indented begin something new; a term stays with its description.
_EDGE = re.compile(
    r"(?:(?<=[.!?\u2026\u061f\u06d4\u0964\u1362])|(?<=\w:))\s+(?=\S)"
    r"|(?<=[\u3002\uff01\uff1f\uff0e\uff61])[\u300d\u300f\uff09\u201d\u2019]*\s*(?=\S)"
    r"|\n\s*\n\s*|\n(?=[^\s:])"
)
_T = TypeVar("_T")
_PIECES = 4  # that a run is made of where there are no sentences


def excerpts(
    question: str,
    passages: Sequence[Passage],
    *,
    size: int = SIZE,
    count: int | None = None,
    embedder: TextEmbedder | None = None,
) -> tuple[Passage, ...]:
    """Cut passages to what is nearest to a question.

    Args:
        question: in a person's words.
        passages: what was found, the best first.
        size: longest excerpt in characters; one sentence that is longer is kept whole up to twice that. What is
            longer still (code, a wide row of a table) is read in pieces of lines, words or characters.
        count: excerpts at most; None for three, or up to six where they are short.
        embedder: compares by meaning; without one shared words decide alone.

    Returns:
        Excerpts, the nearest first, at most two a passage and none that overlap. Their offsets are those in the
        source, and their place names the definition or list that they stand in.
    """
    spans = [
        _Span(passage, rank, *edges) for rank, passage in enumerate(passages) for edges in _windows(passage.text, size)
    ]
    texts = [span.labelled for span in spans]
    shared = dict(KeywordIndex(dict(enumerate(texts))).search(question, len(texts))) if texts else {}
    asks_number = bool(_ASKS_NUMBER.search(question))
    fit = {
        row: shared.get(row, 0.0) + 1 / (_RANK + span.rank) + _HINT * (asks_number and span.holds_number)
        for row, span in enumerate(spans)
    }
    order = sorted(fit, key=lambda row: -fit[row])
    if embedder is not None and order:
        near = order[:_NEAR]
        cosines = embedder.vectors([texts[row] for row in near]) @ embedder.question(question)
        nearness = {row: fit[row] + float(cosine) for row, cosine in zip(near, cosines, strict=True)}
        order = sorted(near, key=lambda row: -nearness[row]) + order[_NEAR:]
    apart = _apart([spans[row] for row in order], count or MORE * COUNT)
    kept = apart if count else _first_of(apart, COUNT, _ROOM, lambda span: span.end - span.start)
    return tuple(_cut(span.passage, span.start, span.end) for span in kept)


def near_passages(passages: Sequence[Passage]) -> Sequence[Passage]:
    """Those that excerpts are looked for in: the first five, or up to ten where they are short.

    Args:
        passages: what was found, the best first.
    """
    return _first_of(passages[: MORE * PASSAGES], PASSAGES, _PASSAGES_ROOM, lambda passage: len(passage.text))


def _first_of(found: Sequence[_T], count: int, room: int, length: Callable[[_T], int]) -> Sequence[_T]:
    """The first ones, and those after them that still fit into a number of characters altogether."""
    lengths = itertools.accumulate(map(length, found))
    return found[: max(count, sum(1 for total in lengths if total <= room))]


def _apart(spans: Sequence[_Span], count: int) -> list[_Span]:
    """The first runs that do not overlap, at most two of a passage, none that says again what another says."""
    taken: list[_Span] = []
    for span in spans:
        same = [other for other in taken if other.rank == span.rank]
        again = any(span.words == other.words for other in taken)
        if len(taken) < count and len(same) < _EACH and not again and not any(map(span.overlaps, same)):
            taken.append(span)
    return taken


@dataclass(frozen=True, slots=True)
class _Span:
    """A run of sentences: its passage, that one's rank, and where it stands in the passage's text."""

    passage: Passage
    rank: int
    start: int
    end: int

    @property
    def labelled(self) -> str:
        label = " > ".join((self.passage.name, *outline(self.passage.text, self.start)))
        return f"{label}\n{self.passage.text[self.start : self.end]}"

    @property
    def words(self) -> list[str]:
        return self.passage.text[self.start : self.end].split()

    @property
    def holds_number(self) -> bool:
        return bool(_NUMBER.search(self.passage.text[self.start : self.end]))

    def overlaps(self, other: _Span) -> bool:
        return self.start < other.end and other.start < self.end


def _windows(text: str, size: int) -> list[tuple[int, int]]:
    """Runs of whole sentences up to the size, one beginning at each sentence."""
    units = _units(text, size)
    found: list[tuple[int, int]] = []
    for first, (start, end) in enumerate(units):
        for _, further in units[first + 1 :]:
            if further - start > size:
                break
            end = further
        found.append((start, end))
        if end == units[-1][1]:
            break
    return found


def _units(text: str, size: int) -> list[tuple[int, int]]:
    """Sentences; of one longer than two runs the lines, or pieces that end at white space where there is some."""
    edges = [0, *(found.end() for found in _EDGE.finditer(text)), len(text)]
    longest = max(1, size // _PIECES)
    piece = re.compile(rf"[^\n]{{0,{longest - 1}}}\n|.{{1,{longest}}}(?:(?<=[\s,;|])|\Z)|.{{1,{longest}}}", re.DOTALL)
    units: list[tuple[int, int]] = []
    for start, end in itertools.pairwise(edges):
        whole = end - start <= 2 * size
        units += [(start, end)] if whole else [found.span() for found in piece.finditer(text, start, end)]
    return [(start, end) for start, end in units if text[start:end].strip()]


def _cut(passage: Passage, start: int, end: int) -> Passage:
    start += len(passage.text[start:end]) - len(passage.text[start:end].lstrip())
    text = passage.text[start:end].rstrip()
    above = outline(passage.text, start)
    place = " > ".join(part for part in (passage.place, *above) if part)
    matches = tuple((a - start, b - start) for a, b in passage.matches if start <= a and b <= start + len(text))
    begin = passage.start + start
    return dataclasses.replace(passage, text=text, start=begin, end=begin + len(text), place=place, matches=matches)
