"""The magics for one's own documents: ``%rag_add`` and ``%%rag``."""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..display.words import counted
from ..errors import InputError
from .arguments import add_asking, add_rows
from .asking import AskingGroup
from .declare import magic
from .parsing import Parser, number, one_of, whole_number

if TYPE_CHECKING:
    from ..values.knowledge import Indexing, KnowledgeBaseInfo, RetrievalRequest


def _rag_add_options(parser: Parser) -> None:
    add = parser.add_argument
    add("sources", nargs="*", metavar="SOURCE", help="file, folder, pattern or web page; with a cell: its base")
    add("-n", "--kb", default="", metavar="NAME", help="the knowledge base; the one used last unless given")
    add("--var", metavar="VAR", help="adds a text, a list of texts, a column, or LangChain documents")
    splitters = one_of("recursive", "character", "markdown", "html", "code", "token", "none")
    add = parser.add_argument_group("cutting and embedding").add_argument
    add(
        "--splitter",
        type=splitters,
        default="recursive",
        metavar="WAY",
        help="recursive, character, markdown, html, code, token or none",
    )
    add(
        "--chunk-size",
        type=whole_number("500", 1),
        default=0,
        metavar="N",
        help="longest chunk in characters; with --splitter token in tokens",
    )
    add("--chunk-overlap", type=whole_number("50"), default=0, metavar="N", help="what two neighbours share")
    add("--embedding", default="", metavar="MODEL", help="sentence-transformers model of a new base")
    add = parser.add_argument_group("reading").add_argument
    add("--strict", action="store_true", help="raises at the first file that cannot be read")
    add("--allow-private", action="store_true", help="lets a web page redirect into the local network")
    add("--no-interpolate", action="store_true", help="leaves {{...}} in the cell as it is")
    add = parser.add_argument_group("keeping").add_argument
    add("--list", action="store_true", help="shows the sources of a base")
    add("--remove", metavar="SOURCE", help="takes out a source, or all of a folder or a variable")
    add("--clear", action="store_true", help="takes everything out of a base")
    add("--save", metavar="DIR", help="saves a base into a folder")
    add("--load", metavar="DIR", help="opens a saved base")
    add("--store", metavar="VAR", help="makes a LangChain vector store a knowledge base")


def _rag_options(parser: Parser) -> None:
    from ..values.knowledge import SEARCHES

    add = parser.add_argument
    add("-n", "--kb", default="", metavar="NAME", help="the knowledge base; the one used last unless given")
    add("-k", type=whole_number("4", 1), metavar="N", help="passages that the model reads at most")
    add(
        "--search",
        type=one_of(*SEARCHES),
        default="hybrid",
        metavar="WAY",
        help="hybrid, dense (by meaning) or keyword",
    )
    add("--min-score", type=number("0.3"), default=0.0, metavar="S", help="leaves out passages below; 0 to 1")
    add("--diversity", type=number("0.5"), default=0.0, metavar="D", help="prefers passages unlike each other; 0 to 1")
    add("--rerank", default="", metavar="MODEL", help="cross-encoder that orders what was found")
    add("--retrieve-only", action="store_true", help="shows the passages and asks no model")
    add("--no-context", action="store_true", help="asks the same question without the documents")
    add("--cot", action="store_true", help="asks for reasoning, shows it folded")
    add("-e", "--examples", metavar="VAR|FILE", help="variable, CSV or JSON Lines file with worked examples")
    add_asking(parser)
    add_rows(parser)


