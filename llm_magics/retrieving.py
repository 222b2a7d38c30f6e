"""Passages for a question, from a session's knowledge bases to what a model is given to read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from .errors import InputError
from .knowledge.bases import KnowledgeBases
from .knowledge.excerpts import MORE, PASSAGES, near_passages
from .knowledge.excerpts import excerpts as cut
from .values.knowledge import Passage, Passages, RetrievalRequest

HALVINGS = 6
"""How often a passage that is longer than the model's context loses its second half, at most."""


def retrieve(bases: KnowledgeBases, text: str, request: RetrievalRequest) -> Passages:
    """The passages of a knowledge base that fit a question, the best first: those that ``excerpts`` looks in.

    Args:
        bases: the knowledge bases.
        text: the question.
        request: where and how to look.

    Raises:
        InputError: there is no question.
        KnowledgeError: there is no such knowledge base.
    """
    if not text.strip():
        raise InputError("there is no question", "Type it below the %%rag line, or after %rag")
    base = bases.find(request.knowledge_base)
    found = base.search(text, dataclasses.replace(request, k=request.k or MORE * PASSAGES))
    return Passages(_numbered(found if request.k else near_passages(found)), text.strip(), base.name)


def excerpts(bases: KnowledgeBases, text: str, request: RetrievalRequest) -> tuple[Passage, ...]:
    """The sentences that a model is given to read; arguments and errors as for ``retrieve``."""
    passages = retrieve(bases, text, request)
    embedder = bases.find(request.knowledge_base).embedder
    return _numbered(cut(text, passages, count=request.k, embedder=embedder))


def _numbered(passages: Sequence[Passage]) -> tuple[Passage, ...]:
    """Each with the number that it is shown and cited by."""
    return tuple(dataclasses.replace(passage, number=number) for number, passage in enumerate(passages, start=1))


def nothing_found(bases: KnowledgeBases, text: str, request: RetrievalRequest) -> str:
    """What is said where no passage fits; arguments as for ``retrieve``."""
    base = bases.find(request.knowledge_base)
    best = base.search(text, dataclasses.replace(request, min_score=0.0))
    if not best:
        return f"Not in the documents: nothing in {base.name} fits the question."
    score = max(passage.score for passage in best)
    return (
        f"Not in the documents: the best passage of {base.name} has a score of {score:.2f}, "
        f"and --min-score is {request.min_score:.2f}."
    )


def shortened(passages: Sequence[Passage], step: int) -> tuple[Passage, ...]:
    """Passages without the last ``step`` ones; where one is left, it loses its second half with every step more."""
    read = tuple(passages[: max(1, len(passages) - step)])
    halvings = step - len(passages) + 1
    if not read or halvings < 1:
        return read
    text = read[0].text[: len(read[0].text) >> halvings]
    matches = tuple(match for match in read[0].matches if match[1] <= len(text))
    return (dataclasses.replace(read[0], text=text, end=read[0].start + len(text), matches=matches),)


def said_of(passages: Sequence[Passage], read: Sequence[Passage], name: str, context: int) -> str:
    """What was left out of a prompt, in one line.

    Args:
        passages: what was found.
        read: what the model is given, from ``shortened``.
        name: the model's.
        context: the tokens that it reads at most.
    """
    of = f"{len(read)} of {len(passages)} passages" if len(passages) > 1 else "the passage"
    cut = f", cut to {len(read[0].text)} characters" if len(read[0].text) < len(passages[0].text) else ""
    return f"The model reads {of}{cut}: {name} has room for {context} tokens"
