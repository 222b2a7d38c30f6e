"""The objects that a session gives to LangChain.

Importing this module loads nothing; LangChain comes with the first object.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ..errors import MissingPackageError
from ..knowledge.base import Base, TextEmbedder
from ..knowledge.remote import StoreBase
from ..knowledge.store import KnowledgeBase
from .asking import Asks, Turn

if TYPE_CHECKING:
    from langchain_core.vectorstores import VectorStore

    from .chat_model import ChatLLMMagics
    from .embeddings import SentenceEmbeddings
    from .rag_chain import RagChain


def chat_model(session: Asks) -> ChatLLMMagics:
    """The session's model as a chat model.

    Raises:
        MissingPackageError: langchain-core is not installed.
    """
    with _needs_langchain():
        from .chat_model import ChatLLMMagics
    return ChatLLMMagics(session=session)


def rag_chain(session: Asks, turn: Turn) -> RagChain:
    """The session's ``ask_rag`` as a runnable that waits for the chat model of the same turn.

    Raises:
        MissingPackageError: langchain-core is not installed.
    """
    with _needs_langchain():
        from .rag_chain import RagChain
    return RagChain(session, turn)


def embeddings(embedder: TextEmbedder) -> SentenceEmbeddings:
    """An embedder as LangChain's embeddings.

    Raises:
        MissingPackageError: langchain-core is not installed.
    """
    with _needs_langchain():
        from .embeddings import SentenceEmbeddings
    return SentenceEmbeddings(embedder)


def vector_store(base: Base, keep: Callable[[Base], None]) -> VectorStore:
    """A knowledge base as a vector store; of one in a database, the database's own.

    Args:
        base: the knowledge base.
        keep: called with it after each change through the store.

    Raises:
        MissingPackageError: langchain-core is not installed.
    """
    with _needs_langchain():
        from .vector_store import KnowledgeBaseStore
    if isinstance(base, StoreBase):
        return base.store
    assert isinstance(base, KnowledgeBase)
    return KnowledgeBaseStore(base=base, keep=lambda: keep(base))


@contextlib.contextmanager
def _needs_langchain() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise MissingPackageError((error.name or "langchain_core").partition(".")[0], "rag") from error
