"""Rows that a method could know beforehand: among its examples, its training rows, or in its knowledge base.

Compared without case, punctuation and white space. A method that has seen a row is asked to remember it, and its
score says nothing about new ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from ..values.evaluation import Leak

_SHORTEST = 15  # letters and digits of a text that stands in a document by more than chance


def find(
    rows: Mapping[int, str],
    examples: Iterable[str],
    trained: Mapping[str, Iterable[str]],
    documents: Mapping[str, Callable[[str], Iterable[str]]],
) -> tuple[Leak, ...]:
    """Look for leakage.

    Args:
        rows: the inputs by their place in the data.
        examples: inputs of the worked examples.
        trained: inputs of the training rows, by the name of the model.
        documents: by the name of the knowledge base, a function from an input to the texts in which it may stand,
            each as ``padded`` gives it.

    Returns:
        What was found; nothing that has no rows.
    """
    plain = {place: bare(text) for place, text in rows.items()}
    known = set(map(bare, examples))
    found = [Leak("examples", "", tuple(place for place, text in plain.items() if text in known))]
    for name, texts in trained.items():
        known = set(map(bare, texts))
        found.append(Leak("training rows", name, tuple(place for place, text in plain.items() if text in known)))
    for name, texts_for in documents.items():
        there = [
            place
            for place, text in plain.items()
            if len(text.replace(" ", "")) >= _SHORTEST and any(f" {text} " in other for other in texts_for(rows[place]))
        ]
        found.append(Leak("knowledge base", name, tuple(there)))
    # The rows of a model's own job may be named by the person too.
    told: dict[tuple[str, tuple[int, ...]], Leak] = {}
    for leak in found:
        told[leak.where, leak.rows] = leak
    return tuple(leak for leak in told.values() if leak.rows)


def described(leak: Leak, *, dropped: bool) -> str:
    """A leak in a sentence.

    Args:
        leak: what was found.
        dropped: whether its rows were left out.
    """
    count = len(leak.rows)
    rows = "1 row stands" if count == 1 else f"{count} rows stand"
    where = {
        "examples": "among the examples",
        "training rows": f"among the training rows of {leak.name}",
        "knowledge base": f"word for word in the knowledge base {leak.name}",
    }[leak.where]
    hint = "left out" if dropped else "--drop-leaks leaves them out"
    return f"Leakage: {rows} {where} ({_places(leak.rows)}); {hint}."


def bare(text: str) -> str:
    """Words alone, in lower case, one space between them."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def padded(text: str) -> str:
    """A document as ``find`` searches it."""
    return f" {bare(text)} "


def _places(rows: Sequence[int]) -> str:
    shown = ", ".join(str(row) for row in rows[:5])
    return f"row{'' if len(rows) == 1 else 's'} {shown}{', …' if len(rows) > 5 else ''}"
