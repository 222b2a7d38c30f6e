"""A session's retrieval-augmented answers as a LangChain runnable."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.utils import AddableDict

from ..errors import InputError, did_you_mean
from ..values.answers import AnswerStream
from ..values.asking import AskRequest
from ..values.knowledge import Passage, RetrievalRequest
from .asking import Asks, Turn, texts

_QUESTION = ("question", "input", "query")
_ASKING = {field.name for field in dataclasses.fields(AskRequest)} - {"history", "cell", "run", "format"}
_RETRIEVAL = {field.name for field in dataclasses.fields(RetrievalRequest)}
_METHOD = {"given", "reasoning", "context"}
_THOUGHT = re.compile(r"\s*<think(?:ing)?>.*?</think(?:ing)?>\s*", re.DOTALL | re.IGNORECASE)
_OPTIONS = sorted(_ASKING | _RETRIEVAL | _METHOD)


class RagChain(Runnable[Any, dict[str, Any]]):
    """What ``%%rag`` does: passages of a knowledge base, and an answer from them.

    In goes the question, as a text or as a dict with ``question``, ``input`` or ``query``. Out comes
    ``{"answer": ..., "sources": [...]}``: the answer's text and the passages that the model read, as LangChain
    documents whose metadata are source, title, place, score, start and end. Streamed, the sources come first. What a
    model thinks before its answer, or reasons where that is asked for, is apart, as ``reasoning``.
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
            for text in _said(stream):
                yield AddableDict(answer=text)
            if stream.answer.reasoning or method.get("reasoning"):
                yield AddableDict(reasoning=stream.answer.reasoning)


def _said(stream: AnswerStream) -> Iterator[str]:
    """The answer as it comes, without what a reasoning model thinks before it between ``<think>`` and ``</think>``."""
    held = "<think>" if stream.prompt.text.rstrip().endswith("<think>") else ""  # some templates open it themselves
    held_back, thought = True, bool(held)
    for chunk in stream:
        if chunk.part != "answer" or not chunk.text:
            continue
        if not held_back:
            yield chunk.text
            continue
        held += chunk.text
        while end := _THOUGHT.match(held):
            held, thought = held[end.end() :], True
        begin = held.lstrip().lower()
        held_back = begin.startswith("<think") or "<think".startswith(begin)  # or nothing but white space so far
        if not held_back:
            yield held.lstrip() if thought else held
    if held_back and stream.answer.strip():  # where reasoning is asked for, the final answer is known at its end
        yield stream.answer.text


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
        ask["stop"] = texts(ask["stop"])
    return AskRequest(**ask, format="text", history=False), RetrievalRequest(**look), method


def _document(passage: Passage) -> Document:
    about = {name: getattr(passage, name) for name in ("source", "title", "place", "score", "start", "end")}
    return Document(page_content=passage.text, metadata=about)
