"""The second look of a cross-encoder. Its files are real ones, its weights are drawn at random."""

from __future__ import annotations

import sys

import pytest

from llm_magics.errors import KnowledgeError, MissingPackageError, ModelNotFoundError
from llm_magics.knowledge import reranking
from llm_magics.knowledge.base import Document
from llm_magics.knowledge.embeddings import HashingEmbedder
from llm_magics.knowledge.reranking import Reranker
from llm_magics.knowledge.store import KnowledgeBase
from llm_magics.values.knowledge import RetrievalRequest

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cats", "dogs", "eat", "fish", "bones", "what", "do"]
TEXTS = ["cats eat fish", "dogs eat bones", "fish eat fish", "bones"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    place = tmp_path_factory.mktemp("cross-encoder")
    BertTokenizerFast(vocab={word: number for number, word in enumerate(WORDS)}).save_pretrained(place)
    torch.manual_seed(1)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(WORDS), num_labels=1, initializer_range=0.7, **shape)
    BertForSequenceClassification(config).save_pretrained(place)
    return str(place)


@pytest.fixture
def base():
    made = KnowledgeBase("docs", HashingEmbedder())
    made.add(Document(text, str(number)) for number, text in enumerate(TEXTS))
    return made


def test_passages_stand_in_the_order_of_the_cross_encoder(base, folder):
    from sentence_transformers import CrossEncoder
    from torch import nn

    question = "what do cats eat"
    found = base.search(question, RetrievalRequest(k=4, rerank=folder))
    pairs = [(question, text) for text in TEXTS]
    truth = CrossEncoder(folder).predict(pairs, activation_fn=nn.Sigmoid()).tolist()
    assert [passage.score for passage in found] == pytest.approx(sorted(truth, reverse=True), abs=1e-5)
    assert [int(passage.source) for passage in found] == sorted(range(4), key=lambda number: -truth[number])
    assert len(set(truth)) == 4 and all(0 < score < 1 for score in truth)


def test_the_lowest_score_is_held_against_the_cross_encoders(base, folder):
    everything = base.search("what do cats eat", RetrievalRequest(k=4, rerank=folder))
    limit = everything[1].score
    kept = base.search("what do cats eat", RetrievalRequest(k=4, rerank=folder, min_score=limit))
    assert [passage.source for passage in kept] == [passage.source for passage in everything[:2]]


def test_it_is_opened_once(base, folder, monkeypatch):
    opened: list[str] = []
    real = reranking._open
    monkeypatch.setattr(reranking, "_open", lambda name: opened.append(name) or real(name))
    for _ in range(3):
        base.search("cats", RetrievalRequest(rerank=folder))
    assert opened == [folder]


def test_no_text_has_no_score(folder):
    assert Reranker(folder).scores("cats", []) == []


def test_an_unknown_cross_encoder_is_named_in_one_line(base, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelNotFoundError, match="there is no cross-encoder nobody/none") as caught:
        base.search("cats", RetrievalRequest(rerank="nobody/none"))
    assert "\n" not in str(caught.value) and not isinstance(caught.value, KnowledgeError)


def test_without_sentence_transformers_it_says_what_to_install(base, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingPackageError, match="pip install"):
        base.search("cats", RetrievalRequest(rerank="any"))
