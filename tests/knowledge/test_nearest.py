"""What examples say of a text without a language model."""

from __future__ import annotations

import numpy as np
import pytest

from llm_magics.knowledge.nearest import label_probabilities


def cloud(centres: np.ndarray, each: int, noise: float, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Unit vectors around centres, and the letters of their labels."""
    random = np.random.default_rng(seed)
    points = np.repeat(centres, each, axis=0) + noise * random.standard_normal((len(centres) * each, centres.shape[1]))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points.astype(np.float32), [letter for letter in "abcdefgh"[: len(centres)] for _ in range(each)]


def test_the_label_with_the_nearest_mean_is_the_most_probable() -> None:
    vectors, labels = cloud(np.eye(3, 16), 6, 0.1)
    found = label_probabilities(vectors, labels, np.eye(3, 16, dtype=np.float32)[1])
    assert list(found) == ["a", "b", "c"] and sum(found.values()) == pytest.approx(1)
    assert max(found, key=found.__getitem__) == "b" and found["b"] > 0.9


def test_examples_that_do_not_tell_their_labels_apart_say_little() -> None:
    vectors, labels = cloud(np.ones((3, 16)), 8, 1.0)
    found = label_probabilities(vectors, labels, vectors[0])
    assert max(found.values()) < 0.6, "labels that mean nothing are believed"


def test_a_few_examples_that_lie_well_apart_are_no_certainty() -> None:
    vectors, labels = cloud(np.eye(2, 16), 2, 0.01)
    between = np.array([1, 0.8, *[0] * 14], dtype=np.float32) / np.hypot(1, 0.8)
    assert 0.5 < label_probabilities(vectors, labels, between)["a"] < 0.95


@pytest.mark.parametrize("labels", [["a"], ["a", "b"], ["a", "a"], ["a", "a", "b"]])
def test_any_number_of_examples_is_enough(labels: list[str]) -> None:
    vectors = np.eye(len(labels), 8, dtype=np.float32)
    found = label_probabilities(vectors, labels, vectors[0])
    assert sum(found.values()) == pytest.approx(1) and max(found, key=found.__getitem__) == "a"


def test_the_same_text_with_two_labels_is_no_error() -> None:
    vectors = np.ones((4, 8), dtype=np.float32) / np.float32(np.sqrt(8))
    assert label_probabilities(vectors, ["a", "b", "a", "b"], vectors[0]) == pytest.approx({"a": 0.5, "b": 0.5})
