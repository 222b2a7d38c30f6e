"""A knowledge base in a database, through any LangChain vector store.

The store embeds, keeps and searches; here documents are cut, and passages are made of what it finds. Every
chunk has an id that follows from its source and its number, and metadata that say where it stands, so that
another kernel or machine finds again what this one wrote. The first chunk of a source is written last and
holds its digest: a source whose writing broke off counts as unknown and is written anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import re
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, KnowledgeError, LLMMagicsError, MissingPackageError, did_you_mean
from ..values.knowledge import Added, IndexingProgress, Passage, RetrievalRequest, Splitting
from .base import Chunk, Document, shown
from .keywords import KeywordIndex, matches
from .passages import fused, grouped, heading, in_groups, place_of, unit
from .splitting import split
from .store import K, digest_of

if TYPE_CHECKING:
    from langchain_core.documents import Document as StoredDocument
    from langchain_core.vectorstores import VectorStore

_GROUP = 64  # chunks that are written together; an interrupt loses no more than these
_LOOKUP = 256  # ids in one question to the database
_DEPTH = 50  # candidates of a search
_SPACE = uuid.UUID("5f0c1b3e-6a53-4f0e-9d57-3f6c8a2f4b19")  # of the ids of chunks
_KEPT = ("chunk", "count", "digest", "embedding")  # of the metadata, what is asked for by id
_USER = re.compile(r"(?<=://)[^/\s@]*@")
_SECRET = re.compile(r"(?i)\b(password|passwd|pwd|token|api[-_]?key|secret)(['\"]?\s*[=:]\s*)\S+")


@dataclass(frozen=True, slots=True)
class _Source:
    document: Document
    digest: str
    chunks: list[Chunk]
    ids: list[str]


@dataclass(frozen=True, slots=True)
class _Found:
    """A chunk that the database found, and where it stands; without metadata of ours it stands alone."""

    text: str
    source: str
    number: int
    start: int
    place: str
    title: str
    score: float

    @property
    def end(self) -> int:
        return self.start + len(self.text)


class StoreBase:
    """A knowledge base in a database.

    Args:
        name: what a person calls it.
        store: a ``langchain_core.vectorstores.VectorStore``; what is in it already can be searched.

    Raises:
        InputError: it is something else.
        MissingPackageError: langchain-core is not installed.
    """

    def __init__(self, name: str, store: VectorStore) -> None:
        try:
            from langchain_core.vectorstores import VectorStore
        except ImportError as error:
            raise MissingPackageError((error.name or "langchain_core").partition(".")[0], "rag") from error
        if not isinstance(store, VectorStore):
            raise InputError(
                f"a {type(store).__name__} is no vector store",
                "It takes one of LangChain's, such as PGVector(...), Milvus(...) or QdrantVectorStore(...)",
            )
        self.name = name
        self.store = store
        self.root = Path.cwd()
        self.embedder = None
        self._known: dict[str, int] = {}  # chunks of the sources that this session met
        self._keeps_metadata = False  # seen once

    def __len__(self) -> int:
        """How many chunks this session knows of."""
        return sum(self._known.values())

    @property
    def sources(self) -> Mapping[str, int]:
        """The sources that this session added or found there already, with their numbers of chunks."""
        return dict(self._known)

    @property
    def embedding(self) -> str:
        """Name of the embedding model that the store was opened with."""
        return model_name(self.store.embeddings)

    @property
    def index(self) -> str:
        """The kind of database."""
        return type(self.store).__name__

    def add(
        self,
        documents: Iterable[Document],
        splitting: Splitting = Splitting(),  # noqa: B008 - frozen
        *,
        progress: Callable[[IndexingProgress], None] | None = None,
    ) -> Added:
        """Cut documents and have the store embed and keep them.

        What the database has already in this text and splitting is left alone, and the old chunks of what
        changed are replaced, whoever wrote them. A database that cannot be asked for an id (no
        ``get_by_ids`` and no ``search_by_metadata``) is given everything again under the same ids; of a source
        that became shorter, only what this session wrote before can be taken out.

        Args:
            documents: what to add. Of two with one source the last counts.
            splitting: how they are cut.
            progress: called after each group that is written.

        Raises:
            InputError: a splitter or sizes that do not exist or fit.
            KnowledgeError: the database failed, or was filled with another embedding model.
            KeyboardInterrupt: what was written before is kept, each source whole.
        """
        began, done = time.perf_counter(), 0
        latest = {document.source: document for document in documents}
        written = self._written(latest)
        waiting = [
            _Source(document, digest, chunks, self._ids(source, max(1, len(chunks))))
            for source, document in latest.items()
            if written.get(source, {}).get("digest") != (digest := digest_of(document, splitting))
            for chunks in [split(document, splitting, count_tokens=self._count_tokens())]
        ]
        total = sum(len(source.chunks) for source in waiting)
        changed = 0
        for group in in_groups(waiting, _GROUP):
            changed += self._replace(group, written)
            done += sum(len(source.chunks) for source in group)
            if progress is not None:
                progress(IndexingProgress(done, total, time.perf_counter() - began))
        again = {source: about["count"] for source, about in written.items() if "count" in about}
        self._known.update({source: count for source, count in again.items() if source not in self._known})
        seconds = time.perf_counter() - began
        return Added(len(waiting) - changed, changed, len(latest) - len(waiting), total, seconds)

    def document(self, source: str) -> None:
        """None: the database has the text."""

    def remove(self, source: str) -> int:
        """Take a source out; returns how many chunks it had.

        Raises:
            KnowledgeError: there is no such source that llm_magics added, or the database failed.
        """
        about = self._written([source]).get(source, {})
        count = int(about.get("count") or self._known.get(source, 0))
        if not count:
            raise KnowledgeError(
                f"llm_magics added no source {shown(source)} to {self.index}",
                shown(did_you_mean(source, self._known)) or "What others added is removed in the database",
            )
        with self._errors():
            self.store.delete(self._ids(source, count))
        self._known.pop(source, None)
        return count

    def clear(self) -> None:
        """Take everything out, where the store does that for ``delete(None)`` as LangChain describes it.

        Raises:
            KnowledgeError: it does not, and nothing was taken out.
        """
        with contextlib.suppress(Exception):  # most stores refuse or do nothing: what counts is what is left
            self.store.delete(None)
        with self._errors():
            left = self.store.similarity_search("anything", k=1)
        if left:
            raise KnowledgeError(
                f"{self.index} cannot be emptied from here", "Empty its collection in the database, or --remove SOURCE"
            )
        self._known.clear()

    def search(self, question: str, request: RetrievalRequest) -> list[Passage]:
        """The passages that fit a question, the best first.

        ``dense`` is the store's own search. ``hybrid`` joins its ranking with that of BM25 over the same
        candidates. Diversity is the store's own maximal marginal relevance.

        Args:
            question: in a person's words.
            request: how to look.

        Returns:
            Passages with the store's own relevance scores, cut to 0 to 1: for PostgreSQL the cosine, for Milvus
            half of the cosine and 1. Neighbours from one source are one passage; the same text twice is one.

        Raises:
            KnowledgeError: the database failed, or cannot search in that way.
        """
        if not question.strip():
            return []
        if request.search == "keyword":
            raise KnowledgeError(f"{self.index} has no search by words", "Type --search hybrid or --search dense")
        if request.rerank:
            raise KnowledgeError(f"passages of {self.index} are not reranked", "Leave --rerank out")
        k = request.k or K
        depth = max(_DEPTH, 4 * k)
        candidates = self._candidates(question, depth, request.min_score)
        dense = list(candidates)
        if request.diversity:
            dense = [key for key in self._spread(question, 2 * k, depth, request.diversity) if key in candidates]
        order = dense
        if request.search == "hybrid":
            keys = list(candidates)
            index = KeywordIndex({number: candidates[key].text for number, key in enumerate(keys)})
            words = [keys[number] for number, _ in index.search(question, depth)]
            order = fused([dense, [key for key in words if not request.diversity or key in set(dense)]])
        chosen = [candidates[key] for key in order if candidates[key].score >= request.min_score]
        by_place = {(found.source, found.number): found for found in chosen}
        ranked = [(found.source, found.number, found.score) for found in chosen]
        passages = [
            _passage([by_place[source, number] for number in sorted(numbers)], score)
            for source, numbers, score in grouped(ranked, k)
        ]
        return [dataclasses.replace(passage, matches=matches(passage.text, question)) for passage in passages]

    def _candidates(self, question: str, depth: int, min_score: float) -> dict[str, _Found]:
        """What the store finds, the best first, by its words: the same text twice is one."""
        scored: list[tuple[StoredDocument, float]]
        with self._errors(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Relevance scores must be between")
            try:
                scored = self.store.similarity_search_with_relevance_scores(question, k=depth)
            except (NotImplementedError, ValueError) as error:  # ValueError: Milvus with several vectors
                if min_score:
                    raise KnowledgeError(f"{self.index} gives no scores", "Leave --min-score out") from error
                scored = [(document, 0.0) for document in self.store.similarity_search(question, k=depth)]
        self._same_model([document.metadata for document, _ in scored])
        found: dict[str, _Found] = {}
        for rank, (document, score) in enumerate(scored):
            found.setdefault(_words(document), _found(document, unit(score), rank))
        return found

    def _spread(self, question: str, count: int, depth: int, diversity: float) -> list[str]:
        with self._errors():
            try:
                found = self.store.max_marginal_relevance_search(
                    question, k=count, fetch_k=depth, lambda_mult=1 - diversity
                )
            except NotImplementedError as error:
                raise KnowledgeError(f"{self.index} cannot spread its passages", "Leave --diversity out") from error
        return list(dict.fromkeys(map(_words, found)))

    def _replace(self, group: Sequence[_Source], written: Mapping[str, Mapping[str, Any]]) -> int:
        """Write sources over what there is of them; returns how many were there."""
        names = [source.document.source for source in group]
        counts = [int(written.get(name, {}).get("count") or self._known.get(name, 0)) for name in names]
        ids = [
            one
            for source, count in zip(group, counts, strict=True)
            for one in self._ids(source.document.source, max(count, len(source.ids)))
        ]
        there = self._there(ids)
        with self._errors():
            if stale := (ids if there is None else list(there)):
                self.store.delete(stale)
        for name in names:
            self._known.pop(name, None)
        try:
            self._write([(source, number) for source in group for number in range(1, len(source.chunks))])
            self._write([(source, 0) for source in group])
            self._look_again(group)
        except BaseException:  # an interrupt as well: no part of a source stays
            with contextlib.suppress(Exception):
                self.store.delete([one for source in group for one in source.ids])
            raise
        self._known.update({source.document.source: len(source.chunks) for source in group})
        return sum(bool(count) for count in counts)

    def _write(self, places: Sequence[tuple[_Source, int]]) -> None:
        for first in range(0, len(places), _GROUP):
            some = places[first : first + _GROUP]
            rows = [self._row(source, number) for source, number in some if source.chunks]
            ids = [source.ids[number] for source, number in some if source.chunks]
            if rows:
                with self._errors():
                    self.store.add_documents(rows, ids=ids)

    def _look_again(self, group: Sequence[_Source]) -> None:
        """Whether the database kept the metadata; one with fixed columns drops them without a word.

        Raises:
            KnowledgeError: it did not.
        """
        first = next((source.ids[0] for source in group if source.chunks), "")
        if self._keeps_metadata or not first:
            return
        there = self._there([first])
        if there is not None and "digest" not in there.get(first, {}):
            raise KnowledgeError(
                f"{self.index} does not keep where a chunk comes from",
                "Open it with room for metadata: Milvus(..., enable_dynamic_field=True), or another collection",
            )
        self._keeps_metadata = True

    def _row(self, source: _Source, number: int) -> StoredDocument:
        from langchain_core.documents import Document as StoredDocument

        document, chunk = source.document, source.chunks[number]
        head = heading(document, chunk)
        about = {
            **document.metadata,
            "source": document.source,
            "title": document.title,
            "place": chunk.place,
            "start": chunk.start,
            "end": chunk.end,
            "number": number,
            "count": len(source.chunks),
            "head": len(head),
            "digest": source.digest,
            "embedding": self.embedding,
            "chunk": source.ids[number],
        }
        text = head + document.text[chunk.start : chunk.end]
        return StoredDocument(id=source.ids[number], page_content=text, metadata=about)

    def _ids(self, source: str, count: int) -> list[str]:
        """The ids of a source's chunks. The collection counts: PostgreSQL keeps all collections in one table."""
        collection = getattr(self.store, "collection_name", "")
        return [str(uuid.uuid5(_SPACE, json.dumps([str(collection), source, number]))) for number in range(count)]

    def _written(self, sources: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        """The metadata of the first chunk of each source that the database has."""
        first = {self._ids(source, 1)[0]: source for source in sources}
        there = self._there(list(first)) or {}
        self._same_model(there.values())
        return {first[one]: about for one, about in there.items()}

    def _there(self, ids: Sequence[str]) -> dict[str, Mapping[str, Any]] | None:
        """Metadata of the chunks with these ids, those that there are; None where it cannot be asked."""
        found: dict[str, Mapping[str, Any]] = {}
        for first in range(0, len(ids), _LOOKUP):
            some = [*ids[first : first + _LOOKUP]]
            with self._errors():
                try:
                    documents = self.store.get_by_ids(some)
                except NotImplementedError:
                    query = getattr(self.store, "search_by_metadata", None)  # Milvus has this instead
                    if query is None:
                        return None
                    documents = query(f"chunk in {json.dumps(some)}", [*_KEPT], len(some))
            found.update(
                {str(document.metadata.get("chunk") or document.id): document.metadata for document in documents}
            )
        return found

    def _same_model(self, metadata: Iterable[Mapping[str, Any]]) -> None:
        """Vectors of two models do not compare, and every answer would be a chance one.

        Raises:
            KnowledgeError: a chunk was written with another embedding model.
        """
        mine = self.embedding
        for about in metadata:
            theirs = str(about.get("embedding") or mine)
            if _short(theirs) != _short(mine):
                raise KnowledgeError(
                    f"{self.index} was filled with {theirs}, not {mine}", f"Open the store with embeddings of {theirs}"
                )

    def _count_tokens(self) -> Callable[[str], int] | None:
        embedder = getattr(self.store.embeddings, "embedder", None)
        return getattr(embedder, "count_tokens", None)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """What the database's client raises, in one line and without passwords."""
        try:
            yield
        except (LLMMagicsError, NotImplementedError):
            raise
        except Exception as error:
            said = next((line for line in str(error).splitlines() if line.strip()), "")
            said = _SECRET.sub(r"\1\2***", _USER.sub("***@", said))[:200]
            raise KnowledgeError(
                f"{self.index} failed: {type(error).__name__}{f': {said}' if said else ''}",
                "Look whether the database runs and the store was opened for it",
            ) from None  # the cause would show the address with its password


def model_name(embeddings: object) -> str:
    """Name of the model behind LangChain embeddings, where they tell it; else of their class."""
    for attribute in ("model_name", "model", "model_id"):
        name = getattr(embeddings, attribute, None)
        if isinstance(name, str) and name:
            return name
    return type(embeddings).__name__ if embeddings is not None else "the database's own"


def _short(model: str) -> str:
    """The same model is called with and without its owner."""
    return model.rstrip("/").rpartition("/")[2].casefold()


def _words(document: StoredDocument) -> str:
    return " ".join(document.page_content[_whole(document.metadata, "head") :].split())


def _found(document: StoredDocument, score: float, rank: int) -> _Found:
    about = document.metadata
    ours = "chunk" in about
    text = document.page_content[_whole(about, "head") if ours else 0 :]
    # What others wrote is no neighbour of anything: two even numbers never follow each other.
    number = _whole(about, "number") if ours else -2 * (rank + 1)
    source = str(about.get("source") or document.id or "document")
    place = str(about.get("place") or ("" if ours else _page(about)))
    return _Found(text, source, number, _whole(about, "start"), place, str(about.get("title") or ""), score)


def _page(about: Mapping[str, Any]) -> str:
    """LangChain's loaders number pages from 0."""
    page = about.get("page")
    return f"page {page + 1}" if isinstance(page, int) else ""


def _whole(about: Mapping[str, Any], name: str) -> int:
    """A number that went through a database: some give 3.0 or "3" back."""
    try:
        return int(about.get(name) or 0)
    except (TypeError, ValueError):
        return 0


def _passage(chunks: Sequence[_Found], score: float) -> Passage:
    """One passage of neighbours in order. What they share stands once; between them was white space."""
    first, last = chunks[0], chunks[-1]
    text = first.text
    for before, chunk in itertools.pairwise(chunks):
        gap = chunk.start - before.end
        text += "\n" * min(gap, 2) + chunk.text if gap >= 0 else chunk.text[-gap:]
    place = place_of([chunk.place for chunk in chunks])
    return Passage(text, first.source, first.start, last.end, place, score, max(0, first.number), first.title)
