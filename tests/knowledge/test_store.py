"""Adding, replacing, removing and finding."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from llm_magics.errors import InputError, KnowledgeError
from llm_magics.knowledge import vectors as vector_module
from llm_magics.knowledge.base import Document
from llm_magics.knowledge.embeddings import HashingEmbedder
from llm_magics.knowledge.keywords import terms
from llm_magics.knowledge.store import KnowledgeBase
from llm_magics.knowledge.vectors import VectorIndex
from llm_magics.values.knowledge import IndexingProgress, RetrievalRequest, Splitting

SENTENCES = [
    "Llama 2 is a family of large language models that Meta released in July 2023.",
    "Its three sizes have 7, 13 and 70 billion parameters.",
    "The chat models were tuned on dialogues with human feedback.",
    "A llama is a domesticated animal from South America.",
    "Retrieval-augmented generation gives a model passages to read before it answers.",
    "LoRA trains small matrices and leaves the weights of the model alone.",
]


@pytest.fixture(scope="module")
def tutorial(minilm):
    base = KnowledgeBase("tutorial", minilm)
    base.add(Document(text, f"cell[{number}]") for number, text in enumerate(SENTENCES))
    return base


@pytest.mark.model
@pytest.mark.parametrize("way", ["hybrid", "dense", "keyword"])
def test_the_sentence_that_answers_comes_first(tutorial, way):
    assert tutorial.search("What is Llama 2?", RetrievalRequest(k=2, search=way))[0].text == SENTENCES[0]
    best = tutorial.search("How does LoRA train a model?", RetrievalRequest(k=1, search=way))[0]
    assert (best.text, best.source, best.start, best.end) == (SENTENCES[5], "cell[5]", 0, len(SENTENCES[5]))
    assert 0 < best.score <= 1


@pytest.mark.model
def test_a_paraphrase_is_found_by_its_meaning(tutorial):
    question = "Which beast of burden lives in the Andes?"
    assert tutorial.search(question, RetrievalRequest(k=1, search="dense"))[0].text == SENTENCES[3]


@pytest.mark.model
def test_the_same_cell_again_adds_nothing(tutorial):
    before = tutorial.sources
    added = tutorial.add(Document(text, f"cell[{number}]") for number, text in enumerate(SENTENCES))
    assert (added.new, added.changed, added.unchanged, added.chunks) == (0, 0, 6, 0)
    assert tutorial.sources == before and len(tutorial) == 6


def test_a_changed_document_replaces_its_old_chunks(base):
    base.add([Document("cats eat fish", "a"), Document("dogs eat bones", "b")])
    added = base.add([Document("cows eat grass", "a")])
    assert (added.new, added.changed) == (0, 1)
    assert base.search("cats fish", RetrievalRequest(search="keyword")) == []
    assert base.search("grass", RetrievalRequest(search="keyword"))[0].source == "a"
    assert len(base) == 2


def test_another_splitting_replaces_too(base):
    document = Document("one two three. " * 40, "a")
    base.add([document])
    assert base.add([document], Splitting(size=100)).changed == 1
    assert base.add([document], Splitting(size=100)).unchanged == 1


def test_an_interrupt_keeps_whole_documents_only(monkeypatch):
    class Stopped(HashingEmbedder):
        calls = 0

        def vectors(self, texts, progress=None):
            self.calls += 1
            if self.calls == 3:
                raise KeyboardInterrupt
            return super().vectors(texts, progress)

    monkeypatch.setattr("llm_magics.knowledge.store._GROUP", 5)
    base = KnowledgeBase("docs", Stopped())
    documents = [Document(f"word{number} again. " * 30, f"d{number}") for number in range(12)]
    with pytest.raises(KeyboardInterrupt):
        base.add(documents, Splitting(size=100))
    kept = base.sources
    assert 0 < len(kept) < 12 and len(set(kept.values())) == 1
    assert len(base) == sum(kept.values()) == len(base._vectors)
    assert base.add(documents, Splitting(size=100)).unchanged == len(kept)
    assert len(base.sources) == 12


def test_progress_tells_chunks_and_speed(base):
    seen: list[IndexingProgress] = []
    base.add([Document("a b c. " * 300, "a")], Splitting(size=100), progress=seen.append)
    assert seen[-1].done == seen[-1].total == len(base)
    assert seen[-1].speed > 0 and seen[-1].seconds_left == 0


def test_removing_and_clearing(base):
    base.add([Document("cats", "cats.txt"), Document("dogs", "dogs.txt")])
    with pytest.raises(KnowledgeError, match=r"no source cat\.txt.*Did you mean cats\.txt"):
        base.remove("cat.txt")
    assert base.remove("cats.txt") == 1
    assert list(base.sources) == ["dogs.txt"]
    base.clear()
    assert len(base) == 0 and base.search("dogs") == []


def test_neighbours_are_one_passage_without_repeating_the_overlap(base):
    text = " ".join(f"w{number}" for number in range(60)) + " zebra stripes zebra stripes zebra " + "end " * 30
    base.add([Document(text, "a"), Document("nothing here", "b")], Splitting(size=120, overlap=40))
    passages = base.search("zebra stripes end", RetrievalRequest(k=4, search="keyword"))
    (passage,) = [passage for passage in passages if passage.source == "a"]
    assert passage.text == text[passage.start : passage.end]
    assert len(passage.text) > 120


def test_the_same_text_from_two_files_takes_one_place(base):
    base.add([Document("cats eat fish", "x/a.txt"), Document("cats  eat\nfish", "y/a.txt"), Document("cats", "c")])
    assert len(base.search("cats fish", RetrievalRequest(k=3))) == 2


def test_diversity_brings_the_other_subject_forward():
    base = KnowledgeBase("docs", HashingEmbedder())
    texts = ["apple pie recipe one", "apple pie recipe one two", "apple pie recipe one two three", "apple tree"]
    base.add(Document(text, str(number)) for number, text in enumerate(texts))
    plain = [passage.text for passage in base.search("apple pie recipe one", RetrievalRequest(k=2, search="dense"))]
    diverse = [
        passage.text
        for passage in base.search("apple pie recipe one", RetrievalRequest(k=2, search="dense", diversity=0.7))
    ]
    assert plain == texts[:2]
    assert diverse[0] == texts[0] and diverse[1] == "apple tree"


def test_below_the_lowest_score_nothing_is_found(base):
    base.add([Document("cats eat fish", "a")])
    assert base.search("quantum", RetrievalRequest(k=3, min_score=0.5)) == []
    assert base.search("cats eat fish", RetrievalRequest(k=3, min_score=0.5))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"search": "dens"}, "--search is dens.*Did you mean dense"),
        ({"k": 0}, "-k is 0"),
        ({"min_score": 2}, "--min-score is 2"),
        ({"diversity": float("nan")}, "--diversity is nan"),
    ],
)
def test_options_out_of_range_are_named(base, options, said):
    with pytest.raises(InputError, match=said):
        base.search("cats", RetrievalRequest(**options))


@pytest.mark.parametrize("question", ["", "   ", "???", "the of and", "\x00", "🙂", "zzzz"])
@pytest.mark.parametrize("way", ["hybrid", "dense", "keyword"])
def test_an_odd_question_breaks_nothing(base, question, way):
    base.add([Document("cats eat fish", "a"), Document("", "empty"), Document("的 is 中文", "b")])
    found = base.search(question, RetrievalRequest(search=way))
    assert all(0 <= passage.score <= 1 and passage.text for passage in found)


def test_names_with_dots_and_humps_are_found_whole_and_by_parts():
    assert terms("What does gc.autoPackLimit do?") == ["gc.autopacklimit", "gc", "auto", "pack", "limit"]
    assert terms("--max-connections") == ["max-connections", "max", "connection"]
    assert terms("Über Straßen") == ["über", "straßen"]


def test_many_vectors_get_an_index_that_finds_98_of_100(monkeypatch):
    monkeypatch.setattr(vector_module, "EXACT", 2000)
    draw = np.random.default_rng(0)
    vectors = (draw.standard_normal((6000, 12)) @ draw.standard_normal((12, 48))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = VectorIndex(48)
    index.add(range(6000), vectors)
    assert index.description == "exact"
    index.fit()
    assert index.description.startswith("IVF")
    hits = 0
    for row in range(0, 6000, 30):
        asked = vectors[row] + 0.05 * draw.standard_normal(48).astype(np.float32)
        asked /= np.linalg.norm(asked)
        true = set(np.argsort(-(vectors @ asked))[:10].tolist())
        hits += len(true & {number for number, _ in index.search(asked, 10)})
    assert hits / 2000 >= 0.98
    index.remove(range(100))
    assert len(index) == 5900 and min(index.numbers()) == 100
    assert index.of([200]) @ vectors[200] > 0.999


def test_passages_are_frozen_values(base):
    base.add([Document("# Pets\n\ncats eat fish", "a.md", "markdown")])
    (passage,) = base.search("cats")
    assert passage.place == "Pets"
    with pytest.raises(dataclasses.FrozenInstanceError):
        passage.text = ""


def test_an_option_is_found_by_its_name_in_a_chunk_that_does_not_hold_it(base):
    filler = "\n\n".join(f"    Sentence {number} says nothing of use at all." for number in range(12))
    text = f"core.packLimit\n:   Its use.\n\n{filler}\n\n    The default is 50.\n\ncore.other\n:   The default is 7.\n"
    base.add([Document(text, "config.md", "markdown")], Splitting(size=120))
    best = base.search("default of core.packLimit", RetrievalRequest(k=1, search="keyword"))[0]
    assert "The default is 50." in best.text


def test_the_words_of_the_question_are_marked_in_each_passage(base):
    base.add([Document("The cats eat fish.", "a"), Document("A dog and a cat.", "b")])
    for passage in base.search("What do cats eat?", RetrievalRequest(k=2)):
        words = [passage.text[start:end] for start, end in passage.matches]
        assert words == (["cats", "eat"] if passage.source == "a" else ["cat"])
