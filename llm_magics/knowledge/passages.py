"""What searches have in common: rankings joined into one, and neighbouring chunks into one passage."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Protocol, TypeVar

from .base import Chunk, Document
from .splitting import outline

T = TypeVar("T")

_NUMBERED = ("line", "page", "slide", "part")  # places that say where, not what it is about
RRF = 60  # the constant of reciprocal rank fusion, as in its paper


def fused(rankings: Sequence[Sequence[T]]) -> list[T]:
    """Several rankings as one: reciprocal rank fusion, Cormack et al. 2009 (doi:10.1145/1571941.1572114).

    Args:
        rankings: the best first in each; what is missing in one gets nothing from it.

    Returns:
        Everything that is in any of them, the best first.
    """
    sums: dict[T, float] = {}
    for ranking in rankings:
        for rank, item in enumerate(ranking, start=1):
            sums[item] = sums.get(item, 0.0) + 1 / (RRF + rank)
    return sorted(sums, key=lambda item: -sums[item])


def grouped(ranked: Sequence[tuple[str, int, float]], k: int) -> list[tuple[str, set[int], float]]:
    """The first ``k`` places of a ranking, neighbours joined to the better of the two, each chunk once.

    Args:
        ranked: source, place among the chunks of its source, and score; the best first.
        k: how many groups at most.

    Returns:
        Source, places without a gap, and score of each group, the best first.
    """
    groups: list[tuple[str, set[int], float]] = []
    for name, place, score in ranked[: 2 * k]:  # a run of neighbours must not become the whole document
        near = [group for group in groups if group[0] == name and group[1] & {place - 1, place + 1}]
        if near:
            near[0][1].add(place)
            for other in near[1:]:  # it stood between the two
                near[0][1].update(other[1])
                groups.remove(other)
        elif len(groups) < k:
            groups.append((name, {place}, score))
        else:
            break
    return groups


class _Cut(Protocol):
    @property
    def chunks(self) -> Sequence[Chunk]: ...


C = TypeVar("C", bound=_Cut)


def in_groups(sources: Iterable[C], size: int) -> Iterator[list[C]]:
    """Sources that are written together: whole ones, as many as bring a group to ``size`` chunks.

    Args:
        sources: each with its chunks.
        size: chunks at which a group is closed.
    """
    group: list[C] = []
    for source in sources:
        group.append(source)
        if sum(len(member.chunks) for member in group) >= size:
            yield group
            group = []
    if group:
        yield group


def place_of(labels: Sequence[str]) -> str:
    """Where a passage stands, from the places of its chunks in order."""
    first, last = labels[0], labels[-1]
    if first == last or last.startswith(f"{first} > "):  # what follows a heading leads into the one below it
        return last
    paths = first.split(" > "), last.split(" > ")
    above = zip(paths[0][:-1], paths[1][:-1], strict=False)
    shared = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], above)))
    from_, to = (" > ".join(path[shared:]) for path in paths)
    return " > ".join([*paths[0][:shared], f"{from_} to {to}"])


def heading(document: Document, chunk: Chunk) -> str:
    """What is embedded in front of a chunk: its source's name, its headings, and the term or list it hangs under.

    A piece cut from a manual seldom says what it is about. A document that was not cut has nothing in front.
    """
    if not chunk.place and chunk.end - chunk.start >= len(document.text.strip()):
        return ""
    headings = "" if chunk.place.startswith(_NUMBERED) else chunk.place
    above = [PurePosixPath(document.source).stem, headings, *outline(document.text, chunk.start)]
    return f"{' > '.join(part for part in above if part)}\n"


def unit(score: float) -> float:
    """A score cut to 0 to 1."""
    return min(1.0, max(0.0, score))
