"""A knowledge base over LangChain's own store in memory: what is written, found again and refused."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("langchain_core", reason="the extra rag is not installed")

from langchain_core.documents import Document as StoredDocument
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore

from llm_magics.errors import InputError, KnowledgeError
from llm_magics.knowledge.base import Document
from llm_magics.knowledge.embeddings import HashingEmbedder
from llm_magics.knowledge.remote import StoreBase
from llm_magics.values.knowledge import RetrievalRequest, Splitting

DENSE = RetrievalRequest(search="dense")
LONG = Document(
    "\n\n".join(f"Paragraph {word}. " + " ".join([word] * 30) for word in ("alpha", "beta", "gamma", "delta")),
    "greek.txt",
)
CUT = Splitting("recursive", 200)


class Hashes(Embeddings):
    """Shared words and nothing else."""

    def __init__(self, name: str = "hashing-256") -> None:
        self.model_name = name
        self.texts: list[str] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.texts += texts
        return HashingEmbedder().vectors(texts).tolist()  # type: ignore[no-any-return]

    def embed_query(self, text: str) -> list[float]:
        return HashingEmbedder().question(text).tolist()  # type: ignore[no-any-return]


class Scored(InMemoryVectorStore):
    """It gives cosines; LangChain wants to be told that they are scores."""

    def _select_relevance_score_fn(self) -> Any:
        return lambda cosine: cosine


@pytest.fixture
def store() -> Scored:
    return Scored(Hashes())


@pytest.fixture
def base(store: Scored) -> StoreBase:
    return StoreBase("docs", store)


def test_what_is_there_already_is_not_embedded_again_even_by_another_kernel(store: Scored, base: StoreBase) -> None:
    first = base.add([LONG], CUT)
    assert (first.new, first.unchanged) == (1, 0) and first.chunks == len(store.store) > 2
    embedded = len(store.embedding.texts)  # type: ignore[attr-defined]
    other = StoreBase("elsewhere", store)
    again = other.add([LONG], CUT)
    assert (again.new, again.changed, again.unchanged, again.chunks) == (0, 0, 1, 0)
    assert len(store.embedding.texts) == embedded  # type: ignore[attr-defined]
    assert other.sources == base.sources == {"greek.txt": first.chunks}


def test_a_changed_document_replaces_all_its_old_chunks(store: Scored, base: StoreBase) -> None:
    base.add([LONG, Document("Another one stays.", "other.txt")], CUT)
    added = StoreBase("elsewhere", store).add([Document("Now it is short.", "greek.txt")], CUT)
    assert (added.new, added.changed) == (0, 1)
    assert sorted(row["metadata"]["source"] for row in store.store.values()) == ["greek.txt", "other.txt"]


def test_a_write_that_is_interrupted_keeps_whole_sources_and_can_be_repeated(store: Scored, base: StoreBase) -> None:
    many = [Document(f"Text number {n}. " + f"word{n} " * 500, f"{n}.txt") for n in range(6)]
    add, calls = store.add_documents, []

    def interrupted(documents: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            add(documents[:2], ids=options["ids"][:2])
            raise KeyboardInterrupt
        return add(documents, **options)

    store.add_documents = interrupted  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        base.add(many, CUT)
    kept = {row["metadata"]["source"] for row in store.store.values()}
    assert kept == set(base.sources) and 0 < len(kept) < 6
    assert len(base) == len(store.store)
    store.add_documents = add  # type: ignore[method-assign]
    added = base.add(many, CUT)
    assert (added.new, added.unchanged) == (6 - len(kept), len(kept)) and len(base.sources) == 6


def test_a_source_whose_writing_broke_off_is_written_anew(store: Scored, base: StoreBase) -> None:
    whole = base.add([LONG], CUT).chunks
    first = next(one for one, row in store.store.items() if row["metadata"]["number"] == 0)
    del store.store[first]  # it is written last: this is what a killed kernel leaves
    added = StoreBase("docs", store).add([LONG], CUT)
    assert added.chunks == whole == len(store.store)


def test_neighbours_are_one_passage_with_the_offsets_of_the_document(base: StoreBase) -> None:
    base.add([LONG], Splitting("character", 170))
    passages = base.search("alpha beta", RetrievalRequest(k=1))
    assert [passage.source for passage in passages] == ["greek.txt"]
    assert passages[0].start == 0 and "alpha" in passages[0].text and "beta" in passages[0].text
    assert passages[0].text == LONG.text[: passages[0].end], "the two are not joined as they stood"


def test_what_two_neighbours_share_stands_once(base: StoreBase) -> None:
    text = " ".join(f"word{n}" for n in range(60))
    base.add([Document(text, "words.txt")], Splitting("recursive", 200, 60))
    (passage,) = base.search("word20 word21 word30 word31", RetrievalRequest(k=1))
    assert passage.end - passage.start > 200 and passage.text == text[passage.start : passage.end]


def test_documents_that_others_added_are_found_too(store: Scored, base: StoreBase) -> None:
    store.add_documents(
        [StoredDocument("llamas eat hay", metadata={"source": "farm.pdf", "page": 2}), StoredDocument("goats climb")],
        ids=["a", "b"],
    )
    (llama, *_) = base.search("what do llamas eat", DENSE)
    assert (llama.text, llama.source, llama.place) == ("llamas eat hay", "farm.pdf", "page 3")
    assert base.search("goats climb", DENSE)[0].source == "b"


def test_the_words_join_the_order_in_a_hybrid_search(base: StoreBase) -> None:
    base.add([Document("the the the the a rare zebra", "long.txt"), Document("the a", "short.txt")], Splitting("none"))
    assert base.search("the a zebra", RetrievalRequest(k=1))[0].source == "long.txt"


def test_scores_bound_what_is_found_and_diversity_spreads_it(base: StoreBase) -> None:
    base.add(
        [Document(text, text) for text in ("red llama", "red  llama", "red llama llama", "red goat")], Splitting("none")
    )
    near = base.search("red llama", RetrievalRequest(search="dense", min_score=0.9))
    assert [passage.source for passage in near] == ["red llama", "red llama llama"], "the same words twice are one"
    assert near[0].score == pytest.approx(1)
    spread = base.search("red llama", RetrievalRequest(search="dense", k=2, diversity=0.9))
    assert [passage.source for passage in spread] == ["red llama", "red goat"]


def test_a_source_is_removed_by_another_kernel_as_well(store: Scored, base: StoreBase) -> None:
    count = base.add([LONG], CUT).chunks
    assert StoreBase("docs", store).remove("greek.txt") == count and not store.store
    with pytest.raises(KnowledgeError, match=r"llm_magics added no source greek\.text"):
        base.remove("greek.text")


def test_a_database_that_cannot_be_emptied_says_where_to_do_it(store: Scored, base: StoreBase) -> None:
    base.add([LONG], CUT)
    with pytest.raises(KnowledgeError, match=r"Scored cannot be emptied from here. Empty its collection"):
        base.clear()
    assert len(base) == len(store.store) > 0
    store.delete = lambda ids=None, **_: store.store.clear()  # type: ignore[method-assign, assignment]
    base.clear()
    assert len(base) == 0 == len(store.store)


def test_another_embedding_model_is_refused_and_another_name_of_the_same_is_not(store: Scored, base: StoreBase) -> None:
    base.add([LONG], CUT)
    store.embedding = Hashes("mini/hashing-256")
    assert StoreBase("docs", store).search("alpha", DENSE)
    store.embedding = Hashes("large")
    for action in (lambda: base.search("alpha", DENSE), lambda: base.add([Document("x", "greek.txt")])):
        with pytest.raises(KnowledgeError, match=r"Scored was filled with hashing-256, not large"):
            action()


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (RetrievalRequest(search="keyword"), "Scored has no search by words. Type --search hybrid"),
        (RetrievalRequest(rerank="x"), "passages of Scored are not reranked. Leave --rerank out"),
    ],
)
def test_what_a_database_cannot_do_is_refused(base: StoreBase, request_: RetrievalRequest, message: str) -> None:
    with pytest.raises(KnowledgeError, match=message):
        base.search("alpha", request_)


def test_a_store_without_scores_can_be_searched_without_a_bound() -> None:
    base = StoreBase("docs", InMemoryVectorStore(Hashes()))
    base.add([LONG], CUT)
    assert "alpha" in base.search("alpha", RetrievalRequest(k=1))[0].text
    with pytest.raises(KnowledgeError, match=r"gives no scores. Leave --min-score out"):
        base.search("alpha", RetrievalRequest(min_score=0.2))


def test_errors_of_a_database_are_one_line_without_passwords(store: Scored, base: StoreBase) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise OSError(
            "cannot reach postgresql://ann:hunter2@db/x password=hunter2 token: 'hunter2'\nparameters: hunter2"
        )

    store.similarity_search_with_score = fails  # type: ignore[method-assign]
    with pytest.raises(KnowledgeError) as caught:
        base.search("alpha", DENSE)
    assert str(caught.value).startswith("Scored failed: OSError: cannot reach postgresql://***@db/x")
    assert "hunter2" not in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_store_that_drops_the_metadata_is_refused_and_left_as_it_was(store: Scored, base: StoreBase) -> None:
    add = store.add_documents

    def dropping(documents: list[StoredDocument], **options: Any) -> list[str]:
        return add([StoredDocument(document.page_content) for document in documents], **options)

    store.add_documents = dropping  # type: ignore[method-assign]
    with pytest.raises(KnowledgeError, match=r"does not keep where a chunk comes from"):
        base.add([LONG], CUT)
    assert not store.store and not base.sources


def test_a_store_that_cannot_be_asked_for_an_id_is_written_again_under_the_same_ids(
    store: Scored, base: StoreBase
) -> None:
    def missing(ids: Any, /) -> Any:
        raise NotImplementedError

    store.get_by_ids = missing  # type: ignore[method-assign]
    chunks = base.add([LONG], CUT).chunks
    other = StoreBase("docs", store)
    assert other.add([LONG], CUT).chunks == chunks == len(store.store) == len(other)
    assert other.add([Document("short", "greek.txt")], CUT).changed == 1 == len(store.store)


def test_something_that_is_no_store_is_refused() -> None:
    with pytest.raises(InputError, match=r"a dict is no vector store. It takes one of LangChain's"):
        StoreBase("docs", {})  # type: ignore[arg-type]
