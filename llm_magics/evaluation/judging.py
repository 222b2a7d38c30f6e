"""A model as the judge of another's answers: one fixed rubric, asked twice with the answers swapped.

Zheng et al. 2023 (arXiv:2306.05685) found that judges prefer whichever answer stands first: an answer counts as right
only where the verdict is the same in both orders, as half where it is not.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..values.messages import Message

VERDICTS = ("yes", "no")

_RUBRIC = (
    "Two answers to one question are compared. Do they say the same on what was asked? Wording, length and order do "
    "not matter. A wrong, a missing or a contradicting fact does. Answer with yes or no alone."
)


def questions(question: str, answer: str, expected: str) -> tuple[Sequence[Message], Sequence[Message]]:
    """The messages to the judge, in both orders.

    Args:
        question: what was asked.
        answer: the answer to be judged.
        expected: the answer of the data.
    """

    def ask(first: str, second: str) -> Sequence[Message]:
        text = f"{_RUBRIC}\n\nQuestion:\n{question}\n\nFirst answer:\n{first}\n\nSecond answer:\n{second}"
        return (Message("user", text),)

    return ask(answer, expected), ask(expected, answer)
