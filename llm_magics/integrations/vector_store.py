"""A knowledge base as a LangChain vector store."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from ..errors import InputError
from ..knowledge import base as values
from ..knowledge.store import K, KnowledgeBase
from ..values.knowledge import Passage, RetrievalRequest, Splitting
from .embeddings import LangChainEmbedder, SentenceEmbeddings

WHOLE = Splitting("none")


class KnowledgeBaseStore(VectorStore):
    """A knowledge base, seen as LangChain sees a store.

    A document that is given here is one chunk; its id is its source in the knowledge base, and it comes back
    as it was given. A chunk of what was cut, as by ``%rag_add``, comes back with the id ``SOURCE#NUMBER`` and
    with source, title, place, start and end in its metadata. A search by a question is the one of ``%%rag``
    and takes its options by name: ``search`` (``hybrid`` unless given), ``min_score`` and ``diversity``; a
    search by a vector is by the cosine.

    Args:
        embedding: any LangChain embeddings, for a new knowledge base.
        base: the knowledge base to be seen, instead.
        keep: called after each change, as to save the base.

    Raises:
        InputError: neither or both are given.
    """

    def __init__(
        self,
        embedding: Embeddings | None = None,
        *,
        base: KnowledgeBase | None = None,
        keep: Callable[[], None] = lambda: None,
    ) -> None:
        if (embedding is None) == (base is None):
            raise InputError("a store needs embeddings or a knowledge base", "Type KnowledgeBaseStore(embeddings)")
        if embedding is not None:
            embedder = embedding.embedder if isinstance(embedding, SentenceEmbeddings) else LangChainEmbedder(embedding)
            base = KnowledgeBase("langchain", embedder)
        assert base is not None
        self.base = base
        self._keep = keep

    @property
    def embeddings(self) -> Embeddings:
        """What makes the vectors."""
        embedder = self.base.embedder
        return embedder.embeddings if isinstance(embedder, LangChainEmbedder) else SentenceEmbeddings(embedder)

    def add_documents(self, documents: list[Document], **kwargs: Any) -> list[str]:
        """Add documents, each as one chunk. One of an id that is there already replaces it.

        Args:
            documents: what to add; one without an id gets one.
            kwargs: ``ids`` goes before the documents' own.

        Returns:
            The ids.

        Raises:
            InputError: as many ids as documents are needed, or metadata are no JSON.
        """
        ids = kwargs.get("ids") or [document.id for document in documents]
        if len(ids) != len(documents):
            raise InputError(f"there are {len(documents)} documents and {len(ids)} ids", "Give one id for each")
        named = [str(one) if one else str(uuid.uuid4()) for one in ids]
        self.base.add(map(_given, named, documents), WHOLE)
        self._keep()
        return named

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Take documents out, or with None everything, as LangChain has it. An id that is not there is no error.

        Raises:
            InputError: an id is that of one chunk of a document.
        """
        if ids is None:
            self.base.clear()
        for one in ids or ():
            if one in self.base.sources:
                self.base.remove(one)
            elif self.get_by_ids([one]):
                self._keep()
                raise InputError(
                    f"{one} is a part of a document", f'Delete all of it: ids=["{one.rpartition("#")[0]}"]'
                )
        self._keep()
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents of these ids, in their order; those that are missing are left out."""
        return [found for one in ids if (found := self._by_id(one)) is not None]

    def similarity_search(self, query: str, k: int = K, **kwargs: Any) -> list[Document]:
        """The documents that fit a question; see ``similarity_search_with_score``."""
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    def similarity_search_with_score(self, query: str, k: int = K, **kwargs: Any) -> list[tuple[Document, float]]:
        """What ``%%rag`` finds for a question.

        Args:
            query: the question.
            k: how many at most.
            kwargs: ``search``, ``min_score`` and ``diversity``, as in ``RetrievalRequest``.

        Returns:
            Documents with scores from 0 to 1, the best first; in a hybrid search the order joins two rankings
            and need not be that of the scores.

        Raises:
            InputError: an option that there is not, or out of range.
        """
        options = {name: kwargs.pop(name) for name in ("search", "min_score", "diversity") if name in kwargs}
        if kwargs:
            raise InputError(f"this store has no {', '.join(kwargs)}", "There are k, search, min_score and diversity")
        found = self.base.search(query, RetrievalRequest(k=k, **options))
        return [(self._document(passage), passage.score) for passage in found]

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = K, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        return self.similarity_search_with_score(query, k, **kwargs)

    def similarity_search_by_vector(self, embedding: list[float], k: int = K, **kwargs: Any) -> list[Document]:
        """The documents nearest to a vector, by the cosine."""
        passages, _ = self.base.nearest(_vector(embedding), k)
        return [self._document(passage) for passage in passages]

    def max_marginal_relevance_search(
        self, query: str, k: int = K, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """Documents near to a question and unlike one another; see the search by a vector."""
        vector = self.base.embedder.question(query).tolist()
        return self.max_marginal_relevance_search_by_vector(vector, k, fetch_k, lambda_mult)

    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = K, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """Documents near to a vector and unlike one another: Carbonell and Goldstein 1998, by LangChain's own code.

        Args:
            embedding: the vector.
            k: how many at most.
            fetch_k: how many of the nearest are looked at.
            lambda_mult: 1 looks at nearness alone, 0 at difference alone.
            kwargs: not used.
        """
        asked = _vector(embedding)
        passages, vectors = self.base.nearest(asked, fetch_k)
        chosen = maximal_marginal_relevance(asked, list(vectors), lambda_mult=lambda_mult, k=k)
        return [self._document(passages[row]) for row in chosen]

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> KnowledgeBaseStore:
        """A new knowledge base of these texts.

        Args:
            texts: what to add.
            embedding: any LangChain embeddings.
            metadatas: one dict a text.
            ids: one id a text.
            kwargs: as for the class.
        """
        store = cls(embedding, **kwargs)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    def _by_id(self, one: str) -> Document | None:
        document = self.base.document(one)
        if document is not None:
            return Document(id=one, page_content=document.text, metadata=dict(document.metadata))
        source, _, number = one.rpartition("#")
        passage = self.base.chunk(source, int(number)) if number.isdecimal() else None
        return self._document(passage) if passage is not None else None

    def _document(self, passage: Passage) -> Document:
        """A passage as a document; what was given whole has no place in anything."""
        document = self.base.document(passage.source)
        about = dict(document.metadata) if document is not None else {}
        if not passage.place:
            return Document(id=passage.source, page_content=passage.text, metadata=about)
        about |= {name: getattr(passage, name) for name in ("source", "title", "place", "start", "end")}
        return Document(id=f"{passage.source}#{passage.chunk}", page_content=passage.text, metadata=about)


def _given(one: str, document: Document) -> values.Document:
    metadata = dict(document.metadata)
    try:
        json.dumps(metadata)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the metadata of {one} are no JSON: {error}", "Take texts, numbers, lists and dicts"
        ) from error
    return values.Document(document.page_content, one, metadata=metadata)


def _vector(embedding: Sequence[float]) -> values.Vectors:
    import numpy as np

    vector = np.asarray(embedding, np.float32)
    return np.asarray(vector / (float(np.linalg.norm(vector)) or 1.0), np.float32)