class RagMagics(AskingGroup):
    """Retrieval: answers from your own documents."""

    @magic(
        "rag_add",
        "line_cell",
        options=_rag_add_options,
        examples=[
            "%%rag_add\nLlama 2 is a family of language models that Meta released in July 2023.",
            "%rag_add docs/ notes.md https://example.org/page.html --kb manual --save manual-kb",
        ],
    )
    def rag_add(self, args: argparse.Namespace) -> None:
        """Add text, files, folders, web pages or a variable to a knowledge base; alone, show what there is."""
        _check(args)
        if args.load:
            self._say_open(args, self.session.knowledge.load(args.load, args.kb).name)
        if args.store:
            self._say_open(args, self.session.knowledge.use(self.variable(args.store), args.kb).name)
        if args.remove or args.clear:
            self._take_out(args)
        if args.sources or args.var or args.text:
            self._add(args)
        if args.save:
            info = self.session.knowledge.save(args.save, args.kb)
            self._say(args, f"{info.name} is saved in {args.save}: {counted(info.chunks, 'chunk')}")
        if not args.silent:
            self._show_bases(args)

    @magic(
        "rag",
        "line_cell",
        options=_rag_options,
        prompt="question",
        examples=["%rag What is Llama 2?", "%%rag --kb manual -k 3 -o answer\nHow do I undo my last commit?"],
    )
    def rag(self, args: argparse.Namespace) -> Any:
        """Ask your own documents: the answer comes with the passages that it was made from."""
        retrieval = _retrieval(args)
        if args.retrieve_only:
            from ..display.passages import show_passages

            passages = self.session.retrieve(args.text, retrieval)
            show_passages(passages, shell=self.shell, silent=args.silent)
            return passages
        how = {"given": self.examples(args.examples), "reasoning": args.cot, "context": not args.no_context}
        return self.answer(
            args, functools.partial(self.session.ask_rag, retrieval=retrieval, **how), reasoning=args.cot
        )

    def _add(self, args: argparse.Namespace) -> None:
        from ..display.indexing import show_indexing

        show_indexing(self._indexing(args), shell=self.shell, silent=args.silent)

    def _indexing(self, args: argparse.Namespace) -> Indexing:
        """What is to be added, not yet begun."""
        from ..values.knowledge import Splitting

        knowledge = self.session.knowledge
        common: dict[str, Any] = {
            "name": args.kb,
            "splitting": Splitting(args.splitter, args.chunk_size, args.chunk_overlap),
            "embedding": args.embedding,
        }
        if args.text:
            return knowledge.add_text(args.text, cell=self.cell, **common)
        if args.var:
            return knowledge.add_variable(self.variable(args.var), args.var, **common)
        for source in args.sources:
            if os.path.exists(source):
                continue
            if source in self.shell.user_ns:
                raise InputError(f"{source} is a variable and no file", f"Type %rag_add --var {source}")
            if source in knowledge.names:
                raise InputError(f"{source} is a knowledge base and no file", f"Name it so: --kb {source}")
        return knowledge.add_sources(args.sources, strict=args.strict, private=args.allow_private, **common)

    def _take_out(self, args: argparse.Namespace) -> None:
        knowledge = self.session.knowledge
        if args.remove:
            taken = knowledge.remove(args.remove, args.kb)
            several = f"{counted(len(taken), 'source')}, " if len(taken) > 1 else ""
            self._say(args, f"{args.remove} is taken out: {several}{counted(sum(taken.values()), 'chunk')}")
        else:
            info = knowledge.clear(args.kb)
            self._say(args, f"{info.name} is empty: {counted(info.sources, 'source')} taken out")

    def _show_bases(self, args: argparse.Namespace) -> None:
        """With ``--list`` the sources of one base; where nothing else was asked for, all bases."""
        from ..display.tables import show_table

        knowledge = self.session.knowledge
        if args.list:
            base = knowledge.find(args.kb)
            rows: list[tuple[object, ...]] = list(knowledge.listed(args.kb))
            columns: tuple[str, ...] = ("source", "title", "chunks")
            if not any(title for _, title, _ in rows):
                columns, rows = ("source", "chunks"), list(base.sources.items())
            held = f"{counted(len(rows), 'source')}, {counted(len(base), 'chunk')}"
            show_table(f"%rag_add · {base.name}", columns, rows, shell=self.shell, note=held)
        elif not any((args.load, args.store, args.remove, args.clear, args.sources, args.var, args.text, args.save)):
            infos, saved = knowledge.infos, knowledge.saved
            rows = [(i.name, i.sources, i.chunks, i.embedding, i.index, _place(i)) for i in (*reversed(infos), *saved)]
            columns = ("name", "sources", "chunks", "embedding", "index", "kept in")
            show_table("%rag_add", columns, rows, shell=self.shell, note=_answering(infos, saved))

    def _say_open(self, args: argparse.Namespace, name: str) -> None:
        info = self.session.knowledge.info(self.session.knowledge.find(name))
        figures = f"{counted(info.sources, 'source')}, {counted(info.chunks, 'chunk')}"
        self._say(args, f"{info.name} is open: {figures}, {info.embedding}, {info.index} index")

    @staticmethod
    def _say(args: argparse.Namespace, line: str) -> None:
        from ..display.sources import one_line

        if not args.silent:
            print(one_line(line))


def _check(args: argparse.Namespace) -> None:
    """A cell's text belongs to one base, whose name may stand on the line.

    Raises:
        InputError: the line and the cell do not go together.
    """
    others = (args.load, args.store, args.remove, args.save, args.list, args.sources, args.var, args.text)
    if args.clear and any(others):
        raise InputError(
            "--clear empties a knowledge base and does nothing else",
            "Type %rag_add --clear, or %rag_add --clear --kb NAME",
        )
    if not args.text:
        if args.sources and args.var:
            raise InputError("--var and files are two things to add", "Type two lines, one for each")
        return
    if args.var:
        raise InputError("--var and a text are two things to add", f"Type %rag_add --var {args.var} in another cell")
    first = os.path.expanduser(args.sources[0]) if args.sources else ""
    if first and os.path.exists(first):
        raise InputError(
            f"%%rag_add adds the text below it, and {args.sources[0]} is a {_kind(first)}",
            f"Type %rag_add {' '.join(args.sources)} with one %, or for a base of that name %%rag_add --kb NAME",
        )
    if len(args.sources) > 1 or (args.sources and args.kb):
        raise InputError("a cell goes into one knowledge base", f"Type %%rag_add {args.kb or args.sources[0]}")
    args.kb, args.sources = args.kb or "".join(args.sources), []


def _kind(path: str) -> str:
    return "folder" if os.path.isdir(path) else "file"


def _retrieval(args: argparse.Namespace) -> RetrievalRequest:
    from ..values.knowledge import RetrievalRequest

    if args.retrieve_only and args.no_context:
        raise InputError("--retrieve-only and --no-context leave nothing to do", "Leave one of them out")
    return RetrievalRequest(
        knowledge_base=args.kb,
        k=args.k,
        search=args.search,
        min_score=args.min_score,
        diversity=args.diversity,
        rerank=args.rerank,
    )


def _place(info: KnowledgeBaseInfo) -> str:
    return (info.folder or "memory") if info.open else f"{info.folder} (not open yet)"


def _answering(opened: Sequence[KnowledgeBaseInfo], saved: Sequence[KnowledgeBaseInfo]) -> str:
    """Which base a question goes to."""
    from ..values.knowledge import DAMAGED

    if opened:
        return f"{opened[-1].name} answers where no --kb is given"
    whole = next((info.name for info in saved if info.index != DAMAGED), "")
    if whole:
        return f"--kb opens one: %rag --kb {whole} QUESTION"
    return "%%rag_add with a text makes one"
