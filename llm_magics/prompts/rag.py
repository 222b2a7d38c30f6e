"""Retrieval-augmented generation: the prompt that puts passages first and the question last.

What stays the same from question to question stands in front, so that its key/value cache can serve the
next one. Passages are data: each stands on one line of its own, which its text cannot leave, and nothing in
it can be taken for the end of a turn. Rows of quotation marks round it would hold it as well, and cost a small
model right answers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import PurePath

from ..errors import InputError
from ..values.knowledge import Passage
from ..values.messages import Example, Message
from .plain import system_turn, trim

_INSTRUCTION = (
    "Answer from the passages above in one short sentence that quotes their words and ends with the passage's "
    "number in brackets, such as [1]. If they do not answer it, say: not in the documents."
)
_REASONING = (
    'First quote what matters. Then write one last line that begins with "Answer:" and gives only the final answer.'
)
_WORD = re.compile(r"\w+")
_RUN = 6  # words in a row that two texts hardly share by chance
_LONGEST_NAME = 120  # characters of a passage's name

# What chat templates put round turns: <|im_end|>, </s>, [INST], <<SYS>>, <start_of_turn>; DeepSeek's bar is wide.
_CONTROL = re.compile(
    r"<(?=[|\uff5c]|/?s>|/?<?/?SYS>|(?:start|end)_of_|[be]os>|/?think>)|\[(?=/?INST\])", re.IGNORECASE
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
    read = "\n".join(_line(number, passage) for number, passage in enumerate(passages, start=1))
    instruction = _INSTRUCTION if passages else ""
    parts = [read, instruction, _REASONING if reasoning else "", f"Question: {asked}" if passages else asked]
    return (*system_turn(system), *turns, Message("user", "\n\n".join(part for part in parts if part)))


def quoted(answer: str, passages: Sequence[Passage]) -> tuple[int, ...]:
    """Numbers of the passages that an answer repeats word for word.

    A small model seldom names its passage and often copies it; where it copies, comparing the texts says which.

    Args:
        answer: the model's text.
        passages: what it was given, number 1 first.

    Returns:
        Passages that share six words in a row with the answer, or all of a shorter one of three words or more.
    """
    said = _WORD.findall(answer.casefold())
    needed = max(3, min(_RUN, len(said)))
    found = []
    for number, passage in enumerate(passages, start=1):
        read = _WORD.findall(passage.text.casefold())
        run = SequenceMatcher(None, said, read, autojunk=False).find_longest_match()
        if run.size >= needed:
            found.append(number)
    return tuple(found)


def _line(number: int, passage: Passage) -> str:
    """A numbered passage on one line: what it says after a line end cannot be taken for ours.

    Its name is short, since a small model loses itself in paths: the file's own name and the innermost heading.
    """
    heading = passage.place.rsplit(" > ", 1)[-1]
    name = " · ".join(part for part in (passage.title or PurePath(passage.source).name, heading) if part)
    name = name if len(name) <= _LONGEST_NAME else f"…{name[-_LONGEST_NAME:]}"
    return f"[{number}] {_harmless(name)}: {_harmless(passage.text)}"


def _harmless(text: str) -> str:
    """On one line, and without the marks of chat templates: a tokenizer would make of them the end of the turn."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return _CONTROL.sub(lambda found: f"{found[0]} ", line)
