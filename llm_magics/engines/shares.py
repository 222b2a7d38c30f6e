"""From log probabilities of several answers to the share that each has."""

from __future__ import annotations

import math
from collections.abc import Sequence

_SEEN = 8  # prompts after which it is decided
_ALIKE = 0.01  # natural logarithm: shares then differ by less than a quarter of a per cent


def log_sum(logarithms: Sequence[float]) -> float:
    """Logarithm of the sum of numbers that are given as logarithms, however small they are.

    Args:
        logarithms: natural ones, at least one.
    """
    most = max(logarithms)
    return most + math.log(math.fsum(math.exp(value - most) for value in logarithms))


def shares(logarithms: Sequence[float]) -> tuple[float, ...]:
    """Probabilities that sum to 1.

    Args:
        logarithms: natural ones of numbers in the same proportions.
    """
    whole = log_sum(logarithms)
    return tuple(math.exp(value - whole) for value in logarithms)


class Endings:
    """How probable an end is after each choice, from prompt to prompt.

    Args:
        count: how many choices there are.

    Attributes:
        known: its logarithm for each choice, once the first prompts have all had nearly the same; None before, and
            where they had not.
    """

    def __init__(self, count: int) -> None:
        self.known: list[float] | None = None
        self._seen: list[Sequence[float]] = []
        self._count = count

    def add(self, endings: Sequence[float]) -> None:
        """Note those of one prompt."""
        if self.known is not None or len(self._seen) == _SEEN:
            return
        self._seen.append(endings)
        if len(self._seen) < _SEEN:
            return
        columns = [[endings[place] for endings in self._seen] for place in range(self._count)]
        # What all choices share cancels out: only how they differ from the first one counts.
        differences = [[b - a for a, b in zip(columns[0], column, strict=True)] for column in columns]
        if all(max(column) - min(column) <= _ALIKE for column in differences):
            self.known = [sum(column) / len(column) for column in columns]
