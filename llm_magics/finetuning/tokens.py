"""From examples to the model's tokens, with the base's own chat template, and which of them are trained on.

A question is encoded apart from its answer, as it will be when the tuned model is asked. The loss is
taken on the answers and the token that ends them; a text without conversation is trained on whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ModelError
from ..values.messages import Message
from .data import Row

IGNORED = -100  # label of a token that the loss leaves out: PyTorch's own for cross entropy


@dataclass(frozen=True, slots=True)
class Encoded:
    """A row in tokens.

    Attributes:
        input_ids: the tokens.
        labels: the same tokens where the loss is taken, else ``IGNORED``.
    """

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]

    @property
    def trained(self) -> int:
        """How many tokens the loss is taken on."""
        return sum(1 for label in self.labels if label != IGNORED)


def load_tokenizer(folder: str, *, chat_template: str = "", trust_remote_code: bool = False) -> Any:
    """The tokenizer of a model folder.

    Args:
        folder: as ``save_pretrained`` wrote it.
        chat_template: a Jinja template in place of its own; empty keeps that.
        trust_remote_code: whether Python code that comes with the model may run.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)
    tokenizer.chat_template = chat_template or tokenizer.chat_template
    return tokenizer


def adds_in_front(tokenizer: Any) -> str:
    """The beginning token's text where a tokenizer puts one in front of every text; else empty.

    Args:
        tokenizer: the base's.
    """
    begin = tokenizer.bos_token_id
    return str(tokenizer.bos_token) if begin is not None and tokenizer("x")["input_ids"][:1] == [begin] else ""


def encode(tokenizer: Any, row: Row) -> Encoded:
    """A row in tokens.

    Args:
        tokenizer: the base's.
        row: a conversation or a text.

    Raises:
        ModelError: the base has no chat template, or it refuses this conversation.
    """
    ids: list[int] = []
    labels: list[int] = []
    for text, trained in pieces(tokenizer, row):
        tokens = tokenizer(text, add_special_tokens=not row.messages)["input_ids"] if text else []
        if not row.messages and tokens[-1:] != [tokenizer.eos_token_id] and tokenizer.eos_token_id is not None:
            tokens = [*tokens, tokenizer.eos_token_id]
        ids += tokens
        labels += tokens if trained else [IGNORED] * len(tokens)
    return Encoded(tuple(ids), tuple(labels))


def length(tokenizer: Any, row: Row) -> int:
    """Tokens of a row; of a preference pair with its longer answer."""
    if not row.chosen:
        return len(encode(tokenizer, row).input_ids)
    answers = (Row((*row.messages, Message("assistant", answer))) for answer in (row.chosen, row.rejected))
    return max(len(encode(tokenizer, answer).input_ids) for answer in answers)


def pieces(tokenizer: Any, row: Row) -> list[tuple[str, bool]]:
    """The text that the model sees, cut where the loss begins and ends.

    Args:
        tokenizer: the base's.
        row: a conversation, a text, or a preference pair, of which the better answer is taken.

    Returns:
        Pieces of text, each with whether the loss is taken on it.
    """
    if not row.messages:
        return [(row.text, True)]
    turns = (*row.messages, Message("assistant", row.chosen)) if row.chosen else row.messages
    whole = _render(tokenizer, turns)
    cut: list[tuple[str, bool]] = []
    place = 0
    for number, turn in enumerate(turns):
        if turn.role != "assistant" or number == 0:
            continue
        before, after = _render(tokenizer, turns[:number], answer_follows=True), _render(tokenizer, turns[: number + 1])
        if not whole.startswith(after) or not after.startswith(before):
            return _last_turn(tokenizer, turns, whole)  # a template that writes earlier answers in another way
        cut += [(whole[place : len(before)], False), *_answer(tokenizer, whole[len(before) : len(after)])]
        place = len(after)
    return cut[:-1] if cut and not cut[-1][1] else cut


def _last_turn(tokenizer: Any, turns: Sequence[Message], whole: str) -> list[tuple[str, bool]]:
    before = _render(tokenizer, turns[:-1], answer_follows=True)
    answer = whole[len(before) :] if whole.startswith(before) else turns[-1].content + (tokenizer.eos_token or "")
    return [(before, False), _answer(tokenizer, answer)[0]]


def _answer(tokenizer: Any, text: str) -> list[tuple[str, bool]]:
    """An answer with its end token, and what the template writes behind that, which the model never does."""
    end = tokenizer.eos_token
    if not end or end not in text:
        return [(text, True)]
    at = text.rindex(end) + len(end)
    return [(text[:at], True), (text[at:], False)]


def _render(tokenizer: Any, turns: Sequence[Message], *, answer_follows: bool = False) -> str:
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise ModelError(
            "the base has no chat template, so conversations have no form in it",
            "Take an instruct model, or rows with a text column, which are trained on whole",
        )
    try:
        return _apply(tokenizer, turns, answer_follows)
    except TemplateError as error:
        if len(turns) < 2 or turns[0].role != "system":
            raise ModelError(
                f"the base's chat template refuses a conversation: {error}", "Look at its roles"
            ) from error
        # Some templates have no system role: it then opens the first turn, as it does when the model is asked.
        first = Message(turns[1].role, f"{turns[0].content}\n\n{turns[1].content}")
        return _apply(tokenizer, [first, *turns[2:]], answer_follows)


def _apply(tokenizer: Any, turns: Sequence[Message], answer_follows: bool) -> str:
    plain = [turn.as_dict() for turn in turns]
    return str(tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=answer_follows))
