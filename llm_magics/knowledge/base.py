"""The values of the knowledge layer, what a knowledge base can do, and what it asks of an embedder.

There are two kinds of knowledge base: ``store.KnowledgeBase`` in this process, and ``remote.StoreBase`` over a
database that any LangChain vector store speaks to. ``Base`` is what both can do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import KnowledgeError
from ..values.knowledge import Added, IndexingProgress, Passage, RetrievalRequest, Splitting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Document:
    """The text of one source.

    Attributes:
        text: all of it; of a PDF, a web page or an office file what its reader made of it.
        source: path, URL, or name of the cell or variable; a document of the same source replaces it.
        kind: ``text``, ``markdown``, ``html``, or the name of a programming language.
        pages: where each page or slide begins, in characters; empty where there are none.
        page_word: what a page is called: ``page`` or ``slide``.
        title: what a person calls it, where that is not the source; may be empty.
        metadata: more that is known of it, as JSON values; kept and given back, never searched.
        file: whether the source is a file's path, as ``loaders.source_name`` gives it.
        variable: the variable that it was one of several documents of; empty where the source tells.
    """

    text: str
    source: str
    kind: str = "text"
    pages: tuple[int, ...] = ()
    page_word: str = "page"
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    file: bool = False
    variable: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document, by its offsets in characters, and where that is for a person."""

    start: int
    end: int
    place: str = ""


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


class Base(Protocol):
    """What every knowledge base can do."""

    @property
    def name(self) -> str:
        """What a person calls it."""

    @property
    def root(self) -> Path:
        """The folder from which its files are called: those elsewhere by their whole path."""

    @property
    def embedding(self) -> str:
        """Name of the embedding model that it is bound to."""

    @property
    def embedder(self) -> TextEmbedder | None:
        """What makes its vectors; None where a database does."""

    @property
    def index(self) -> str:
        """How it is searched, for a person: ``exact``, or the name of the database."""

    @property
    def sources(self) -> Mapping[str, int]:
        """Each source with its number of chunks; of a database, those that this session knows of."""

    def __len__(self) -> int:
        """How many chunks there are; of a database, those that this session knows of."""

    def add(
        self,
        documents: Iterable[Document],
        splitting: Splitting = Splitting(),  # noqa: B008 - frozen
        *,
        progress: Callable[[IndexingProgress], None] | None = None,
    ) -> Added:
        """Cut, embed and keep documents; the same again adds nothing, a changed one replaces its old chunks."""

    def document(self, source: str) -> Document | None:
        """The document of a source; None where there is none, or a database has it."""

    def remove(self, source: str) -> int:
        """Take a source out; returns how many chunks it had."""

    def clear(self) -> None:
        """Take everything out."""

    def search(self, question: str, request: RetrievalRequest) -> list[Passage]:
        """The passages that fit a question, the best first."""


def shown(name: str) -> str:
    """A file name fit for one line: what is not printable (line ends, escape codes) is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def expanded(path: str) -> Path:
    """A path with ``~`` and ``~NAME`` as the folders that they stand for.

    Raises:
        KnowledgeError: nobody of that name has one.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise KnowledgeError(
            f"nobody here is called {shown(Path(path).parts[0][1:])}", "Type the whole path, such as /home/me/docs"
        ) from error
