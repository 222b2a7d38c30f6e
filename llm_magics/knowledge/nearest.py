"""What worked examples say of a text without any language model: how near it is to those of each label."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from .base import Vectors
    from .embeddings import Embedder, HashingEmbedder

_TEMPERATURES = (0.01, 1.0, 60)  # of cosines: the sharpest and the flattest that are tried, and how many in all


class Nearness:
    """How near a text is to worked examples, by an embedding model.

    Args:
        embedder: gives the embedding model in force.
    """

    def __init__(self, embedder: Callable[[], Embedder | HashingEmbedder]) -> None:
        self._embedder = embedder
        # A loop asks with the same examples again and again; they are embedded once.
        self._vectors = functools.lru_cache(maxsize=4)(lambda embedder, texts: embedder.equals(texts))

    def similarities(self, texts: Sequence[str], question: str) -> Sequence[float]:
        """Cosine of each text with a question."""
        embedder = self._embedder()
        return [float(cosine) for cosine in self._vectors(embedder, tuple(texts)) @ embedder.equals([question])[0]]

    def labels(self, texts: Sequence[str], labels: Sequence[str], question: str) -> dict[str, float]:
        """Probability of each label by its examples alone; see ``label_probabilities``.

        Args:
            texts: of the examples.
            labels: of the examples, in their order; empty for one that stands for none.
            question: the text.
        """
        embedder = self._embedder()
        vectors = self._vectors(embedder, tuple(texts))
        known = [place for place, label in enumerate(labels) if label]
        return label_probabilities(vectors[known], [labels[place] for place in known], embedder.equals([question])[0])


def label_probabilities(vectors: Vectors, labels: Sequence[str], question: Vectors) -> dict[str, float]:
    """Probability of each label by the cosine of a text with the mean of that label's examples.

    The nearest mean in an embedding space: prototypical networks, Snell et al. 2017 (arXiv:1703.05175), without
    training. How much a cosine counts is read off the examples: each in turn is taken out, and the temperature is
    the one under which the others predict their labels best. One more example whose label is any of them, with equal
    shares, is counted along, so that a few examples that happen to lie well apart do not make the answer certain.

    Args:
        vectors: of the examples, float32, (examples, dimension), each row of length 1.
        labels: of the examples, in their order; at least one.
        question: vector of the text, (dimension,), of length 1.

    Returns:
        One number for each label that occurs, in the order in which they first do; they sum to 1.
    """
    import numpy as np

    names = list(dict.fromkeys(labels))
    own = np.array([names.index(label) for label in labels])
    members = np.eye(len(names), dtype=np.float32)[own]
    sums = members.T @ vectors
    logs = _log_softmax(_unit(sums) @ question / _temperature(vectors, sums, own))
    return dict(zip(names, np.exp(logs).tolist(), strict=True))


def _temperature(vectors: Vectors, sums: Vectors, own: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
    import numpy as np

    low, high, count = _TEMPERATURES
    cosines = vectors @ _unit(sums).T
    rows = np.arange(len(own))
    cosines[rows, own] = (vectors * _unit(sums[own] - vectors)).sum(axis=1)  # with the mean of the others of its label
    tested = np.bincount(own)[own] > 1
    if not tested.any():
        return high  # nothing is known of how far a cosine can be trusted
    cosines, own = cosines[tested], own[tested]
    rows = rows[: len(own)]

    def fit(temperature: float) -> float:
        logs = _log_softmax(cosines / temperature)
        return float(logs[rows, own].sum() + logs.mean())

    return max((float(value) for value in np.geomspace(high, low, count)), key=fit)


def _unit(vectors: Vectors) -> Vectors:
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    lengths[lengths == 0] = 1
    scaled: Vectors = vectors / lengths
    return scaled


def _log_softmax(scores: Vectors) -> Vectors:
    import numpy as np

    shifted = scores - scores.max(axis=-1, keepdims=True)
    logs: Vectors = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return logs
