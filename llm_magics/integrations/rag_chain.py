"""A session's retrieval-augmented answers as a LangChain runnable."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.utils import AddableDict

from ..errors import InputError, did_you_mean
from ..messages import AskRequest, Passage, RetrievalRequest
from .asking import Asks, Turn

_QUESTION = ("question", "input", "query")
_ASKING = {field.name for field in dataclasses.fields(AskRequest)} - {"history", "cell", "run", "format"}
_RETRIEVAL = {field.name for field in dataclasses.fields(RetrievalRequest)}
_METHOD = {"given", "reasoning", "context"}
_OPTIONS = sorted(_ASKING | _RETRIEVAL | _METHOD)


class RagChain(Runnable[Any, dict[str, Any]]):
    """What ``%%rag`` does: passages of a knowledge base, and an answer from them.

    In goes the question, as a text or as a dict with ``question``, ``input`` or ``query``. Out comes
    ``{"answer": ..., "sources": [...]}``: the answer's text and the passages that the model read, as LangChain
    documents whose metadata are source, title, place, score, start and end. Streamed, the sources come first.
    Options go in by name, as in ``rag.bind(k=8, temperature=0)``: those of ``AskRequest``, of ``RetrievalRequest``,
    and ``given``, ``reasoning`` and ``context`` of ``Session.ask_rag``. Nothing is kept in the history.

    Args:
        session: the session that asks.
        turn: shared by all that wait for one another.
    """

    def __init__(self, session: Asks, turn: Turn) -> None:
        self.session = session
        self.turn = turn

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:
        """Ask once.

        Args:
            input: the question.
            config: LangChain's.
            kwargs: options.

        Raises:
            InputError: no question, or an option that there is not.
            LLMMagicsError: as ``Session.ask_rag``.
        """

        def whole(input: Any) -> dict[str, Any]:
            found: dict[str, Any] = AddableDict()
            for piece in self._pieces(iter([input]), **kwargs):
                found = found + piece  # type: ignore[operator]
            return {"answer": "", **found}

        return self._call_with_config(whole, input, config, run_type="chain")

    def transform(
        self, input: Iterator[Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[dict[str, Any]]:
        """Ask once the question is whole, and pass the answer on as it comes."""
        yield from self._transform_stream_with_config(
            input, lambda pieces: self._pieces(pieces, **kwargs), config, run_type="chain"
        )

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[dict[str, Any]]:
        """Ask, and pass the answer on as it comes."""
        yield from self.transform(iter([input]), config, **kwargs)

    def _pieces(self, inputs: Iterator[Any], **options: Any) -> Iterator[dict[str, Any]]:
        given: Any = None
        for piece in inputs:
            given = piece if given is None else given + piece
        question = _question(given)
        ask, retrieval, method = _requests(options)
        with self.turn.taken():
            stream = self.session.ask_rag(question, ask, retrieval, **method)
            yield AddableDict(sources=[_document(passage) for passage in stream.sources])
            for chunk in stream:
                if chunk.text and chunk.part == "answer":
                    yield AddableDict(answer=chunk.text)
            if method.get("reasoning"):  # the final answer is known at the end of the reasoning
                yield AddableDict(answer=stream.answer.text, reasoning=stream.answer.reasoning)


def _question(given: Any) -> str:
    if isinstance(given, Mapping):
        found = [given[name] for name in _QUESTION if name in given]
        given = found[0] if found else None
    text = given if isinstance(given, str) else getattr(given, "text", None)  # a prompt's value or a message
    text = given.to_string() if hasattr(given, "to_string") else text
    if not isinstance(text, str):
        raise InputError("there is no question", f"Give a text, or a dict with {' or '.join(_QUESTION)}")
    return text


def _requests(options: Mapping[str, Any]) -> tuple[AskRequest, RetrievalRequest, dict[str, Any]]:
    for name in options:
        if name not in _OPTIONS:
            hint = did_you_mean(name, _OPTIONS) or f"There are {', '.join(_OPTIONS)}"
            raise InputError(f"there is no option {name}", hint)
    ask, look, method = (
        {name: value for name, value in options.items() if name in names} for names in (_ASKING, _RETRIEVAL, _METHOD)
    )
    if ask.get("stop"):
        ask["stop"] = (ask["stop"],) if isinstance(ask["stop"], str) else tuple(ask["stop"])
    return AskRequest(**ask, format="text", history=False), RetrievalRequest(**look), method


def _document(passage: Passage) -> Document:
    about = {name: getattr(passage, name) for name in ("source", "title", "place", "score", "start", "end")}
    return Document(page_content=passage.text, metadata=about)
