"""What was asked and answered in this session, and the conversation that follows from it.

A cell that runs again replaces its own exchange and what followed it: the conversation goes on
from there. The log keeps the replaced ones, marked, so that nothing a person saw is lost.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .values.messages import Message

if TYPE_CHECKING:
    from .values.answers import Answer


@dataclasses.dataclass(frozen=True, slots=True)
class Exchange:
    """One question and its answer.

    Attributes:
        question: the text of the cell, values filled in.
        answer: the answer with everything it knows about itself.
        cell: identity of the cell that asked; empty where there is none.
        run: which execution of the cell it was.
        chat: whether the exchange is part of the conversation that ``%%llm`` sends along.
        replaced: whether a later run of its cell, or of one before it, took its place.
        compared: whether ``%%llm_compare`` asked it.
        time: when the answer was complete, in seconds since 1970.
    """

    question: str
    answer: Answer
    cell: str = ""
    run: int = 0
    chat: bool = False
    replaced: bool = False
    compared: bool = False
    time: float = dataclasses.field(default_factory=time.time)

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        answer = self.answer
        return {
            "time": self.time,
            "method": answer.method,
            "model": answer.model,
            "question": self.question,
            "answer": answer.text,
            "reasoning": answer.reasoning,
            "parsed": answer.parsed,
            "votes": [dataclasses.asdict(vote) for vote in answer.votes],
            "chains": answer.chains,
            "probabilities": answer.probabilities,
            "evidence": answer.evidence,
            "messages": [message.as_dict() for message in answer.messages],
            "prompt": answer.prompt,
            "options": dataclasses.asdict(answer.options),
            "usage": dataclasses.asdict(answer.usage),
            "stop_reason": answer.stop_reason,
            "replaced": self.replaced,
            "compared": self.compared,
        }


class History:
    """The exchanges of a session, oldest first. Safe to use from several threads."""

    def __init__(self) -> None:
        self._exchanges: list[Exchange] = []
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._exchanges)

    def conversation(
        self, cell: str, run: int, limit: int, *, question: str = "", model: str = ""
    ) -> tuple[Message, ...]:
        """The turns that a question from this cell continues.

        Args:
            cell: identity of the asking cell.
            run: its execution; exchanges of earlier runs, and what followed them, are left out.
            limit: how many exchanges at most, the latest.
            question: what is asked now.
            model: who is asked. What another model answered to the same question is left out: a base that is asked
                what the model tuned on it was asked would repeat its answer.
        """
        before = self._exchanges[: self._replaced_from(cell, run)]
        again = question.strip()
        kept = [
            e for e in before if e.chat and not e.replaced and (e.question.strip() != again or e.answer.model == model)
        ]
        turns: list[Message] = []
        for exchange in kept[-limit:] if limit else []:
            turns += [Message("user", exchange.question), Message("assistant", exchange.answer.text)]
        return tuple(turns)

    def record(self, exchange: Exchange) -> None:
        """Add an exchange; a chat exchange replaces the earlier run of its cell and what followed it."""
        with self._lock:
            if exchange.chat:
                start = self._replaced_from(exchange.cell, exchange.run)
                for i in range(start, len(self._exchanges)):
                    if self._exchanges[i].chat:
                        self._exchanges[i] = dataclasses.replace(self._exchanges[i], replaced=True)
            self._exchanges.append(exchange)

    def _replaced_from(self, cell: str, run: int) -> int:
        for i, exchange in enumerate(self._exchanges):
            if cell and exchange.cell == cell and exchange.run != run and exchange.chat and not exchange.replaced:
                return i
        return len(self._exchanges)

    def find(self, text: str = "", count: int | None = None) -> tuple[Exchange, ...]:
        """The latest exchanges whose question or answer holds a text.

        Args:
            text: what to look for, upper and lower case alike; empty finds all.
            count: how many at most; None for all.
        """
        wanted = text.casefold()
        found = [e for e in self._exchanges if wanted in f"{e.question}\n{e.answer}".casefold()]
        return tuple(found if count is None else found[-count:] if count else [])

    def clear(self) -> int:
        """Forget everything; return how many exchanges there were."""
        with self._lock:
            count = len(self._exchanges)
            self._exchanges.clear()
        return count

    @staticmethod
    def export(exchanges: Sequence[Exchange], path: str | Path) -> int:
        """Write JSON Lines, one exchange a line; return how many.

        Raises:
            InputError: the file cannot be written; an older one of that name stays as it was.
        """
        lines = [json.dumps(exchange.as_dict()) for exchange in exchanges]  # in ASCII: any text can be written
        unfinished: Path | None = None
        try:
            target = Path(path).expanduser()
            unfinished = target.with_name(f".{target.name}.unfinished")
            unfinished.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
            unfinished.replace(target)
        except (OSError, ValueError) as error:
            if unfinished is not None:
                with contextlib.suppress(OSError):
                    unfinished.unlink(missing_ok=True)
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{path} cannot be written: {reason}", "Give another file name") from error
        return len(lines)
