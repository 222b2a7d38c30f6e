"""A second look at what was found: question and passage read together by a cross-encoder.

Nogueira and Cho 2019 (arXiv:1901.04085), through sentence-transformers. It orders better than vectors or
words and costs one run of the model for each candidate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ModelNotFoundError
from .base import shown
from .opening import opening

CANDIDATES = 30  # passages that are looked at again


class Reranker:
    """A cross-encoder, opened once.

    Args:
        name: Hugging Face Hub id or local folder of a sentence-transformers cross-encoder.

    Raises:
        ModelNotFoundError: no such model here, and none can be fetched.
        MissingPackageError: sentence-transformers is not installed.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._model = _open(name)

    def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers a question, from 0 to 1.

        The model's logit, squashed by the logistic function; of a model with several labels the last one's.
        """
        import numpy as np
        from torch import nn

        if not texts:
            return []
        # Its default depends on how it was saved; with none, the numbers are logits whatever the model.
        found = self._model.predict(
            [(question, text) for text in texts], activation_fn=nn.Identity(), show_progress_bar=False
        )
        logits = np.asarray(found, np.float64).reshape(len(texts), -1)[:, -1]
        return [1 / (1 + math.exp(-max(-60.0, min(60.0, float(logit))))) for logit in logits]


def _open(name: str) -> Any:
    hint = "Name a Hub id, such as cross-encoder/ms-marco-MiniLM-L6-v2, or a folder"
    with opening(ModelNotFoundError(f"there is no cross-encoder {shown(name)}", hint), RuntimeError):
        from sentence_transformers import CrossEncoder

        return CrossEncoder(str(Path(name).expanduser()), trust_remote_code=False)
