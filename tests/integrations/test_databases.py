"""PostgreSQL with pgvector and Milvus, each started here: the same cells and the same answers as without them."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_core", reason="the extra rag is not installed")

from langchain_core.documents import Document as StoredDocument

from llm_magics import ScriptedEngine, Session
from llm_magics.errors import KnowledgeError
from llm_magics.knowledge.base import Document
from llm_magics.knowledge.remote import StoreBase
from llm_magics.values.knowledge import RetrievalRequest, Splitting

FARM = {
    "llamas.md": "# Llamas\n\nLlamas carry up to 30 kilograms.\n\n## Food\n\nLlamas eat hay and grass.",
    "goats.md": "# Goats\n\nGoats climb rocks.\n\n## Food\n\nGoats eat shrubs.",
    "bees.md": "# Bees\n\nA hive holds 50,000 bees.\n\n## Food\n\nBees eat nectar.",
}


@pytest.fixture
def farm(tmp_path: Path) -> list[str]:
    """Three files."""
    (tmp_path / "farm").mkdir()
    for name, text in FARM.items():
        (tmp_path / "farm" / name).write_text(text)
    return [str(tmp_path / "farm" / name) for name in FARM]


def add(session: Session, files: list[str]) -> Any:
    return session.knowledge.add_sources(files, splitting=Splitting("markdown")).run()


def test_the_same_question_is_answered_from_a_database_and_from_memory(
    session: Session, open_store: Any, farm: list[str]
) -> None:
    engine = ScriptedEngine(["Hay and grass [1]."])
    session.add("fake", engine)
    add(session, farm)
    session.knowledge_base("far", store=open_store(session.embeddings))
    session.knowledge.find("far")
    assert add(session, farm).new == 3
    answers = []
    for name in ("default", "far"):
        stream = session.ask_rag("What do llamas eat?", None, RetrievalRequest(name, k=1))
        assert "".join(chunk.text for chunk in stream) == "Hay and grass [1]."
        answers.append(stream.answer)
    near, far = answers
    first, same = far.sources[0], near.sources[0]
    assert "Llamas eat hay" in first.text and first.text == FARM["llamas.md"][first.start : first.end]
    assert dataclasses.replace(first, score=0) == dataclasses.replace(same, score=0)
    assert far.prompt == near.prompt
    assert 0 < first.score <= 1


def test_another_session_finds_again_what_is_there_and_replaces_what_changed(
    session: Session, open_store: Any, farm: list[str]
) -> None:
    session.knowledge_base(store=open_store(session.embeddings))
    assert add(session, farm).new == 3
    other = Session(session.settings, say=lambda line: None)
    other.knowledge_base(store=open_store(other.embeddings))
    assert add(other, farm).unchanged == 3
    Path(farm[0]).write_text("# Llamas\n\nLlamas are asleep.")
    added = add(other, farm)
    assert (added.new, added.changed, added.unchanged) == (0, 1, 2)
    found = other.retrieve("llamas hay asleep", RetrievalRequest(k=10))
    assert [p.text for p in found if p.source == farm[0]] == ["# Llamas\n\nLlamas are asleep."]
    assert other.knowledge.remove(farm[1]) == {farm[1]: 2}
    assert farm[1] not in {passage.source for passage in other.retrieve("goats", RetrievalRequest(k=10))}


def test_every_way_to_look_works_or_says_why_not(session: Session, open_store: Any, farm: list[str]) -> None:
    session.knowledge_base(store=open_store(session.embeddings))
    add(session, farm)
    for request in (RetrievalRequest(search="dense"), RetrievalRequest(), RetrievalRequest(k=2, diversity=0.5)):
        assert session.retrieve("llamas eat hay", request)[0].source == farm[0]
    assert session.retrieve("llamas eat hay", RetrievalRequest(min_score=0.99)) == ()
    with pytest.raises(KnowledgeError, match="has no search by words"):
        session.retrieve("llamas", RetrievalRequest(search="keyword"))
    with pytest.raises(KnowledgeError, match="cannot be emptied from here"):
        session.knowledge.clear()
    assert session.retrieve("llamas eat hay")


def test_what_others_wrote_into_the_collection_is_found(session: Session, open_store: Any) -> None:
    store = open_store(session.embeddings)
    store.add_documents([StoredDocument("sheep give wool", metadata={"source": "sheep.pdf", "page": 0})], ids=["mine"])
    session.knowledge_base(store=store)
    (passage,) = session.retrieve("who gives wool")
    assert (passage.text, passage.source, passage.place) == ("sheep give wool", "sheep.pdf", "page 1")
    session.knowledge.add_text("pigs give bacon").run()
    assert {passage.text for passage in session.retrieve("give")} == {"sheep give wool", "pigs give bacon"}


def test_two_collections_of_one_database_keep_apart(session: Session, open_store: Any) -> None:
    for name, text in (("one", "red llamas"), ("two", "blue llamas")):
        store = open_store(session.embeddings, f"{name}{os.getpid()}{id(session)}")
        StoreBase(name, store).add([Document(text, "same.txt")])
        session.knowledge_base(name, store=store)
    for name, text in (("one", "red llamas"), ("two", "blue llamas")):
        found = session.retrieve("llamas", RetrievalRequest(name))
        assert [passage.text for passage in found] == [text]


def test_the_database_serves_a_langchain_retriever_too(session: Session, open_store: Any, farm: list[str]) -> None:
    store = session.knowledge_base(store=open_store(session.embeddings))
    add(session, farm)
    (found,) = store.as_retriever(search_kwargs={"k": 1}).invoke("what do bees eat")
    assert found.metadata["source"] == farm[2] and "nectar" in found.page_content


def test_the_magics_use_a_database_with_one_line(open_notebook: Any, open_store: Any, farm: list[str]) -> None:
    notebook = open_notebook(LLMMagics={"embedding": "hashing-256"})
    notebook.answers("Hay and grass [1].")
    notebook.names["database"] = open_store(notebook.session.embeddings)
    notebook.good("%rag_add --store database")
    notebook.good("%rag_add " + " ".join(farm))
    answer = notebook.good("%%rag\nWhat do llamas eat?").value
    assert answer == "Hay and grass [1]." and farm[0].endswith(answer.sources[0].source)


def test_milvus_with_fixed_columns_says_how_to_open_it(session: Session, milvus: Any) -> None:
    store = milvus(session.embeddings, enable_dynamic_field=False)
    store.add_documents([StoredDocument("sheep give wool", metadata={"source": "a"})], ids=["1"])
    session.knowledge_base(store=store)
    with pytest.raises(KnowledgeError, match="enable_dynamic_field=True"):
        session.knowledge.add_text("pigs give bacon").run()
    assert [passage.text for passage in session.retrieve("give")] == ["sheep give wool"]


def test_postgresql_opened_with_its_newer_class_works_as_well(session: Session, postgres: str, farm: list[str]) -> None:
    from langchain_postgres import PGEngine, PGVectorStore

    engine = PGEngine.from_connection_string(url=postgres)
    engine.init_vectorstore_table("newer", 256)
    store = PGVectorStore.create_sync(engine=engine, table_name="newer", embedding_service=session.embeddings)
    session.knowledge_base(store=store)
    assert add(session, farm).new == 3 and add(session, farm).unchanged == 3
    assert session.retrieve("What do llamas eat?")[0].source == farm[0]


def test_a_collection_that_is_gone_is_told_in_one_line(session: Session, pgvector: Any, farm: list[str]) -> None:
    store = pgvector(session.embeddings)
    session.knowledge_base(store=store)
    store.delete_collection()
    for action in (lambda: session.retrieve("llamas"), lambda: add(session, farm)):
        with pytest.raises(KnowledgeError, match=r"^PGVector failed: \w+Error: .*\. Look whether the database runs"):
            action()


def test_an_interrupt_in_the_middle_of_a_write_keeps_whole_sources(session: Session, pgvector: Any) -> None:
    store = pgvector(session.embeddings)
    base = StoreBase("far", store)
    documents = [Document(f"text {n} " + f"word{n} " * 400, f"{n}.txt") for n in range(40)]
    threading.Timer(1.0, lambda: signal.raise_signal(signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        for _ in range(100):
            base.add(documents, Splitting("recursive", 200))
            base = StoreBase("far", store)
            for document in documents:
                base.remove(document.source)
    again = StoreBase("far", store)
    for document in documents:
        ids = again._ids(document.source, 100)
        first = again._written([document.source]).get(document.source, {"count": 0})
        assert len(store.get_by_ids(ids)) == first["count"], f"a part of {document.source} stayed"
    again.add(documents, Splitting("recursive", 200))
    assert len(again.sources) == 40
