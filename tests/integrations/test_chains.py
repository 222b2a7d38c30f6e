"""The tutorial's two variables in chains, and the store as LangChain users use it."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import pytest

pytest.importorskip("langchain_core", reason="the extra rag is not installed")

from langchain_core.documents import Document
from langchain_core.messages import AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel, RunnablePassthrough

from llm_magics import ScriptedEngine, Session
from llm_magics.errors import BusyError, InputError, KnowledgeError, MissingPackageError
from llm_magics.integrations.embeddings import SentenceEmbeddings
from llm_magics.integrations.vector_store import KnowledgeBaseStore
from llm_magics.knowledge.embeddings import HashingEmbedder
from llm_magics.settings import LLMMagics

SENTENCES = (
    "Llama 2 is a family of large language models that Meta released in July 2023.",
    "Goats climb rocks and eat shrubs.",
)


def echo(messages: Any) -> str:
    """An answer that shows what was asked."""
    return " | ".join(f"{message.role}: {message.content}" for message in messages)


@pytest.fixture
def echoing(session: Session) -> Session:
    session.add("echo", ScriptedEngine(echo))
    return session


def slow(session: Session) -> ScriptedEngine:
    engine = ScriptedEngine(["word " * 200], tokens_per_second=100)
    session.add("slow", engine)
    return engine


def test_a_prompt_the_model_and_a_parser_are_a_chain(echoing: Session) -> None:
    prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "What is {thing}?")])
    chain = prompt | echoing.llm | StrOutputParser()
    assert chain.invoke({"thing": "a llama"}) == "system: Be brief. | user: What is a llama?"
    assert chain.batch([{"thing": "one"}, {"thing": "two"}, {"thing": "three"}])[2].endswith("What is three?")
    pieces = list(chain.stream({"thing": "a llama"}))
    assert len([piece for piece in pieces if piece]) > 5 and "".join(pieces).endswith("What is a llama?")


def test_a_chain_leaves_the_notebooks_conversation_and_history_alone(echoing: Session) -> None:
    list(echoing.ask("first"))
    kept = len(echoing.history.find())
    echoing.settings.system = "Talk like a pirate."
    assert echoing.llm.invoke("second").content == "user: second"
    assert len(echoing.history.find()) == kept


def test_options_of_the_object_the_binding_and_the_call_reach_the_model(session: Session) -> None:
    seen = []
    ask = session.ask_messages
    session.ask_messages = lambda messages, request=None: seen.append(request) or ask(messages, request)  # type: ignore
    model = session.llm.model_copy(update={"temperature": 0.3, "stop": ["never"]})
    model.bind(max_tokens=1, seed=7).invoke("hi", temperature=0.5)
    assert (seen[0].temperature, seen[0].max_new_tokens, seen[0].seed, seen[0].stop) == (0.5, 1, 7, ("never",))
    answer = session.llm.invoke("hi", stop=["there"], max_tokens=5)
    assert answer.content.strip() == "hello" and answer.response_metadata["finish_reason"] == "stop"
    with pytest.raises(InputError, match=r"there is no option temprature. Did you mean temperature\?"):
        session.llm.invoke("hi", temprature=1)
    with pytest.raises(InputError, match=r"--temperature is -1"):
        session.llm.invoke("hi", temperature=-1)


def test_the_last_chunk_alone_tells_the_usage_and_the_model(session: Session) -> None:
    chunks = [chunk for chunk in session.llm.stream("hi") if isinstance(chunk, AIMessageChunk)]
    assert [bool(chunk.usage_metadata) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].usage_metadata["output_tokens"] == 2
    assert chunks[-1].response_metadata["model_name"] == "fake"


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (HumanMessage([{"type": "image_url", "image_url": "x"}]), "reads text alone, not image_url"),
        (ToolMessage("4", tool_call_id="1"), "cannot read a ToolMessage"),
        (HumanMessage(""), "the prompt is empty"),
    ],
)
def test_what_the_model_cannot_read_is_refused(session: Session, message: Any, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        session.llm.invoke([SystemMessage(""), message])


def test_turns_of_one_role_are_joined(echoing: Session) -> None:
    answer = echoing.llm.invoke([("system", "a"), ("system", "b"), ("human", [{"type": "text", "text": "c"}])])
    assert answer.content == "system: a\n\nb | user: c"


def test_a_batch_waits_for_its_turn_and_a_busy_cell_is_told(session: Session) -> None:
    slow(session)
    began = time.perf_counter()
    answers = session.llm.bind(max_tokens=5).batch(["one"] * 12)
    assert [answer.usage_metadata["output_tokens"] for answer in answers] == [5] * 12
    assert time.perf_counter() - began > 12 * 5 / 100, "they did not run one after the other"
    cell = iter(session.ask("hi"))
    next(cell)
    with pytest.raises(BusyError):
        session.llm.invoke("me too")


def test_a_thread_that_asks_within_its_own_stream_is_told_and_does_not_hang(session: Session) -> None:
    slow(session)
    running = session.llm.stream("hi")
    next(running)
    with pytest.raises(BusyError):
        session.llm.invoke("me too")
    running.close()
    assert session.llm.bind(max_tokens=1).invoke("me too").content


async def test_many_asynchronous_calls_end(session: Session) -> None:
    slow(session)
    model = session.llm.bind(max_tokens=3)
    answers = await asyncio.wait_for(model.abatch(["x"] * 20), 60)
    assert len(answers) == 20
    pieces = [piece async for piece in model.astream("x")]
    assert "".join(str(piece.content) for piece in pieces).split() == ["word"] * 3


@pytest.mark.parametrize("way", ["ainvoke", "astream"])
async def test_a_cancelled_call_stops_the_model_within_a_token(session: Session, way: str) -> None:
    slow(session)

    async def ask() -> None:
        if way == "ainvoke":
            await session.llm.ainvoke("hi")
        else:
            async for _ in session.llm.astream("hi"):
                pass

    task = asyncio.create_task(ask())
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    began = time.perf_counter()
    while session._models["slow"].busy.locked() and time.perf_counter() - began < 5:
        await asyncio.sleep(0.005)
    assert time.perf_counter() - began < 0.5, "all 200 words take two seconds"


def test_rag_gives_the_answer_and_its_sources_as_documents(session: Session) -> None:
    for sentence in SENTENCES:
        session.knowledge.add_text(sentence, "facts").run()
    session.add("fake", ScriptedEngine(["A family of models [1]."]))
    whole = session.rag.invoke("What is Llama 2?", k=1)
    assert whole["answer"] == "A family of models [1]."
    (source,) = whole["sources"]
    assert source.page_content == SENTENCES[0]
    assert set(source.metadata) == {"source", "title", "place", "score", "start", "end"}
    for given in ({"question": "What is Llama 2?"}, {"query": "What is Llama 2?"}, {"input": "What is Llama 2?"}):
        assert session.rag.bind(k=1).invoke(given) == whole
    pieces = list(session.rag.stream("What is Llama 2?"))
    assert list(pieces[0]) == ["sources"] and "".join(piece.get("answer", "") for piece in pieces) == whole["answer"]
    assert [exchange.answer.method for exchange in session.history.find()] == []


def test_rag_in_a_chain_and_beside_the_model(session: Session) -> None:
    session.knowledge.add_text(SENTENCES[0]).run()
    prompt = ChatPromptTemplate.from_template("What is {thing}?")
    chain = prompt | session.rag | RunnableLambda(lambda found: f"{found['answer']} ({len(found['sources'])} source)")
    assert chain.invoke({"thing": "Llama 2"}) == "hello there (1 source)"
    both = RunnableParallel(alone=session.llm | StrOutputParser(), documents=session.rag | (lambda x: x["answer"]))
    for question in ("Llama 2?", "Meta?"):
        assert both.invoke(question) == {"alone": "hello there", "documents": "hello there"}


def test_rag_takes_what_the_magic_takes(session: Session) -> None:
    session.knowledge.add_text(SENTENCES[0]).run()
    session.add("fake", ScriptedEngine(["It says so in [1].\nAnswer: Meta"]))
    found = session.rag.invoke("Who?", reasoning=True)
    assert (found["answer"], found["reasoning"]) == ("Meta", "It says so in [1].")
    session.add("echo", ScriptedEngine(echo))
    assert session.rag.invoke("Who?", context=False) == {"answer": "user: Who?", "sources": []}


async def test_rag_can_be_awaited(session: Session) -> None:
    session.knowledge.add_text(SENTENCES[0]).run()
    assert (await session.rag.ainvoke("Llama 2?"))["answer"] == "hello there"
    assert len(await session.rag.abatch(["Llama 2?"] * 8)) == 8


def test_rag_without_a_question_or_a_base_is_told(session: Session) -> None:
    with pytest.raises(KnowledgeError, match="there is no knowledge base"):
        session.rag.invoke("hi")
    with pytest.raises(InputError, match="there is no question"):
        session.rag.invoke({"text": "hi"})
    with pytest.raises(InputError, match=r"there is no option serch. Did you mean search\?"):
        session.rag.invoke("hi", serch="dense")


def test_a_retriever_over_what_the_magics_added_finds_what_rag_finds(session: Session) -> None:
    session.knowledge.add_text("\n\n".join(f"{SENTENCES[n % 2]} {n} " * 12 for n in range(4)), cell="c1").run()
    retriever = session.knowledge_base().as_retriever(search_kwargs={"k": 2})
    chain = {"found": retriever, "question": RunnablePassthrough()} | RunnableLambda(lambda given: given["found"])
    found = chain.invoke("Meta language models")
    passages = session.retrieve("Meta language models")
    assert [document.page_content for document in found] == [passage.text for passage in passages][:2]
    assert found[0].metadata["source"].startswith("cell:") and found[0].metadata["place"]
    store = session.knowledge_base()
    part = store.get_by_ids([found[0].id])
    assert part and part[0].metadata["start"] == found[0].metadata["start"]
    with pytest.raises(InputError, match=r"is a part of a document. Delete all of it"):
        store.delete([found[0].id])
    store.delete([found[0].metadata["source"]])
    assert store.similarity_search("Meta") == []


def test_what_langchain_added_is_asked_by_the_magics_and_keeps_its_metadata(session: Session) -> None:
    store = session.knowledge_base("notes")
    store.add_documents([Document(SENTENCES[0], metadata={"year": 2023}, id="llama")])
    (passage,) = session.retrieve("Who released Llama 2?")
    assert (passage.source, passage.text) == ("llama", SENTENCES[0])
    assert store.similarity_search("Llama")[0].metadata == {"year": 2023}
    with pytest.raises(InputError, match="the metadata of x are no JSON"):
        store.add_documents([Document("y", metadata={"when": object()}, id="x")])


def test_the_store_searches_by_vector_by_score_and_for_difference() -> None:
    embeddings = SentenceEmbeddings(HashingEmbedder())
    texts = ["red llama", "red llama llama", "red goat", "blue bee"]
    store = KnowledgeBaseStore.from_texts(texts, embeddings, [{"n": n} for n in range(4)], ids=list("abcd"))
    scored = store.similarity_search_with_score("red llama", k=2, search="dense")
    assert [document.id for document, _ in scored] == ["a", "b"] and scored[0][1] == pytest.approx(1, abs=1e-5)
    near = store.similarity_search_by_vector(embeddings.embed_query("blue bee"), k=1)
    assert [document.metadata for document in near] == [{"n": 3}]
    apart = store.max_marginal_relevance_search("red llama", k=2, fetch_k=3, lambda_mult=0.1)
    assert [document.id for document in apart] == ["a", "c"]
    retriever = store.as_retriever(search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.95})
    assert [document.id for document in retriever.invoke("red llama")] == ["a"]
    with pytest.raises(InputError, match=r"this store has no filter"):
        store.similarity_search("red", filter={"n": 1})
    store.delete(None)
    assert store.similarity_search_by_vector(embeddings.embed_query("bee")) == []


async def test_many_threads_add_and_search_at_once(session: Session) -> None:
    store = session.knowledge_base("busy")
    documents = [Document(f"text number{n} of many", id=str(n)) for n in range(40)]
    await asyncio.gather(
        *(store.aadd_documents([document]) for document in documents),
        *(store.as_retriever().ainvoke(f"number{n}") for n in range(40)),
    )
    found = await store.as_retriever(search_kwargs={"k": 1}).abatch([f"number{n}" for n in range(40)])
    assert [documents[0].id for documents in found] == [str(n) for n in range(40)]


def test_without_langchain_the_line_to_type_is_told(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langchain_core", None)
    monkeypatch.delitem(sys.modules, "llm_magics.integrations.chat_model", raising=False)
    for name in [name for name in sys.modules if name.startswith("langchain_core.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingPackageError, match=r'is not installed. Type %pip install "llm_magics\[rag'):
        _ = session.llm
    with pytest.raises(MissingPackageError, match="langchain_core is not installed"):
        session.knowledge.use(object())


def test_an_embedder_keeps_its_name_through_langchain_and_back() -> None:
    store = KnowledgeBaseStore(SentenceEmbeddings(HashingEmbedder()))
    assert store.base.embedding == "hashing-256" and isinstance(store.embeddings, SentenceEmbeddings)


def test_nothing_loaded_opens_the_default_model_as_a_cell_does(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    session = Session(LLMMagics(), say=said.append)
    monkeypatch.setattr(session, "load", lambda request: session.add(request.model, ScriptedEngine(["hello"])))
    assert session.llm.invoke("hi").response_metadata["model_name"] == "smollm2"
    assert said and "smollm2" in said[0]


@pytest.mark.model
def test_the_real_model_streams_and_stops_in_a_chain(smollm2_engine: Any) -> None:
    session = Session(LLMMagics(), say=lambda line: None)
    session.add("smollm2", smollm2_engine)
    model = session.llm.bind(temperature=0, max_tokens=40, stop=["."])
    chunks = list((ChatPromptTemplate.from_template("What is a {thing}?") | model).stream({"thing": "llama"}))
    assert len(chunks) > 3
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    assert whole.text and "." not in whole.text and whole.response_metadata["finish_reason"] == "stop"
    assert whole.usage_metadata["input_tokens"] > 10


@pytest.mark.parametrize(
    ("said", "answer", "thought"),
    [
        ("<think>Meta, I think.</think>\n\nIn July <think> 2023.", "In July <think> 2023.", "Meta, I think."),
        (" <THINK>\na</THINK><think>b</think> Yes <b>", "Yes <b>", "a\n\nb"),
        ("<think>never ends", "", "never ends"),
        ("<thin line", "<thin line", ""),
        ("<", "<", ""),
        (" plain", " plain", ""),
    ],
)
def test_what_a_model_thinks_is_no_part_of_a_chains_answer(
    session: Session, said: str, answer: str, thought: str
) -> None:
    session.knowledge.add_text(SENTENCES[0]).run()
    session.add("thinker", ScriptedEngine([said]))
    found = session.rag.invoke("When was Llama 2 released?")
    assert found["answer"] == answer and found.get("reasoning", "") == thought
    session.add("thinker", ScriptedEngine([said]))
    assert "".join(piece.get("answer", "") for piece in session.rag.stream("When was Llama 2 released?")) == answer


def test_one_stop_text_is_one_text(session: Session) -> None:
    assert session.llm.invoke("hi", stop="there").content.strip() == "hello"
    assert session.llm.bind(stop="there").invoke("hi").content.strip() == "hello"
