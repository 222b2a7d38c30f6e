"""Sentence embeddings, through sentence-transformers (Reimers and Gurevych 2019, arXiv:1908.10084)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..aliases import EMBEDDERS
from ..errors import MissingPackageError, ModelNotFoundError, did_you_mean


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

    def similarities(self, texts: Sequence[str], question: str) -> list[float]:
        """Cosine of each text with the question, from -1 to 1."""
        vectors = self._model.encode([*texts, question], normalize_embeddings=True, show_progress_bar=False)
        return [float(value) for value in vectors[:-1] @ vectors[-1]]


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
