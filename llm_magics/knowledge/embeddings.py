"""Sentence embeddings, through sentence-transformers (Reimers and Gurevych 2019, arXiv:1908.10084)."""

from __future__ import annotations

import contextlib
import logging
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..aliases import EMBEDDERS
from ..errors import MissingPackageError, ModelNotFoundError, did_you_mean

if TYPE_CHECKING:
    from .base import Vectors

BUDGET = {"cpu": 1024, "cuda": 32768, "mps": 8192}  # tokens in a batch, padding included


class Embedder:
    """A sentence embedding model.

    Args:
        name: alias, Hugging Face Hub id or local folder.

    Raises:
        ModelNotFoundError: no such model here, and none can be fetched.
        MissingPackageError: sentence-transformers is not installed.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._model = _open(name)

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        return int(self._model.get_embedding_dimension())

    def similarities(self, texts: Sequence[str], question: str) -> list[float]:
        """Cosine of each text with the question, from -1 to 1."""
        vectors = self._model.encode([*texts, question], normalize_embeddings=True, show_progress_bar=False)
        return [float(value) for value in vectors[:-1] @ vectors[-1]]

    def vectors(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> Vectors:
        """Vectors of documents.

        Texts of about the same length share a batch, as many as fit a budget of tokens: little is computed
        for padding, and a batch stays in the processor's cache.

        Args:
            texts: the documents; what is longer than the model reads is cut, as the model's own ``encode`` does.
            progress: called with the number of texts done, after each batch.

        Returns:
            Float32, (texts, dimension), each row of length 1, in the order of the texts.
        """
        import numpy as np

        found = np.zeros((len(texts), self.dimension), np.float32)
        done = 0
        for batch in self._batches(texts):
            found[batch] = self._model.encode_document(
                [texts[index] for index in batch],
                batch_size=len(batch),
                normalize_embeddings=True,
                show_progress_bar=False,
            )
            done += len(batch)
            if progress is not None:
                progress(done)
        return found

    def question(self, text: str) -> Vectors:
        """Vector of a question: float32, (dimension,), of length 1.

        On one thread: a question is too short to share, and waking a second thread costs more than it brings.
        """
        import numpy as np

        with _one_thread():
            vector = self._model.encode_query(text, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vector, np.float32)

    def count_tokens(self, text: str) -> int:
        """Length of a text in the model's tokens, those at its edges not counted."""
        return len(self._model.tokenizer.encode(text, add_special_tokens=False))

    def _batches(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Indices of the texts, the longest first, so that too little memory shows at once."""
        longest = int(self._model.max_seq_length or 512)
        lengths = [min(length, longest) for length in self._lengths(texts)]
        budget = BUDGET.get(self._model.device.type, BUDGET["cpu"])
        order = sorted(range(len(texts)), key=lambda index: -lengths[index])
        first = 0
        while first < len(order):
            count = max(1, budget // max(1, lengths[order[first]]))
            yield order[first : first + count]
            first += count

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        backend = getattr(self._model.tokenizer, "_tokenizer", None)
        if backend is None or not texts:  # a tokenizer written in Python would take longer than it saves
            return [len(text) // 4 + 2 for text in texts]
        encoded = self._model.tokenizer(list(texts), truncation=True, max_length=self._model.max_seq_length or 512)
        return [len(ids) for ids in encoded["input_ids"]]


class HashingEmbedder:
    """Counts words by their hashes: an embedder without weights, for tests and first steps.

    It finds shared words and nothing else (Weinberger et al. 2009, arXiv:0902.2206).

    Args:
        dimension: numbers in a vector.
    """

    def __init__(self, dimension: int = 256) -> None:
        self.name = f"hashing-{dimension}"
        self.dimension = dimension

    def vectors(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> Vectors:
        """Vectors of documents, float32, (texts, dimension), each of length 1; see ``Embedder.vectors``."""
        import numpy as np

        found = np.zeros((len(texts), self.dimension), np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                digest = zlib.crc32(word.encode())
                found[row, digest % self.dimension] += 1 if digest & 1 << 31 else -1
        norms = np.linalg.norm(found, axis=1, keepdims=True)
        found[norms[:, 0] == 0, 0] = 1
        if progress is not None:
            progress(len(texts))
        found /= np.where(norms == 0, 1, norms)
        return found

    def question(self, text: str) -> Vectors:
        """Vector of a question, float32, (dimension,), of length 1."""
        vector: Vectors = self.vectors([text])[0]
        return vector

    def count_tokens(self, text: str) -> int:
        """Words in a text."""
        return len(text.split())


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _open(name: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingPackageError(error.name or "sentence_transformers", "embeddings") from error
    from transformers.utils import logging as transformers_logging

    alias = EMBEDDERS.get(name)
    place = str((alias.packaged() if alias else None) or (alias.hub if alias else Path(name).expanduser()))
    logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        return SentenceTransformer(place)
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(
            f"there is no embedding model {name}",
            did_you_mean(name, EMBEDDERS) or f"{next(iter(EMBEDDERS))} works without a network",
        ) from error
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
