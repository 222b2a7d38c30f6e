"""The standard suites of langchain-tests, with everything that they let a model without tools support."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("langchain_tests", reason="the extra test is not installed")

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore, VectorStoreRetriever
from langchain_tests.integration_tests import (
    ChatModelIntegrationTests,
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
    VectorStoreIntegrationTests,
)
from langchain_tests.unit_tests import ChatModelUnitTests

from llm_magics import Session
from llm_magics.integrations.chat_model import ChatLLMMagics
from llm_magics.integrations.embeddings import SentenceEmbeddings
from llm_magics.integrations.vector_store import KnowledgeBaseStore
from llm_magics.knowledge.embeddings import Embedder
from llm_magics.settings import LLMMagics


class TestKnowledgeBaseStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self) -> VectorStore:
        return KnowledgeBaseStore(self.get_embeddings())


class TestSessionKnowledgeBase(VectorStoreIntegrationTests):
    """A named base of a session, with the embedder of the session."""

    @pytest.fixture
    def vectorstore(self, session: Session) -> VectorStore:
        return session.knowledge_base("notes")


class KRetriever(VectorStoreRetriever):
    """The suite gives ``k`` to the constructor, where LangChain's own retriever wants ``search_kwargs``."""

    def __init__(self, *, k: int = 4, **fields: Any) -> None:
        super().__init__(search_kwargs={"k": k}, **fields)


class TestRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def filled(self, session: Session) -> None:
        self.store = session.knowledge_base()
        words = ("one llama", "two llamas", "three goats", "a llama and a goat", "five")
        self.store.add_documents([Document(page_content=text) for text in words])

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return KRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"vectorstore": self.store}

    @property
    def retriever_query_example(self) -> str:
        return "llama"


@pytest.mark.model
class TestEmbeddings(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self) -> type[Embeddings]:
        return SentenceEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"embedder": Embedder("all-MiniLM-L6-v2")}


class _ChatModel:
    """What both suites of the chat model are given: a session with a model, and another one loaded before it."""

    @pytest.fixture(autouse=True)
    def models(self, smollm2_engine: Any) -> None:
        session = Session(LLMMagics(), say=lambda line: None)
        session.settings.max_new_tokens = 12
        session.add("other", smollm2_engine)
        session.add("smollm2", smollm2_engine)
        self.made = session

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatLLMMagics

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"session": self.made, "model": "smollm2", "seed": 1}

    @property
    def model_override_value(self) -> str:
        return "other"


@pytest.mark.model
class TestChatModel(_ChatModel, ChatModelIntegrationTests):
    """The real SmolLM2."""


@pytest.mark.model
class TestChatModelAsAnObject(_ChatModel, ChatModelUnitTests):
    """The parts that ask nothing."""


def test_what_the_suites_cannot_turn_on_is_what_a_model_without_tools_has_not() -> None:
    suite = TestChatModel()
    off = {
        name
        for name in dir(ChatModelIntegrationTests)
        if name.startswith(("has_", "supports_", "returns_")) and getattr(suite, name) is False
    }
    assert off == {
        *("has_tool_calling", "has_structured_output", "supports_json_mode"),
        *("supports_image_inputs", "supports_image_urls", "supports_pdf_inputs", "supports_audio_inputs"),
        *("supports_video_inputs", "supports_anthropic_inputs"),
        *("supports_image_tool_message", "supports_pdf_tool_message"),
    }
