"""From rows to examples: which columns mean what, what is left out and why, what is held out.

Shapes that are known: ``prompt``/``completion`` and their usual other names, ``messages``, a ``text`` column
(conversations in Guanaco's form are taken apart, others are trained on whole), and preference pairs
(``chosen``/``rejected``).
"""

from __future__ import annotations

import functools
import json
import random
import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard, cast

from ..errors import InputError
from ..values.messages import Message, Role
from .rows import Table

# (prompt, completion), the first that is there is taken.
_PAIRS = (
    ("prompt", "completion"), ("prompt", "response"), ("question", "answer"), ("question", "response"),
    ("instruction", "output"), ("instruction", "response"), ("input", "output"), ("query", "response"),
)  # fmt: skip
_CONVERSATIONS = ("messages", "conversations", "conversation")
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "user": "user", "assistant": "assistant",
          "system": "system", "developer": "system"}  # fmt: skip
_LONGEST_NAME = 60  # characters of a column's name: what is longer is a text
_TURN = re.compile(r"^### ?(Human|Assistant|System): ?", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Row:
    """One example to train on.

    Attributes:
        messages: the conversation; it ends with an answer, but for a preference pair, which has none.
        text: a text that is trained on whole, where there is no conversation.
        chosen: the better answer of a preference pair.
        rejected: the worse one.
    """

    messages: tuple[Message, ...] = ()
    text: str = ""
    chosen: str = ""
    rejected: str = ""

    def as_json(self) -> str:
        """One line for a file."""
        record: dict[str, Any] = {"messages": [message.as_dict() for message in self.messages]}
        record |= {key: value for key in ("text", "chosen", "rejected") if (value := getattr(self, key))}
        return json.dumps(record, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> Row:
        """What ``as_json`` gave."""
        record = json.loads(line)
        turns = tuple(Message(turn["role"], turn["content"]) for turn in record.pop("messages"))
        return cls(turns, **record)


def read_rows(path: Path) -> list[Row]:
    """The rows of a file of a job, one a line, each as ``as_json`` gave it.

    Args:
        path: the file.
    """
    # Not splitlines(): it also cuts at characters that a JSON string may hold, such as U+2028.
    return [Row.from_json(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


@dataclass(frozen=True, slots=True)
class Understood:
    """What was made of a table.

    Attributes:
        source: file, Hub id or variable.
        shape: what the columns were taken for, for a person.
        rows: the examples, without empty ones and duplicates.
        dropped: reasons for which rows were left out, each with how many.
    """

    source: str
    shape: str
    rows: tuple[Row, ...]
    dropped: tuple[tuple[str, int], ...]


def understand(
    table: Table,
    *,
    trainer: str = "sft",
    prompt_column: str = "",
    completion_column: str = "",
    text_column: str = "",
) -> Understood:
    """Decide what the columns mean, and take the rows that can be trained on.

    Args:
        table: from ``rows.read``.
        trainer: ``dpo`` and ``orpo`` take preference pairs.
        prompt_column: the column with the questions, where its name does not say so.
        completion_column: the column with the answers.
        text_column: the column with whole texts, where its name does not say so or others would be taken.

    Raises:
        InputError: no columns that can be used, or no row that can.
    """
    _check_named(table, trainer, prompt_column, completion_column, text_column)
    shape, convert = _shape(table, trainer, prompt_column, completion_column, text_column)
    kept: dict[Row, None] = {}
    dropped: Counter[str] = Counter()
    for row in table.rows:
        try:
            made = _writable(convert(row))
        except _Unusable as reason:
            dropped[str(reason)] += 1
            continue
        if made in kept:
            dropped["duplicate"] += 1
        kept[made] = None
    if not kept:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.most_common())
        raise InputError(f"no row of {table.source} can be trained on: {reasons}", "Look at the first rows of it")
    if trainer == "sft" and shape == (text_column or "text"):
        parsed = sum(1 for row in kept if row.messages)
        shape += f", {parsed} of {len(kept)} as conversations" if parsed else ", trained on whole"
    return Understood(table.source, shape, tuple(kept), tuple(dropped.most_common()))


class _Unusable(Exception):
    """Why a row is left out."""


def _writable(row: Row) -> Row:
    """The row, unless it holds half a character (a lone surrogate), which no file and no tokenizer takes."""
    try:
        row.as_json().encode()
    except UnicodeEncodeError:
        raise _Unusable("with broken characters") from None
    return row


def _shape(
    table: Table, trainer: str, prompt: str, completion: str, text: str
) -> tuple[str, Callable[[dict[str, Any]], Row]]:
    """What the columns are, in words, and the function that makes an example of a row."""
    lower = {name.lower().strip(): name for name in table.columns}
    if trainer != "sft":
        if not {"chosen", "rejected"} <= set(lower):
            raise InputError(
                f"--trainer {trainer} needs preference pairs, and {table.source} has {_names(table)}",
                "It takes the columns prompt, chosen and rejected; --trainer sft takes answers alone",
            )
        return "preference pairs", functools.partial(_preference, lower=lower)
    if prompt:
        return f"{prompt} and {completion}", functools.partial(_pair, prompt=prompt, completion=completion)
    if text:
        return text, functools.partial(_text, column=text)
    for name in filter(lower.__contains__, _CONVERSATIONS):
        return lower[name], functools.partial(_conversation_in, column=lower[name])
    for first, second in _PAIRS:
        if first in lower and second in lower:
            more = lower.get("input", "") if first == "instruction" else ""  # Alpaca's third column
            names = lower[first], lower[second]
            return " and ".join(names), functools.partial(_pair, prompt=names[0], completion=names[1], more=more)
    if "text" in lower:
        return "text", functools.partial(_text, column=lower["text"])
    if len(table.columns) == 1:
        (only,) = table.columns
        raise InputError(
            f"{table.source} has one column, {only}: questions and answers take two",
            f"Type --text-column {shlex.quote(only)} if it holds whole texts",
        )
    raise _unknown(table)


def _unknown(table: Table) -> InputError:
    """What is said of columns whose names do not tell what they are."""
    if any(len(name) > _LONGEST_NAME or name.rstrip().endswith(("?", ".")) for name in table.columns):
        return InputError(
            f"the first line of {table.source} names its columns, and here it is an example",
            "Put a line prompt,completion above it",
        )
    lengths = {name: sum(_length(row.get(name)) for row in table.rows[:20]) for name in table.columns}
    longest = sorted(filter(lengths.__getitem__, lengths), key=lambda name: -lengths[name])[:2]
    named = [shlex.quote(name) for name in table.columns if name in longest]
    if len(named) < 2:
        whole = f", or type --text-column {named[0]} if it holds whole texts" if named else ""
        return InputError(
            f"{table.source} has {_names(table)}: no two of them hold texts, a question and its answer",
            f"Give columns such as prompt and completion{whole}",
        )
    return InputError(
        f"{table.source} has {_names(table)}: which is the question and which the answer is not known",
        f"Type for example --prompt-column {named[0]} --completion-column {named[1]}",
    )


def _length(cell: Any) -> int:
    """Characters of the text of a cell; 0 where it holds what is no text, such as a list."""
    try:
        return len(_words(cell))
    except _Unusable:
        return 0


def _check_named(table: Table, trainer: str, prompt: str, completion: str, text: str) -> None:
    if bool(prompt) != bool(completion):
        missing = "--completion-column" if prompt else "--prompt-column"
        raise InputError(f"{missing} is missing", "--prompt-column and --completion-column go together")
    if prompt and prompt == completion:
        raise InputError(f"--prompt-column and --completion-column are both {prompt}", "Name two columns")
    if text and prompt:
        raise InputError("--text-column and --prompt-column say two things of the same rows", "Type one of them")
    named = (("--prompt-column", prompt), ("--completion-column", completion), ("--text-column", text))
    for flag, name in named:
        if name and trainer != "sft":
            raise InputError(
                f"{flag} is for --trainer sft; {trainer} takes the columns prompt, chosen and rejected",
                f"Rename the columns, and leave {flag} out",
            )
        if name and name not in table.columns:
            raise InputError(f"{flag} is {name}, and {table.source} has {_names(table)}", "Name one of them")


def _names(table: Table) -> str:
    shown = ", ".join(table.columns[:6]) + (", …" if len(table.columns) > 6 else "")
    return f"the columns {shown}" if len(table.columns) > 1 else f"one column, {shown}"


def _pair(row: Mapping[str, Any], *, prompt: str, completion: str, more: str = "") -> Row:
    asked, said = row.get(prompt), row.get(completion)
    if _holds_turns(asked) or _holds_turns(said):  # as TRL has them
        begin = asked if _holds_turns(asked) else [{"role": "user", "content": asked}]
        end = said if _holds_turns(said) else [{"role": "assistant", "content": said}]
        return _conversation([*begin, *end])
    question, answer = _words(asked), _words(said)
    extra = _words(row.get(more)) if more else ""
    if not question or not answer:
        raise _Unusable("empty")
    return Row((Message("user", f"{question}\n\n{extra}" if extra else question), Message("assistant", answer)))


def _holds_turns(cell: Any) -> TypeGuard[list[Any]]:
    return isinstance(cell, list) and bool(cell) and isinstance(cell[0], Mapping) and "type" not in cell[0]


def _words(cell: Any) -> str:
    """The text of a cell: of a number its figures, of a message in parts those that are texts.

    Raises:
        _Unusable: it holds what is no text.
    """
    if isinstance(cell, list) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in cell):
        return "\n".join(_words(part.get("text")) for part in cell).strip()
    if isinstance(cell, list | Mapping):
        raise _Unusable("with what is no text")
    return "" if cell is None else str(cell).strip()


def _conversation_in(row: Mapping[str, Any], *, column: str) -> Row:
    return _conversation(row.get(column))


def _conversation(cell: Any) -> Row:
    if isinstance(cell, str):  # a CSV's cell
        try:
            cell = json.loads(cell)
        except ValueError:
            raise _Unusable("no list of messages" if cell.strip() else "empty") from None
    if not cell:
        raise _Unusable("empty")
    turns = _turns(cell)
    while turns and turns[-1].role != "assistant":
        turns.pop()
    if not turns:
        raise _Unusable("without an answer")
    _check_complete(turns)
    return Row(tuple(turns))


def _check_complete(turns: Sequence[Message]) -> None:
    """Refuse a conversation with a gap: an answer to nothing has no tokens, and no template takes two questions.

    Raises:
        _Unusable: a turn says nothing, or the first one is an answer.
    """
    if not all(turn.content for turn in turns):
        raise _Unusable("empty")
    if not turns or turns[0].role == "assistant":
        raise _Unusable("without a question")


def _turns(cell: Any) -> list[Message]:
    """The turns of a list of them, those that say nothing too, but for a system turn: it then is as good as none."""
    turns = []
    for turn in cell if isinstance(cell, Sequence) else ():
        if not isinstance(turn, Mapping):
            raise _Unusable("no list of messages")
        role = _ROLES.get(str(turn.get("role", turn.get("from", ""))).lower())
        content = _words(turn.get("content", turn.get("value")))
        if role is None:
            raise _Unusable(f"role {turn.get('role', turn.get('from'))}")
        if content or role != "system":
            turns.append(Message(cast(Role, role), content))
    return turns


def _text(row: Mapping[str, Any], *, column: str) -> Row:
    text = _words(row.get(column))
    if not text:
        raise _Unusable("empty")
    return guanaco(text) or Row(text=text)


def guanaco(text: str) -> Row | None:
    """A conversation in the form of openassistant-guanaco, ``### Human: … ### Assistant: …``, taken apart.

    Args:
        text: one cell.

    Returns:
        The turns up to the last answer; None where the text is no such conversation.
    """
    # The published data set has the marks on one line too: "…of it.### Assistant: …"
    marked = re.sub(r"(?<!\n)### ?(?=(Human|Assistant|System): )", "\n### ", text.strip())
    pieces = _TURN.split(marked)
    if pieces[0].strip() or len(pieces) < 5 or pieces[1] == "Assistant":
        return None
    names = {"Human": "user", "Assistant": "assistant", "System": "system"}
    turns = [
        Message(cast(Role, names[who]), said.strip()) for who, said in zip(pieces[1::2], pieces[2::2], strict=True)
    ]
    while turns and turns[-1].role != "assistant":
        turns.pop()
    if not turns or not all(turn.content for turn in turns):
        return None
    return Row(tuple(turns))


def _preference(row: Mapping[str, Any], *, lower: Mapping[str, str]) -> Row:
    prompt, chosen, rejected = (row.get(lower.get(name, "")) for name in ("prompt", "chosen", "rejected"))
    if isinstance(chosen, list) and isinstance(rejected, list):
        better, worse = _turns(chosen), _turns(rejected)
        if not better or not worse or better[-1].role != "assistant" or worse[-1].role != "assistant":
            raise _Unusable("without an answer")
        begin = _turns(prompt) if isinstance(prompt, list) else better[:-1]
        if isinstance(prompt, str) and not begin:
            begin = [Message("user", prompt.strip())]
        chosen, rejected = better[-1].content, worse[-1].content
    else:
        begin = _turns(prompt) if isinstance(prompt, list) else [Message("user", _words(prompt))]
    chosen, rejected = _words(chosen), _words(rejected)
    if not chosen or not rejected:
        raise _Unusable("empty")
    _check_complete(begin)
    if chosen == rejected:
        raise _Unusable("chosen and rejected the same")
    return Row(tuple(begin), chosen=chosen, rejected=rejected)


def hold_out(rows: Sequence[Row], split: float, seed: int) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Hold rows out for validation, chosen at random.

    Args:
        rows: all examples.
        split: a share below 1, or a number of rows; 0 holds out none.
        seed: same seed, same rows.

    Returns:
        Rows to train on and rows held out, each in the order in which they came.

    Raises:
        InputError: nothing would be left of one of the two.
    """
    if not split:
        return tuple(rows), ()
    count = round(split * len(rows)) if split < 1 else int(split)
    if not 0 < count < len(rows):
        left = max(0, len(rows) - count)
        raise InputError(
            f"--valid-split {split:g} of {len(rows)} rows leaves {left} to train on and {count} to validate with",
            "It takes a share such as 0.1, or a number of rows",
        )
    held = set(random.Random(seed).sample(range(len(rows)), count))
    return (
        tuple(row for number, row in enumerate(rows) if number not in held),
        tuple(row for number, row in enumerate(rows) if number in held),
    )
