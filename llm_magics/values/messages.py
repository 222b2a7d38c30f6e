"""What a model reads: turns of a conversation, worked examples, and the exact prompt made of them.

All are frozen and hold no reference to a model, so that a prompt can be built, shown and compared without one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str

    def as_dict(self) -> dict[str, str]:
        """The form that chat templates and servers take: ``{"role": ..., "content": ...}``."""
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class Example:
    """A worked example: what is put in and what should come out."""

    input: str
    output: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What goes to the model.

    Attributes:
        messages: the turns, in order.
        text: the exact text after the chat template.
        token_count: its length in the model's tokens.
        exact: False where a server makes the text and does not tell it: ``text`` is then the turns in a form to read,
            and ``token_count`` an estimate.
    """

    messages: tuple[Message, ...]
    text: str
    token_count: int
    exact: bool = True
