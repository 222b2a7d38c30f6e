"""Knowledge bases: documents on their way in, what is looked for, and the passages that are found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ..errors import InputError, did_you_mean

SEARCHES = ("hybrid", "dense", "keyword")
"""The ways to search a knowledge base: both joined, by meaning, by words."""
DAMAGED = "damaged"
"""In place of the index of a base whose files cannot be read."""
_SEARCH_HINT = f"It takes {', '.join(SEARCHES)}"


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document that was found for a question.

    Attributes:
        text: what stands there.
        source: path, URL, or name of the cell or variable.
        start: where it begins, in characters of the source's text.
        end: where it ends.
        place: heading path, page or lines, as a short text; may be empty.
        score: how well it fits the question, from 0 to 1.
        chunk: which chunk of its source it begins with, from 0.
        title: what a person calls the source, where it is not its name; may be empty.
        matches: where words of the question stand, as pairs of offsets into ``text``.
        number: what it is shown and cited as among the passages of its question, from 1; 0 where there is no such.
    """

    text: str
    source: str
    start: int
    end: int
    place: str = ""
    score: float = 0.0
    chunk: int = 0
    title: str = ""
    matches: tuple[tuple[int, int], ...] = ()
    number: int = 0

    @property
    def name(self) -> str:
        """What the passage is called on the page: its source's title or name, and its place there."""
        return " · ".join(part for part in (self.title or self.source, self.place) if part)


class Passages(tuple[Passage, ...]):
    """What a knowledge base found for a question, the best first.

    Attributes:
        question: what was asked.
        knowledge_base: name of the base that was searched.
    """

    question: str
    knowledge_base: str

    def __new__(cls, found: Iterable[Passage], question: str = "", knowledge_base: str = "") -> Passages:
        """Make it of passages; the other arguments are the attributes."""
        passages = super().__new__(cls, found)
        passages.question, passages.knowledge_base = question, knowledge_base
        return passages


@dataclass(frozen=True, slots=True)
class RetrievalRequest:
    """Which passages are looked for. What is None is taken from the settings.

    Attributes:
        knowledge_base: its name; empty for the one used last.
        k: passages at most.
        search: ``hybrid``, ``dense`` or ``keyword``.
        min_score: from 0 to 1; passages below are left out.
        diversity: from 0 to 1; how much a passage loses by being like one before it.
        rerank: a cross-encoder that orders what was found; empty for none.

    Raises:
        InputError: a value out of range, in one line that names the option.
    """

    knowledge_base: str = ""
    k: int | None = None
    search: str = "hybrid"
    min_score: float = 0.0
    diversity: float = 0.0
    rerank: str = ""

    def __post_init__(self) -> None:
        if self.search not in SEARCHES:
            raise InputError(f"--search is {self.search}", did_you_mean(self.search, SEARCHES) or _SEARCH_HINT)
        if self.k is not None and self.k < 1:
            raise InputError(f"-k is {self.k}", "It takes a whole number from 1, such as 4")
        for name, value in (("--min-score", self.min_score), ("--diversity", self.diversity)):
            if not 0 <= value <= 1:
                raise InputError(f"{name} is {value}", "It takes a number from 0 to 1, such as 0.3")


@dataclass(frozen=True, slots=True)
class Splitting:
    """How documents are cut; see ``knowledge.splitting.split``.

    Attributes:
        splitter: ``recursive``, ``character``, ``markdown``, ``html``, ``code``, ``token``, or ``none`` for one
            chunk a document.
        size: longest chunk in characters, with ``token`` in tokens; 0 for the splitter's own.
        overlap: what two neighbours share, in the same unit.
    """

    splitter: str = "recursive"
    size: int = 0
    overlap: int = 0


@dataclass(frozen=True, slots=True)
class IndexingProgress:
    """How far the indexing of documents is.

    Attributes:
        done: chunks that have their vectors.
        total: chunks in all; 0 while they are not known.
        seconds: since the indexing began.
        status: what goes on, such as ``reading notes.md``; empty while vectors are made.
        long: whether the step that begins now tells nothing for seconds, so that it is worth showing at once.
    """

    done: int
    total: int
    seconds: float
    status: str = ""
    long: bool = False

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
    """What came of adding documents to a knowledge base.

    Attributes:
        new: sources that were not there before.
        changed: sources whose old chunks were replaced.
        unchanged: sources that were there already in the same text and splitting.
        chunks: chunks written.
        seconds: what reading, cutting and embedding took.
        skipped: what could not be read, each with the reason.
        gone: sources that were taken out, since the folder or variable that was added again has them no more.
    """

    new: int
    changed: int
    unchanged: int
    chunks: int
    seconds: float = 0.0
    skipped: Mapping[str, str] = field(default_factory=dict)
    gone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KnowledgeBaseInfo:
    """A knowledge base, in the figures that a person asks for.

    Attributes:
        name: what the person calls it.
        sources: how many there are.
        chunks: how many there are.
        embedding: name of the embedding model.
        index: how it is searched: ``exact``, IVF with what it reads, the name of the database, or ``DAMAGED``.
        folder: where it was saved after its last change; empty where it lives in memory alone.
        open: whether it is open; else it lies in its folder until it is asked for.
    """

    name: str
    sources: int
    chunks: int
    embedding: str
    index: str
    folder: str = ""
    open: bool = True


class Indexing:
    """Documents on their way into a knowledge base. Run it once, then read ``info``.

    Args:
        knowledge_base: its name.
        work: called with a function that is told the progress; returns what came of it.
        info: the base in figures, after the work or in the middle of it.
    """

    def __init__(
        self,
        knowledge_base: str,
        work: Callable[[Callable[[IndexingProgress], None]], Added],
        info: Callable[[], KnowledgeBaseInfo],
    ) -> None:
        self.knowledge_base = knowledge_base
        self._work = work
        self._info = info

    def run(self, progress: Callable[[IndexingProgress], None] = lambda progress: None) -> Added:
        """Read, cut, embed and keep the documents.

        Args:
            progress: told how far it is, many times a second.

        Raises:
            KeyboardInterrupt: a person stopped it; the sources that were done are kept, each of them whole.
            LLMMagicsError: nothing could be added, in one line.
        """
        return self._work(progress)

    @property
    def info(self) -> KnowledgeBaseInfo:
        """The knowledge base as it is now."""
        return self._info()
