"""A tiny embedder for most tests, and the real MiniLM, opened once."""

from __future__ import annotations

import pytest

from llm_magics.knowledge.embeddings import Embedder, HashingEmbedder
from llm_magics.knowledge.store import KnowledgeBase


@pytest.fixture(scope="session", autouse=True)
def extra() -> None:
    for package in ("faiss", "bm25s", "langchain_text_splitters", "markitdown", "pypdf"):
        pytest.importorskip(package, reason="the extra rag is not installed")


@pytest.fixture(scope="session")
def minilm() -> Embedder:
    return Embedder("all-MiniLM-L6-v2")


@pytest.fixture
def base() -> KnowledgeBase:
    return KnowledgeBase("docs", HashingEmbedder())
