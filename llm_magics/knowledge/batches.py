"""Texts of about the same length in one batch, so that little is computed for padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def by_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Cut texts into batches by a budget of tokens.

    Sorted by tokens, not by characters: a chunk full of punctuation has twice the tokens of a chunk of prose.

    Args:
        lengths: tokens of each text.
        budget: tokens in a batch, padding included. A longer text is a batch by itself.

    Yields:
        Indices of the texts, the longest first, so that too little memory shows at once.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    first = 0
    while first < len(order):
        count = max(1, budget // max(1, lengths[order[first]]))
        yield order[first : first + count]
        first += count
