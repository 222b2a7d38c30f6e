"""A question as it stands: the system text, the conversation so far, and the new turn."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError
from ..values.messages import Message


def build(text: str, *, system: str = "", conversation: Sequence[Message] = ()) -> tuple[Message, ...]:
    """The messages of ``%%llm``.

    Args:
        text: what is asked. Blank lines around it are dropped; nothing is added.
        system: the system text; empty leaves the turn out, so that the model's own default holds.
        conversation: earlier turns, oldest first.

    Returns:
        The system turn, where there is one, the conversation, and the question.

    Raises:
        InputError: there is no text.
    """
    question = trim(text)
    if not question:
        raise InputError("there is nothing to ask", "Type the prompt below the line of the magic")
    return (*system_turn(system), *conversation, Message("user", question))


def system_turn(system: str) -> tuple[Message, ...]:
    """The system text as one message, or none where it is empty."""
    return (Message("system", trim(system)),) if system.strip() else ()


def trim(text: str) -> str:
    """The text without blank lines around it; the first line keeps its indentation, which code needs."""
    lines = text.replace("\r\n", "\n").split("\n")
    while lines and not lines[0].strip():
        del lines[0]
    return "\n".join(lines).rstrip()
