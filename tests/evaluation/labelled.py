"""Rows of two labels that their words tell apart, and a model that can."""

from __future__ import annotations

from collections.abc import Sequence

from llm_magics import Message

ANIMALS = [(f"the {word} cat says meow number {n}", "cat") for n in range(10) for word in ("old", "small")] + [
    (f"the {word} dog says woof number {n}", "dog") for n in range(10) for word in ("old", "small")
]
"""Forty rows of two labels that their words tell apart."""


def sounds(messages: Sequence[Message]) -> str:
    """A model that knows the cat's sound and says dog to everything else."""
    return "It is a cat." if "meow" in messages[-1].content.rpartition("\n\n")[2] else "dog"
