"""What is on its way: it can be ended, and it comes to a result."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

Piece = TypeVar("Piece", covariant=True)


class Stoppable:
    """Work that ends at the next token when it is asked to."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    def stop(self) -> None:
        """Ask for the end at the next token. Safe from any thread, and more than once."""
        self._stop.set()


class Running(Stoppable, ABC, Generic[Piece]):
    """Work on its way. Iterate it once, from any one thread, then read ``result``."""

    @abstractmethod
    def __iter__(self) -> Iterator[Piece]:
        """The pieces as they come."""

    @property
    @abstractmethod
    def result(self) -> Any:
        """What came of it: a DataFrame."""

    def run(self) -> Any:
        """Iterate to the end, and return the result; for programs."""
        for _ in self:
            pass
        return self.result
