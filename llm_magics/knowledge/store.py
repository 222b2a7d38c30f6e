"""A knowledge base: documents, their chunks and vectors, and the search over them.

Held in memory, in one process; threads wait for one another. A chunk is a pair of offsets into its
document, and the text that is embedded carries the source's name and the headings above it, since a
piece cut from a manual seldom says what it is about.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import KnowledgeError, did_you_mean
from ..values.knowledge import Added, IndexingProgress, Passage, RetrievalRequest, Splitting
from . import saving
from .base import Chunk, Document, TextEmbedder, shown
from .keywords import KeywordIndex, matches
from .passages import fused, grouped, heading, in_groups, place_of, unit
from .reranking import CANDIDATES, Reranker
from .splitting import split
from .vectors import VectorIndex

if TYPE_CHECKING:
    from .base import Vectors

K = 4  # passages where no number is asked for
_GROUP = 256  # chunks that are embedded together; an interrupt loses no more than these
_SLOW = 5_000  # chunks from which on the index of their words takes more than a second
_DEPTH = 50  # candidates from each way of searching


@dataclass(slots=True)
class _Source:
    document: Document
    digest: str
    chunks: list[Chunk]
    numbers: list[int]


class KnowledgeBase:
    """Documents that can be searched.

    Args:
        name: what a person calls it.
        embedder: makes the vectors; the base is bound to its model.
        root: the folder from which its files are called; the working folder unless given.

    Raises:
        MissingPackageError: faiss is not installed.
    """

    def __init__(self, name: str, embedder: TextEmbedder, *, root: Path | None = None) -> None:
        self.name = name
        self.root = root or Path.cwd()
        self.embedder = embedder
        self._sources: dict[str, _Source] = {}
        self._where: dict[int, tuple[str, int]] = {}  # number of a vector -> source, place among its chunks
        self._next = 0
        self._vectors = VectorIndex(embedder.dimension)
        self._keywords: KeywordIndex | None = None
        self._lock = threading.RLock()  # LangChain asks from several threads at once
        self._reranker: Reranker | None = None

    def __len__(self) -> int:
        """How many chunks there are."""
        return len(self._where)

    @property
    def sources(self) -> dict[str, int]:
        """Each source with its number of chunks, in the order in which they came."""
        return {name: len(source.chunks) for name, source in self._sources.items()}

    @property
    def embedding(self) -> str:
        """Name of the embedding model that it is bound to."""
        return self.embedder.name

    @property
    def index(self) -> str:
        """The kind of vector index in use: ``exact``, or IVF with what it reads."""
        return self._vectors.description

    def add(
        self,
        documents: Iterable[Document],
        splitting: Splitting = Splitting(),  # noqa: B008 - frozen
        *,
        progress: Callable[[IndexingProgress], None] | None = None,
    ) -> Added:
        """Cut, embed and keep documents.

        Adding the same again adds nothing; a document whose text or splitting changed replaces the one of
        that source. An interrupt keeps the documents that are done, each of them whole.

        Args:
            documents: what to add. Of two with one source the last counts.
            splitting: how they are cut.
            progress: called while vectors are made.

        Raises:
            InputError: a splitter or sizes that do not exist or fit.
        """
        began, done = time.perf_counter(), 0
        latest = {document.source: document for document in documents}
        waiting = list(self._unknown(latest.values(), splitting))
        total = sum(len(source.chunks) for source in waiting)
        changed = sum(source.document.source in self._sources for source in waiting)
        for group in in_groups(waiting, _GROUP):
            texts = [_indexed(source, chunk) for source in group for chunk in source.chunks]
            vectors = self.embedder.vectors(texts, _told(progress, done, total, began))
            row = 0
            with _uninterrupted(), self._lock:
                for source in group:
                    self._put(source, vectors[row : row + len(source.chunks)])
                    row += len(source.chunks)
            done += len(texts)
        self._prepare(lambda status: progress and progress(IndexingProgress(done, total, 0.0, status, long=True)))
        seconds = time.perf_counter() - began
        return Added(len(waiting) - changed, changed, len(latest) - len(waiting), total, seconds)

    def _prepare(self, say: Callable[[str], object]) -> None:
        """Do now, where it is told, what would make the first search of a large base slow."""
        with self._lock:
            self._vectors.fit(say)
            if self._keywords is None and len(self) > _SLOW:
                say(f"indexing the words of {len(self):,} chunks")
                self._keywords = KeywordIndex(dict(self._texts()))

    def remove(self, source: str) -> int:
        """Take a source out; returns how many chunks it had.

        Raises:
            KnowledgeError: no such source; the nearest name is offered.
        """
        if source not in self._sources:
            raise KnowledgeError(
                f"the knowledge base {self.name} has no source {shown(source)}",
                shown(did_you_mean(source, self._sources)) or "%rag_add --list shows what there is",
            )
        with self._lock:
            return self._take_out(source)

    def clear(self) -> None:
        """Take everything out."""
        with self._lock:
            self._sources.clear()
            self._where.clear()
            self._vectors = VectorIndex(self.embedder.dimension)
            self._keywords = None

    def search(self, question: str, request: RetrievalRequest = RetrievalRequest()) -> list[Passage]:  # noqa: B008
        """The passages that fit a question, the best first.

        Args:
            question: in a person's words.
            request: how to look; ``dense`` is the cosine, ``keyword`` BM25, and ``hybrid`` both joined by
                reciprocal rank fusion (Cormack et al. 2009, doi:10.1145/1571941.1572114). Diversity is maximal
                marginal relevance (Carbonell and Goldstein 1998, doi:10.1145/290941.291025).

        Returns:
            Passages with scores from 0 to 1: the cosine, for ``keyword`` the share of the best BM25 score
            there can be, for ``hybrid`` the higher of the two, so that its order need not be theirs; with a
            cross-encoder its own. Neighbours from one source are one passage; the same text twice is one.

        Raises:
            ModelNotFoundError: no such cross-encoder.
            MissingPackageError: sentence-transformers, which runs it, is not installed.
        """
        if not self._where or not question.strip():
            return []
        k = request.k or K
        with self._lock:
            found = self._ranked(question, max(_DEPTH, 4 * k), request.search)
            if request.rerank:
                found = self._reranked(question, self._different(found)[: max(CANDIDATES, 2 * k)], request.rerank)
            ranked = self._different([pair for pair in found if pair[1] >= request.min_score])
            if request.diversity:
                ranked = self._spread(ranked, 2 * k, request.diversity)
            passages = self._passages(ranked, k)
        return [dataclasses.replace(passage, matches=matches(passage.text, question)) for passage in passages]

    def document(self, source: str) -> Document | None:
        """The document of a source; None where there is none."""
        found = self._sources.get(source)
        return found.document if found else None

    def chunk(self, source: str, number: int) -> Passage | None:
        """One chunk of a source; None where there is none."""
        found = self._sources.get(source)
        return self._passage(source, {number}, 0.0) if found and 0 <= number < len(found.chunks) else None

    def nearest(self, vector: Vectors, count: int) -> tuple[list[Passage], Vectors]:
        """The chunks nearest to a vector, one passage each, the best first, and their vectors.

        Args:
            vector: of length 1, (dimension,).
            count: how many at most.

        Returns:
            Passages whose score is the cosine, cut to 0 to 1; float32 vectors, (passages, dimension).
        """
        with self._lock:
            if not self._where:
                return [], self._vectors.of([])
            self._vectors.fit()
            found = self._vectors.search(vector, count)
            places = [(*self._where[number], unit(score)) for number, score in found]
            passages = [self._passage(name, {place}, score) for name, place, score in places]
            return passages, self._vectors.of([number for number, _ in found])

    def save(self, folder: Path | str) -> None:
        """Save into a folder: all or nothing, see ``saving``.

        Raises:
            KnowledgeError: the folder holds something else or cannot be written to.
        """
        with self._lock:
            self._vectors.fit()
            about = {
                "name": self.name,
                "embedding": self.embedder.name,
                "dimension": self.embedder.dimension,
                "chunks": len(self),
                "sources": len(self._sources),
                "index": self.index,
                "root": saving.path_from(Path(folder), self.root),
            }
            saving.write(Path(folder), about, map(_as_json, self._sources.values()), self._vectors.write)

    @classmethod
    def load(
        cls, folder: Path | str, embedder: TextEmbedder | Callable[[str], TextEmbedder], *, name: str = ""
    ) -> KnowledgeBase:
        """Open a saved knowledge base.

        Args:
            folder: where it was saved.
            embedder: of the model that it was made with, or what opens one by its name.
            name: what to call it; its own name unless given.

        Raises:
            KnowledgeError: no knowledge base, a damaged one, or one made with another embedding model.
        """
        path = Path(folder)
        saved = saving.read(path)
        model = str(saved.about.get("embedding"))
        maker = embedder(model) if callable(embedder) else embedder
        root = Path(os.path.normpath(path.absolute() / str(saved.about.get("root", Path.cwd()))))
        base = cls(name or shown(str(saved.about.get("name"))), maker, root=root)
        if maker.name != model:
            raise KnowledgeError(
                f"the knowledge base in {shown(str(folder))} was made with {model}, not {maker.name}",
                f"Open it with {model}",
            )
        try:
            for line in saved.lines():
                base._restore(line)
            base._vectors = VectorIndex.read(saved.vectors, maker.dimension)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise saving.damaged(path, "its files cannot be read") from error
        if base._vectors.numbers() != set(base._where) or len(base) != saved.about.get("chunks"):
            raise saving.damaged(path, "its files do not belong together")
        return base

    def _unknown(self, documents: Iterable[Document], splitting: Splitting) -> Iterator[_Source]:
        """What is not here yet in this text and splitting, cut into chunks."""
        for document in documents:
            digest = digest_of(document, splitting)
            known = self._sources.get(document.source)
            if known is None or known.digest != digest:
                cut = split(document, splitting, count_tokens=self.embedder.count_tokens)
                yield _Source(document, digest, cut, [])

    def _put(self, source: _Source, vectors: Any) -> None:
        """Replace or add one source."""
        name = source.document.source
        numbers = list(range(self._next, self._next + len(source.chunks)))
        if numbers:
            self._vectors.add(numbers, vectors)
        if name in self._sources:
            self._take_out(name)
        source.numbers = numbers
        self._next += len(numbers)
        self._where.update({number: (name, place) for place, number in enumerate(numbers)})
        self._sources[name] = source
        self._keywords = None

    def _take_out(self, name: str) -> int:
        source = self._sources.pop(name)
        for number in source.numbers:
            del self._where[number]
        if source.numbers:
            self._vectors.remove(source.numbers)
        self._keywords = None
        return len(source.numbers)

    def _restore(self, line: dict[str, Any]) -> None:
        names = ("text", "source", "kind", "page_word", "title", "metadata")
        origin = {name: line[name] for name in ("file", "variable") if name in line}
        document = Document(**{name: line[name] for name in names}, pages=tuple(line["pages"]), **origin)
        chunks = [Chunk(start, end, place) for _, start, end, place in line["chunks"]]
        source = _Source(document, line["digest"], chunks, [number for number, *_ in line["chunks"]])
        self._sources[document.source] = source
        self._where.update({number: (document.source, place) for place, number in enumerate(source.numbers)})
        self._next = max(self._next, *(number + 1 for number in source.numbers), 0)

    def _ranked(self, question: str, depth: int, way: str) -> list[tuple[int, float]]:
        """Numbers with scores, the best first."""
        dense: list[tuple[int, float]] = []
        words: list[tuple[int, float]] = []
        if way != "dense":
            if self._keywords is None:
                self._keywords = KeywordIndex(dict(self._texts()))
            words = self._keywords.search(question, depth)
        if way != "keyword":
            self._vectors.fit()
            asked = self.embedder.question(question)
            dense = self._vectors.search(asked, depth)
        if way == "dense":
            return [(number, unit(score)) for number, score in dense]
        if way == "keyword":
            return words
        scores = {number: unit(score) for number, score in dense}
        unseen = [number for number, _ in words if number not in scores]
        cosines = self._vectors.of(unseen) @ asked
        scores.update({number: unit(float(cosine)) for number, cosine in zip(unseen, cosines, strict=True)})
        for number, score in words:
            scores[number] = max(scores[number], score)
        order = fused([[number for number, _ in dense], [number for number, _ in words]])
        return [(number, scores[number]) for number in order]

    def _reranked(self, question: str, found: list[tuple[int, float]], name: str) -> list[tuple[int, float]]:
        """The same numbers with the scores of a cross-encoder and in their order."""
        if self._reranker is None or self._reranker.name != name:
            self._reranker = Reranker(name)
        texts = []
        for number, _ in found:
            source, place = self._where[number]
            texts.append(_indexed(self._sources[source], self._sources[source].chunks[place]))
        scores = self._reranker.scores(question, texts)
        pairs = [(number, score) for (number, _), score in zip(found, scores, strict=True)]
        return sorted(pairs, key=lambda pair: -pair[1])

    def _texts(self) -> Iterator[tuple[int, str]]:
        for source in self._sources.values():
            for number, chunk in zip(source.numbers, source.chunks, strict=True):
                yield number, _indexed(source, chunk)

    def _different(self, ranked: list[tuple[int, float]]) -> list[tuple[int, float]]:
        """Without the second of two chunks of the same words."""
        seen: dict[str, tuple[int, float]] = {}
        for number, score in ranked:
            name, place = self._where[number]
            source = self._sources[name]
            chunk = source.chunks[place]
            words = " ".join(source.document.text[chunk.start : chunk.end].split())
            seen.setdefault(words, (number, score))
        return list(seen.values())

    def _spread(self, ranked: list[tuple[int, float]], count: int, diversity: float) -> list[tuple[int, float]]:
        """Reorder so that each is unlike those before it; the rank stands for the relevance."""
        left = list(range(len(ranked)))
        vectors = self._vectors.of([number for number, _ in ranked])
        alike = vectors @ vectors.T
        taken: list[int] = []
        while left and len(taken) < count:
            best = max(
                left,
                key=lambda i: (
                    (1 - diversity) * (1 - i / len(ranked))
                    - diversity * max((float(alike[i, j]) for j in taken), default=0.0)
                ),
            )
            left.remove(best)
            taken.append(best)
        return [ranked[i] for i in taken]

    def _passages(self, ranked: Sequence[tuple[int, float]], k: int) -> list[Passage]:
        """The first k places, neighbours joined to the better of the two, each chunk once."""
        places = [(*self._where[number], score) for number, score in ranked]
        return [self._passage(*group) for group in grouped(places, k)]

    def _passage(self, name: str, places: set[int], score: float) -> Passage:
        source = self._sources[name]
        first, last = min(places), max(places)
        start, end = source.chunks[first].start, source.chunks[last].end
        place = place_of([source.chunks[place].place for place in range(first, last + 1)])
        text, title = source.document.text[start:end], source.document.title
        return Passage(text, name, start, end, place, score, first, title)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold back Ctrl+C while several tables change together. Other threads get none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before = signal.signal(signal.SIGINT, lambda *_: held.append(1))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        raise KeyboardInterrupt


def _indexed(source: _Source, chunk: Chunk) -> str:
    """What is embedded and searched: the chunk under what it hangs under."""
    return heading(source.document, chunk) + source.document.text[chunk.start : chunk.end]


def _told(
    progress: Callable[[IndexingProgress], None] | None, done: int, total: int, began: float
) -> Callable[[int], None] | None:
    if progress is None:
        return None
    return lambda count: progress(IndexingProgress(done + count, total, time.perf_counter() - began))


def digest_of(document: Document, splitting: Splitting) -> str:
    """SHA-256 of everything that the chunks of a document follow from, in hexadecimal."""
    about = [document.kind, document.title, dict(document.metadata), *dataclasses.astuple(splitting)]
    text = f"{json.dumps(about, sort_keys=True)}\0{document.text}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _as_json(source: _Source) -> dict[str, Any]:
    document = source.document
    return {
        "source": document.source,
        "kind": document.kind,
        "digest": source.digest,
        "pages": document.pages,
        "page_word": document.page_word,
        "title": document.title,
        "metadata": dict(document.metadata),
        "file": document.file,
        "variable": document.variable,
        "chunks": [
            (number, chunk.start, chunk.end, chunk.place)
            for number, chunk in zip(source.numbers, source.chunks, strict=True)
        ],
        "text": document.text,
    }
