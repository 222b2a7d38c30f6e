"""Sentence embeddings (Reimers and Gurevych 2019, arXiv:1908.10084)."""

from __future__ import annotations

import contextlib
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..aliases import EMBEDDERS
from ..errors import ModelNotFoundError, did_you_mean
from . import openvino
from .batches import by_length
from .opening import opening

if TYPE_CHECKING:
    from .base import Vectors
    from .openvino import Kind

BUDGET = {"cpu": 1024, "cuda": 32768, "mps": 8192}  # tokens in a batch, padding included


class _Backend(Protocol):
    """What computes the vectors."""

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""

    def encode(self, texts: Sequence[str], kind: Kind, progress: Callable[[int], None] | None = None) -> Vectors:
        """Vectors of length 1, (texts, dimension), in the order of the texts."""

    def count_tokens(self, text: str) -> int:
        """Length of a text in the model's tokens, those at its edges not counted."""


class Embedder:
    """A sentence embedding model.

    On a CPU with OpenVINO installed the model is converted once, and a later session opens the converted copy without
    torch (see ``openvino``); else sentence-transformers computes.

    Args:
        name: alias, Hugging Face Hub id or local folder.
        say: told in one line what takes long.

    Raises:
        ModelNotFoundError: no such model here, and none can be fetched.
        MissingPackageError: sentence-transformers is not installed.
    """

    def __init__(self, name: str, say: Callable[[str], None] | None = None) -> None:
        self.name = name
        self._backend = _backend(name, say or (lambda line: None))

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        return self._backend.dimension

    @property
    def backend(self) -> str:
        """What computes: ``openvino`` or ``sentence-transformers``."""
        return "openvino" if isinstance(self._backend, openvino.CompiledModel) else "sentence-transformers"

    def similarities(self, texts: Sequence[str], question: str) -> list[float]:
        """Cosine of each text with the question, from -1 to 1."""
        vectors = self.equals([*texts, question])
        return [float(value) for value in vectors[:-1] @ vectors[-1]]

    def equals(self, texts: Sequence[str]) -> Vectors:
        """Vectors of texts that are compared as equals, neither of them a document; see ``vectors``."""
        return self._backend.encode(texts, "text")

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
        return self._backend.encode(texts, "document", progress)

    def question(self, text: str) -> Vectors:
        """Vector of a question: float32, (dimension,), of length 1."""
        vector: Vectors = self._backend.encode([text], "question")[0]
        return vector

    def count_tokens(self, text: str) -> int:
        """Length of a text in the model's tokens, those at its edges not counted."""
        return self._backend.count_tokens(text)


class _SentenceTransformer:
    """The model as sentence-transformers runs it, on whatever device it chose."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.dimension = int(model.get_embedding_dimension())

    def encode(self, texts: Sequence[str], kind: Kind, progress: Callable[[int], None] | None = None) -> Vectors:
        import numpy as np

        model = self.model
        encode = {"document": model.encode_document, "question": model.encode_query, "text": model.encode}[kind]
        budget = BUDGET.get(model.device.type, BUDGET["cpu"])
        found = np.zeros((len(texts), self.dimension), np.float32)
        done = 0
        with _one_thread() if len(texts) == 1 else _half_precision(model.device.type):
            for batch in by_length(self._lengths(texts), budget):
                found[batch] = encode(
                    [texts[index] for index in batch],
                    batch_size=len(batch),
                    normalize_embeddings=True,
                    show_progress_bar=False,
                )
                done += len(batch)
                if progress is not None:
                    progress(done)
        return found

    def count_tokens(self, text: str) -> int:
        return len(self.model.tokenizer.encode(text, add_special_tokens=False))

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        backend = getattr(self.model.tokenizer, "backend_tokenizer", None)
        if backend is None or not texts:  # a tokenizer written in Python would take longer than it saves
            return [len(text) // 4 + 2 for text in texts]
        longest = int(self.model.max_seq_length or 512)
        encoded = self.model.tokenizer(list(texts), truncation=True, max_length=longest)
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

    def similarities(self, texts: Sequence[str], question: str) -> list[float]:
        """Cosine of each text with the question, from -1 to 1."""
        return [float(value) for value in self.vectors(texts) @ self.question(question)]

    def equals(self, texts: Sequence[str]) -> Vectors:
        """Vectors of texts that are compared as equals; see ``vectors``."""
        return self.vectors(texts)

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
    """For a single text: it is too short to share, and waking a second thread costs more than it brings."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _half_precision(device: str) -> contextlib.AbstractContextManager[Any]:
    """Products of matrices in 16 bits where the processor has instructions for them, all else in 32."""
    import torch

    able = torch.cpu.get_capabilities()
    enabled = device == "cpu" and bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    context: contextlib.AbstractContextManager[Any] = torch.autocast("cpu", torch.bfloat16, enabled=enabled)
    return context


def _backend(name: str, say: Callable[[str], None]) -> _Backend:
    if not openvino.usable():
        return _SentenceTransformer(_open(name))
    folder = _cache_folder(name)
    copy = openvino.opened(folder) if folder else None
    if copy is not None:
        return copy
    model = _open(name)
    folder = folder or _cache_folder(name)  # it was fetched only now
    if folder is None or openvino.refused(folder) or model.device.type != "cpu":
        return _SentenceTransformer(model)
    say(f"Preparing {name} for this processor, once…")
    return openvino.convert(model, folder) or _SentenceTransformer(model)


def _cache_folder(name: str) -> Path | None:
    """Where the converted copy of a model belongs; None as long as the model itself is not on this machine."""
    place = Path(_place(name))
    if not place.is_dir():
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            found = try_to_load_from_cache(str(place.as_posix()), "modules.json")
        except HFValidationError:
            return None
        if not isinstance(found, str):
            return None
        place = Path(found).parent
    return openvino.cache_folder(place)


def _place(name: str) -> str:
    alias = EMBEDDERS.get(name)
    return str((alias.packaged() if alias else None) or (alias.hub if alias else Path(name).expanduser()))


def _open(name: str) -> Any:
    hint = did_you_mean(name, EMBEDDERS) or f"{next(iter(EMBEDDERS))} works without a network"
    with opening(ModelNotFoundError(f"there is no embedding model {name}", hint)):
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(_place(name))
