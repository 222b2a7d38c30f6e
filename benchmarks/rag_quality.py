"""How well a knowledge base finds and answers, beside the tutorial's pipeline on the same files and model.

    python benchmarks/rag_quality.py [FOLDER [QUESTIONS.jsonl]] [--every N]

The tutorial's way is TextLoader, CharacterTextSplitter(1000, 0), MiniLM, FAISS and RetrievalQA ("stuff", k 4).
A question is a line with ``id``, ``question``, ``answer_regex`` and ``source`` (or ``files``). A passage is found
where one of the first five is from a right file and fits the pattern; an answer is right where it fits the pattern
in its first 60 words. Both ways read the same files, and answer greedily with at most 60 tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_magics import Session
from llm_magics.values.asking import AskRequest
from llm_magics.values.knowledge import RetrievalRequest
from llm_magics.values.models import ModelRequest

MODEL, TOKENS, WORDS, FIRST = "smollm2", 60, 60, 5
SUFFIXES = (".html", ".htm", ".txt", ".md", ".rst")
MANUAL = "/usr/share/doc/git-doc"
GET_MANUAL = "apt-get download git-doc && dpkg -x git-doc_*.deb FOLDER, then GIT_MANUAL=FOLDER/usr/share/doc/git-doc"
INSTALL = 'pip install langchain-classic langchain-community langchain-huggingface "huggingface_hub<2"'


@dataclass(frozen=True)
class Question:
    """One row of the set."""

    text: str
    pattern: str
    files: frozenset[str]

    def found(self, passages: Sequence[tuple[str, str]]) -> bool:
        """Whether pairs of source and text hold the answer, from a right file."""
        mine = "\n".join(text for source, text in passages if any(source.endswith(name) for name in self.files))
        return bool(re.search(self.pattern, mine, re.IGNORECASE))

    def right(self, reply: str) -> bool:
        """Whether a reply is right."""
        return bool(re.search(self.pattern, " ".join(reply.split()[:WORDS]), re.IGNORECASE))


@dataclass(frozen=True)
class Way:
    """A pipeline: what it finds for a question, and what it answers with documents and without."""

    name: str
    retrieve: Callable[[str], list[tuple[str, str]]]
    answer: Callable[[str], str]
    closed_book: Callable[[str], str]


def questions(path: Path, every: int) -> Iterator[Question]:
    """Every N-th question, with the files that hold its answer."""
    for line in path.read_text().splitlines()[::every]:
        row = json.loads(line)
        files = row.get("files") or [row["source"]]
        yield Question(row["question"], row["answer_regex"], frozenset(files))


def ours(session: Session, files: list[str]) -> Way:
    """This package, with its defaults."""
    session.knowledge.add_sources(files, "bench").run()
    request = AskRequest(max_new_tokens=TOKENS, history=False)

    def ask(question: str, context: bool) -> str:
        stream = session.ask_rag(question, request, context=context)
        for _ in stream:
            pass
        return str(stream.answer)

    def retrieve(question: str) -> list[tuple[str, str]]:
        return [(found.source, found.text) for found in session.retrieve(question, RetrievalRequest(k=FIRST))]

    return Way("llm_magics", retrieve, lambda question: ask(question, True), lambda question: ask(question, False))


def tutorials(session: Session, files: list[str]) -> Way:
    """The tutorial's pipeline on the weights that the session has open.

    Raises:
        ImportError: LangChain's packages are missing.
    """
    from langchain_classic.chains import RetrievalQA
    from langchain_community.document_loaders import TextLoader
    from langchain_community.vectorstores import FAISS
    from langchain_core.language_models import LLM
    from langchain_huggingface import HuggingFaceEmbeddings
    from langchain_text_splitters import CharacterTextSplitter

    from llm_magics.aliases import EMBEDDERS

    request = AskRequest(max_new_tokens=TOKENS, temperature=0.0, repetition_penalty=1.0, history=False)

    class Opened(LLM):
        """The session's model as LangChain's."""

        @property
        def _llm_type(self) -> str:
            return MODEL

        def _call(self, prompt: str, stop: Any = None, run_manager: Any = None, **options: Any) -> str:
            stream = session.ask(prompt, request)
            for _ in stream:
                pass
            return str(stream.answer)

    loaded = [document for name in files for document in TextLoader(name, autodetect_encoding=True).load()]
    chunks = CharacterTextSplitter(chunk_size=1000, chunk_overlap=0).split_documents(loaded)
    embedding = HuggingFaceEmbeddings(model_name=str(EMBEDDERS["all-MiniLM-L6-v2"].packaged()))
    store = FAISS.from_documents(chunks, embedding)
    model = Opened()
    chain = RetrievalQA.from_chain_type(llm=model, chain_type="stuff", retriever=store.as_retriever())

    def retrieve(question: str) -> list[tuple[str, str]]:
        found = store.similarity_search(question, k=FIRST)
        return [(document.metadata["source"], document.page_content) for document in found]

    return Way("tutorial", retrieve, lambda question: str(chain.invoke(question)["result"]), model.invoke)


def measure(way: Way, asked: Sequence[Question], indexing: float, answers: bool) -> None:
    """Print one line of figures."""
    began = time.process_time()
    hits = sum(question.found(way.retrieve(question.text)) for question in asked)
    search = 1000 * (time.process_time() - began) / len(asked)
    line = f"{way.name:12}{hits:4} found in the first {FIRST}, {search:5.0f} ms a search, {indexing:5.0f} s to index"
    if answers:
        began = time.process_time()
        replies = [(question, way.answer(question.text)) for question in asked]
        seconds = (time.process_time() - began) / len(asked)
        right = sum(question.right(reply) for question, reply in replies)
        cited = sum(bool(re.search(r"\[\d\]", reply)) for _, reply in replies)
        nothing = sum("not in the documents" in reply.lower() for _, reply in replies)
        closed = sum(question.right(way.closed_book(question.text)) for question in asked)
        line += f"; {right} right, {closed} without documents, {cited} cite, {nothing} say not in the documents"
        line += f", {seconds:.1f} s an answer"
    print(f"{line} (of {len(asked)}; CPU seconds)", flush=True)


def main() -> None:
    """Run both ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(os.environ.get("GIT_MANUAL", MANUAL)))
    parser.add_argument("questions", type=Path, nargs="?", default=Path(__file__).parent / "data/git_questions.jsonl")
    parser.add_argument("--every", type=int, default=1, help="take every N-th question")
    parser.add_argument("--suffix", nargs="*", default=list(SUFFIXES), help="files that are read")
    parser.add_argument("--retrieve-only", action="store_true")
    arguments = parser.parse_args()
    files = sorted(str(path) for path in arguments.folder.rglob("*") if path.suffix in arguments.suffix)
    if not files:
        sys.exit(f"there is no Git manual in {arguments.folder}: {GET_MANUAL}")
    asked = list(questions(arguments.questions, arguments.every))
    session = Session(say=lambda text: None)
    if not arguments.retrieve_only:
        session.load(ModelRequest(MODEL))
    print(f"{len(files)} files, {len(asked)} questions")
    for make in (ours, tutorials):
        began = time.process_time()
        try:
            way = make(session, files)
        except ImportError as error:
            print(f"The tutorial's way needs {error.name}: {INSTALL}")
            continue
        measure(way, asked, time.process_time() - began, not arguments.retrieve_only)


if __name__ == "__main__":
    main()
