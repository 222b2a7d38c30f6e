"""The answers to the rows of a table, for ``--over``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .answers import AnswerStream, Usage
from .running import Stoppable


@dataclass(frozen=True, slots=True)
class RowsProgress:
    """How far the answers to a table's rows are.

    Attributes:
        done: rows that have an answer or an error, those that were there already too.
        total: rows in all.
        kept: rows whose answers were there already.
        failed: rows with an error.
        usage: what the new answers have cost; its seconds are those since the beginning.
    """

    done: int
    total: int
    kept: int
    failed: int
    usage: Usage

    @property
    def speed(self) -> float:
        """New rows a second; 0 before the first."""
        return (self.done - self.kept) / self.usage.seconds if self.usage.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float:
        """Seconds to go at the speed so far; infinite before the first row."""
        return (self.total - self.done) / self.speed if self.speed else float("inf")


class AnswerTable(Stoppable):
    """Answers to the rows of a table, in the making. Iterate it once, from any one thread, then read ``frame``.

    Args:
        method: ``llm``, ``fewshot``, ``cot`` or ``rag``; the card's title.
        model: name of the loaded model.
        source: what the person calls the table.
        total: its rows.
        columns: the columns that are added, ``answer`` first.
        first: the running answer of the first row, to look at its prompt.
        rows: called once with a stop event; yields how far it is, many times a second. When the event is set it
            ends within one token.
        frame: the rows that are done, as a DataFrame.
    """

    def __init__(
        self,
        *,
        method: str,
        model: str,
        source: str,
        total: int,
        columns: tuple[str, ...],
        first: Callable[[], AnswerStream],
        rows: Callable[[threading.Event], Iterator[RowsProgress]],
        frame: Callable[[], Any],
    ) -> None:
        super().__init__()
        self.method = method
        self.model = model
        self.source = source
        self.total = total
        self.columns = columns
        self.first = first
        self._rows = rows
        self._frame = frame

    def __iter__(self) -> Iterator[RowsProgress]:
        return self._rows(self._stop)

    @property
    def frame(self) -> Any:
        """The table's rows that are done, with their answers: a pandas DataFrame."""
        return self._frame()
