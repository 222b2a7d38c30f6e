"""Where an answer names its passages: marks such as ``[1]`` and ``[1, 3]``."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import NamedTuple

_MARK = re.compile(r"\[ *\d{1,4}(?: *[,;] *\d{1,4})* *\]")
_NUMBER = re.compile(r"\d+")
_NO_PROSE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)|\[[^\[\]]*\]\(", re.DOTALL)  # code, and the text of a Markdown link


class Citation(NamedTuple):
    """The number of a passage, and the piece of text that names it: ``[1]`` whole, of ``[1, 3]`` each number."""

    number: int
    start: int
    end: int


def citations(text: str, known: Container[int]) -> tuple[Citation, ...]:
    """Where a text names passages.

    Args:
        text: any text; what is code or a link in it is up to the caller.
        known: the numbers of the passages that there are; others are left out.

    Returns:
        Citations in order.
    """
    found: list[Citation] = []
    for mark in _MARK.finditer(text):
        numbers = list(_NUMBER.finditer(text, *mark.span()))
        for number in numbers:
            if int(number[0]) in known:
                start, end = mark.span() if len(numbers) == 1 else number.span()
                found.append(Citation(int(number[0]), start, end))
    return tuple(found)


def named(answer: str, count: int) -> tuple[int, ...]:
    """Numbers of the passages that an answer names, those in code and in Markdown's links left out.

    Args:
        answer: the model's text.
        count: how many passages it was given.
    """
    prose = _NO_PROSE.sub(" ", answer)
    return tuple(dict.fromkeys(found.number for found in citations(prose, range(1, count + 1))))
