"""The vector index: exact while small, lists above, and what was put in can be found, removed and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm_magics.knowledge.vectors import EXACT, RECALL, VectorIndex

DIMENSION = 64
COUNT = 60_000


def drawn(count: int, seed: int) -> Any:
    """Unit vectors with the structure of text: some topics in a space of few dimensions, and noise."""
    fixed, draw = np.random.default_rng(0), np.random.default_rng(seed)
    topics, mixing = fixed.standard_normal((100, 16)), fixed.standard_normal((16, DIMENSION)) / 4
    latent = topics[draw.integers(0, 100, count)] + draw.standard_normal((count, 16))
    vectors = latent @ mixing + 0.3 * draw.standard_normal((count, DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def vectors() -> Any:
    return drawn(COUNT, 1)


@pytest.fixture(scope="module")
def saved(vectors: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A large index, in lists, as a file: each test opens its own."""
    index = VectorIndex(DIMENSION)
    index.add(range(1000, 1000 + COUNT), vectors)
    index.fit()
    path = tmp_path_factory.mktemp("index") / "vectors"
    index.write(path)
    return path


@pytest.fixture
def large(saved: Path) -> VectorIndex:
    return VectorIndex.read(saved, DIMENSION)


def found(index: VectorIndex, question: Any) -> list[int]:
    return [number for number, _ in index.search(question, 10)]


def test_up_to_fifty_thousand_vectors_every_one_is_compared(vectors: Any) -> None:
    index = VectorIndex(DIMENSION)
    index.add(range(EXACT), vectors[:EXACT])
    index.fit(lambda line: pytest.fail(line))
    assert index.description == "exact"
    for question in drawn(20, 2):
        assert found(index, question) == list(np.argsort(-(vectors[:EXACT] @ question))[:10])


def test_lists_find_98_of_100_nearest_for_questions_they_were_not_measured_with(
    large: VectorIndex, vectors: Any
) -> None:
    assert large.description.startswith("IVF, ")
    read, lists = (int(word) for word in large.description.split() if word.isdigit())
    assert read < lists / 2, "nearly everything is read, so nothing is gained"
    questions = drawn(300, 3)
    nearest = np.argsort(-(questions @ vectors.T), axis=1)[:, :10] + 1000
    hits = [len(set(found(large, question)) & set(row)) for question, row in zip(questions, nearest, strict=True)]
    assert sum(hits) / nearest.size >= RECALL


def test_scores_from_lists_are_cosines(large: VectorIndex, vectors: Any) -> None:
    for number, score in large.search(drawn(1, 4)[0], 10):
        assert score == pytest.approx(float(vectors[number - 1000] @ drawn(1, 4)[0]), abs=1e-3)


def test_what_is_removed_from_lists_is_no_longer_found(large: VectorIndex, vectors: Any) -> None:
    nearest = found(large, vectors[7])
    assert nearest[0] == 1007
    large.remove(nearest[:3])
    assert len(large) == COUNT - 3
    assert not set(found(large, vectors[7])) & set(nearest[:3])
    assert large.numbers() == set(range(1000, 1000 + COUNT)) - set(nearest[:3])


def test_what_is_added_to_lists_is_found_and_read_back_by_its_number(large: VectorIndex) -> None:
    new = drawn(5, 5)
    large.add(range(5), new)
    assert [found(large, vector)[0] for vector in new] == [0, 1, 2, 3, 4]
    assert large.of([3, 1]) == pytest.approx(new[[3, 1]], abs=1e-3)


def test_one_line_says_that_vectors_are_sorted_and_only_when_they_are(vectors: Any) -> None:
    said: list[str] = []
    index = VectorIndex(DIMENSION)
    index.add(range(EXACT + 1), vectors[: EXACT + 1])
    index.fit(said.append)
    index.add(range(EXACT + 1, COUNT), vectors[EXACT + 1 :])
    index.fit(said.append)
    assert said == ["sorting 50,001 vectors into lists"]


def test_an_interrupted_sorting_leaves_the_index_as_it_was(vectors: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    index = VectorIndex(DIMENSION)
    index.add(range(COUNT), vectors)
    with monkeypatch.context() as patched:
        patched.setattr("llm_magics.knowledge.vectors._lists_to_read", stop)
        with pytest.raises(KeyboardInterrupt):
            index.fit()
    assert index.description == "exact"
    assert found(index, vectors[9])[0] == 9
    index.fit()
    assert index.description.startswith("IVF, ")
    assert found(index, vectors[9])[0] == 9


def test_a_file_that_is_no_index_is_refused(tmp_path: Path, saved: Path) -> None:
    (tmp_path / "vectors").write_bytes(saved.read_bytes()[:1000])
    with pytest.raises(ValueError):
        VectorIndex.read(tmp_path / "vectors", DIMENSION)
    with pytest.raises(ValueError, match="64"):
        VectorIndex.read(saved, DIMENSION + 1)
