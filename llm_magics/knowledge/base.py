"""The values of the knowledge layer, and what a knowledge base asks of an embedder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Document:
    """The text of one source.

    Attributes:
        text: all of it; of a PDF, a web page or an office file what its reader made of it.
        source: path, URL, or name of the cell or variable.
        kind: ``text``, ``markdown``, ``html``, or the name of a programming language.
        pages: where each page or slide begins, in characters; empty where there are none.
        page_word: what a page is called: ``page`` or ``slide``.
    """

    text: str
    source: str
    kind: str = "text"
    pages: tuple[int, ...] = ()
    page_word: str = "page"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document, by its offsets in characters, and where that is for a person."""

    start: int
    end: int
    place: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an indexing is: chunks done, chunks in all, seconds since it began."""

    done: int
    total: int
    seconds: float

    @property
    def speed(self) -> float:
        """Chunks a second; 0 before the first."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float:
        """Seconds to go at the speed so far; infinite before the first chunk."""
        return (self.total - self.done) / self.speed if self.speed else float("inf")


@dataclass(frozen=True, slots=True)
class Added:
    """What came of adding documents: how many are new, changed and known already, and chunks written."""

    new: int
    changed: int
    unchanged: int
    chunks: int


class TextEmbedder(Protocol):
    """What a knowledge base asks of an embedder."""

    @property
    def name(self) -> str:
        """The model's name. A knowledge base is bound to it."""

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""

    def vectors(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> Vectors:
        """Normalised vectors of documents, (texts, dimension); ``progress`` is told the texts done so far."""

    def question(self, text: str) -> Vectors:
        """Normalised vector of a question, (dimension,)."""

    def count_tokens(self, text: str) -> int:
        """Length of a text in the model's tokens."""


def shown(name: str) -> str:
    """A file name fit for one line: what is not printable (line ends, escape codes) is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
