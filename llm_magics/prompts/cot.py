"""Chain of thought: prompts that ask for the reasoning and for a final answer that can be found."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError, did_you_mean
from ..values.messages import Example, Message
from .answers import final_answer
from .plain import system_turn, trim

_END = 'Then write one last line that begins with "Answer:" and gives only the final answer.'

_INSTRUCTIONS = {
    "steps": f"Reason in short numbered steps. {_END}",
    "plan": f"First understand the problem and make a short plan. Then carry out the plan step by step. {_END}",
    "zero-shot": f"Let's think step by step. {_END}",
}

STRATEGIES = tuple(_INSTRUCTIONS)
"""The ways to ask for reasoning."""


_FINAL = "Now give only the final answer, as JSON."


def build(
    question: str, *, strategy: str = "steps", examples: Sequence[Example] = (), system: str = ""
) -> tuple[Message, ...]:
    """The messages of ``%%cot``: chain of thought, Wei et al. 2022 (arXiv:2201.11903).

    All strategies end in a line that ``answers.final_answer`` finds.

    Args:
        question: what is asked.
        strategy: ``steps`` asks for numbered steps; ``plan`` for a plan that is then carried out
            (Plan-and-Solve, Wang et al. 2023, arXiv:2305.04091); ``zero-shot`` is "Let's think step
            by step" (Kojima et al. 2022, arXiv:2205.11916).
        examples: worked examples; an output should hold the reasoning and end in ``Answer: ...``.
            One without that marker counts as the answer itself.
        system: the system text; empty leaves the turn out.

    Returns:
        The messages, the question last.

    Raises:
        InputError: an unknown strategy, or no question.
    """
    if strategy not in _INSTRUCTIONS:
        raise InputError(
            f"--strategy {strategy} is unknown",
            f"{did_you_mean(strategy, STRATEGIES)} It takes {', '.join(STRATEGIES)}",
        )
    if not question.strip():
        raise InputError("there is no question", "Type it below the %%cot line")

    def asked(text: str) -> Message:
        return Message("user", f"{trim(text)}\n\n{_INSTRUCTIONS[strategy]}")

    turns: list[Message] = []
    for example in examples:
        worked = example.output if final_answer(example.output).parsed else f"Answer: {example.output}"
        turns += [asked(example.input), Message("assistant", worked)]
    return (*system_turn(system), *turns, asked(question))


def final_turns(messages: Sequence[Message], reasoning: str) -> tuple[Message, ...]:
    """The messages that ask for the final answer alone, after the reasoning was written.

    Args:
        messages: from ``build``.
        reasoning: what the model answered to them.
    """
    return (*messages, Message("assistant", reasoning), Message("user", _FINAL))
