"""One question in several ways: which, and the answers on their way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .answers import Answer, AnswerStream, Chunk
from .running import Running


@dataclass(frozen=True, slots=True)
class ComparisonRequest:
    """In which ways one question is asked: each method by each model at each temperature.

    Attributes:
        methods: the methods, as ``evaluation.methods`` reads them; where there are none, ``llm`` and ``cot``, or
            ``llm`` alone where models or temperatures are what is compared.
        models: names of loaded models; the one that answers unless given.
        temperatures: sampling temperatures; the method's own unless given.
        knowledge_base: of ``rag``; the one used last unless given.
    """

    methods: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    temperatures: tuple[float, ...] = ()
    knowledge_base: str = ""


class Comparing(Running[tuple[int, Chunk]]):
    """One question on its way in several ways, one after the other. Iterate it once, then read ``result``.

    Args:
        titles: how each is asked.
        streams: the running answers, as many; each has its prompt already.
        gather: makes the ``Comparison`` of the answers, or of the first of them after a stop.
        keep: is given each answer when it is complete.
    """

    def __init__(
        self,
        titles: Sequence[str],
        streams: Sequence[AnswerStream],
        gather: Callable[[Sequence[Answer]], Any],
        keep: Callable[[Answer], None] = lambda answer: None,
    ) -> None:
        super().__init__()
        self.titles = tuple(titles)
        self.streams = tuple(streams)
        self.answers: list[Answer] = []
        self._gather, self._keep = gather, keep

    def __iter__(self) -> Iterator[tuple[int, Chunk]]:
        for place, stream in enumerate(self.streams):
            if self._stop.is_set():
                return
            for chunk in stream:
                yield place, chunk
            self.answers.append(stream.answer)
            self._keep(stream.answer)

    def stop(self) -> None:
        """Ask for the end at the next token. Safe from any thread, and more than once."""
        super().stop()
        for stream in self.streams:
            stream.stop()

    @property
    def result(self) -> Any:
        """The ``Comparison``, a DataFrame with a row for each answer that there is."""
        return self._gather(self.answers)
