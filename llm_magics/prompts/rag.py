"""Retrieval-augmented generation: the prompt that puts passages first and the question last.

What stays the same from question to question stands in front, so that its key/value cache can serve the
next one. Passages are data: each stands in a fence that its own text cannot close.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError
from ..messages import Example, Message, Passage
from .plain import system_turn, trim

_INSTRUCTION = (
    "Answer the question with the passages above alone, and name the passage in brackets, such as [1]. "
    "If they do not hold the answer, say: not in the documents."
)
_REASONING = (
    'First quote what matters. Then write one last line that begins with "Answer:" and gives only the final answer.'
)


def build(
    question: str,
    passages: Sequence[Passage],
    *,
    system: str = "",
    examples: Sequence[Example] = (),
    reasoning: bool = False,
) -> tuple[Message, ...]:
    """The messages of ``%%rag``: Lewis et al. 2020 (arXiv:2005.11401).

    Args:
        question: what is asked.
        passages: what was found, number 1 first; none asks the same question without them.
        system: the system text; empty leaves the turn out.
        examples: worked examples, as turns before the question.
        reasoning: whether to ask for the reasoning and a marked final answer.

    Returns:
        The messages, the question at the very end.

    Raises:
        InputError: there is no question.
    """
    asked = trim(question)
    if not asked:
        raise InputError("there is no question", "Type it below the %%rag line")
    turns: list[Message] = []
    for example in examples:
        turns += [Message("user", example.input), Message("assistant", example.output)]
    read = "\n\n".join(f"[{number}] {passage.name}\n{passage.text}" for number, passage in enumerate(passages, start=1))
    instruction = _INSTRUCTION if passages else ""
    parts = [read, instruction, _REASONING if reasoning else "", f"Question: {asked}" if passages else asked]
    return (*system_turn(system), *turns, Message("user", "\n\n".join(part for part in parts if part)))
