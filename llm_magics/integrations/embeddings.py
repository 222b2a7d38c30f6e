"""Embedding models both ways: a session's for LangChain, and LangChain's for a knowledge base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from langchain_core.embeddings import Embeddings

from ..knowledge.base import TextEmbedder
from ..knowledge.remote import model_name

if TYPE_CHECKING:
    from ..knowledge.base import Vectors


class SentenceEmbeddings(Embeddings):
    """An embedder of llm_magics, as LangChain's vector stores take it.

    Args:
        embedder: makes the vectors.

    Attributes:
        model_name: the model's name.
    """

    def __init__(self, embedder: TextEmbedder) -> None:
        self.embedder = embedder
        self.model_name = embedder.name

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A vector of length 1 for each text."""
        found: list[list[float]] = self.embedder.vectors(texts).tolist()
        return found

    def embed_query(self, text: str) -> list[float]:
        """The vector of a question, of length 1."""
        found: list[float] = self.embedder.question(text).tolist()
        return found


class LangChainEmbedder:
    """Any LangChain embeddings, as a knowledge base takes them.

    Args:
        embeddings: makes the vectors.
    """

    def __init__(self, embeddings: Embeddings) -> None:
        self.embeddings = embeddings
        self.name = model_name(embeddings)
        self._dimension = 0

    @property
    def dimension(self) -> int:
        """Numbers in a vector; the first look embeds one word."""
        self._dimension = self._dimension or len(self.embeddings.embed_query("dimension"))
        return self._dimension

    def vectors(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> Vectors:
        """Vectors of documents, float32, (texts, dimension), each of length 1."""
        import numpy as np

        found = np.asarray(self.embeddings.embed_documents([*texts]), np.float32).reshape(len(texts), -1)
        if progress is not None:
            progress(len(texts))
        return _normalised(found)

    def question(self, text: str) -> Vectors:
        """Vector of a question, float32, (dimension,), of length 1."""
        import numpy as np

        return _normalised(np.asarray(self.embeddings.embed_query(text), np.float32))

    def count_tokens(self, text: str) -> int:
        """Words in a text: LangChain's embeddings do not tell their tokens."""
        return len(text.split())


def _normalised(vectors: Vectors) -> Vectors:
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(lengths == 0, 1, lengths), np.float32)
