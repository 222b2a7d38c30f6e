"""From documents to chunks, through langchain-text-splitters.

A chunk is a pair of offsets, so that its text, its neighbours and what stands between them can
always be read in the document. What a splitter changes inside a chunk (the character splitter drops
empty paragraphs) is found again by its words.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..errors import InputError, MissingPackageError, did_you_mean
from ..values.knowledge import Splitting
from .base import Chunk, Document

SPLITTERS = ("recursive", "character", "markdown", "html", "code", "token", "none")
SIZES = {"token": 200}
SIZE = 1000

_ATX = re.compile(r"(#{1,6})[ \t]+(.+?)[ \t]*#*[ \t]*")
_RULE = re.compile(r"([=\-~^\"'+*`])\1{2,}[ \t]*")
_FENCE = re.compile(r"[ ]{0,3}(```|~~~)")
_LEAD = re.compile(r"[ \t]*(?::[ \t]+)?")
_WIDEST = 100  # characters of a line that names what hangs under it
_FAR = 400  # lines that are looked through for it
_PROSE = ("text", "markdown", "html")


class Heading(NamedTuple):
    """A heading: where its line begins, its depth from 1, its words."""

    start: int
    level: int
    title: str


def split(
    document: Document,
    splitting: Splitting = Splitting(),  # noqa: B008 - frozen
    *,
    count_tokens: Callable[[str], int] | None = None,
) -> list[Chunk]:
    """Cut a document into chunks.

    Args:
        document: what to cut.
        splitting: its splitter is ``recursive`` (paragraphs, then lines, then words), ``character`` (paragraphs
            alone, as in LangChain's tutorial), ``markdown`` (never across a heading), ``html`` (at tags; at
            headings where the page was read as Markdown), ``code`` (at functions and classes), ``token`` (by the
            embedder's tokens) or ``none`` (one chunk); its size 0 is 1000 characters, or 200 tokens.
        count_tokens: length of a text in tokens, for ``token``.

    Returns:
        The chunks in order. Chunks of white space are left out.

    Raises:
        InputError: an unknown splitter, or an overlap that is not smaller than the size.
        MissingPackageError: langchain-text-splitters is not installed.
    """
    splitter, overlap = splitting.splitter, splitting.overlap
    if splitter not in SPLITTERS:
        raise InputError(
            f"there is no splitter {splitter}",
            did_you_mean(splitter, SPLITTERS) or f"Take one of {', '.join(SPLITTERS)}",
        )
    size = splitting.size or SIZES.get(splitter, SIZE)
    if size < 1 or not 0 <= overlap < size:
        raise InputError(
            f"--chunk-overlap {overlap} does not fit --chunk-size {size}",
            "The overlap is a whole number from 0 and below the size, such as --chunk-size 1000 --chunk-overlap 100",
        )
    if splitter == "none":
        return [Chunk(0, len(document.text))] if document.text.strip() else []
    cut = _splitter(document, splitter, size, overlap, count_tokens)
    headings = find_headings(document.text) if document.kind in _PROSE else []
    spans: list[tuple[int, int]] = []
    for begin, end in _sections(document, splitter, headings):
        text = document.text[begin:end]
        spans += [(begin + a, begin + b) for a, b in _spans(text, cut.split_text(text), overlap)]
    places = _Places(document, headings)
    return [Chunk(start, end, places.of(start, end)) for start, end in spans]


def _splitter(
    document: Document, splitter: str, size: int, overlap: int, count_tokens: Callable[[str], int] | None
) -> Any:
    try:
        from langchain_text_splitters import CharacterTextSplitter, Language, RecursiveCharacterTextSplitter
    except ImportError as error:
        raise MissingPackageError(error.name or "langchain_text_splitters", "rag") from error
    limits: dict[str, Any] = {"chunk_size": size, "chunk_overlap": overlap}
    if splitter == "character":
        import logging

        # It warns of every paragraph that is longer than the size, which is what it does by design.
        logging.getLogger("langchain_text_splitters.base").setLevel(logging.ERROR)
        return CharacterTextSplitter(separator="\n\n", **limits)
    if splitter == "token":
        return RecursiveCharacterTextSplitter(length_function=count_tokens or _words, **limits)
    language = {"markdown": "markdown", "html": "markdown" if document.kind == "markdown" else "html"}.get(splitter)
    if splitter == "code" or (splitter == "recursive" and document.kind not in _PROSE):
        language = document.kind if document.kind in {entry.value for entry in Language} else None
    if language:
        return RecursiveCharacterTextSplitter.from_language(Language(language), **limits)
    return RecursiveCharacterTextSplitter(**limits)


def _words(text: str) -> int:
    return len(text.split())


def _sections(document: Document, splitter: str, headings: list[Heading]) -> Iterator[tuple[int, int]]:
    by_heading = splitter == "markdown" or (splitter == "html" and document.kind == "markdown")
    starts = [0, *(heading.start for heading in headings if heading.start)] if by_heading else [0]
    yield from zip(starts, [*starts[1:], len(document.text)], strict=True)


def _spans(text: str, pieces: list[str], overlap: int) -> Iterator[tuple[int, int]]:
    """Where each piece stands. They come in order; without overlap each begins behind the one before."""
    start, end = -1, 0
    for piece in pieces:
        words = piece.split()
        if not words:
            continue
        behind = start + 1 if overlap else end
        begin = text.find(piece, behind)
        if begin >= 0:
            start, end = begin, begin + len(piece)
        else:
            found = re.compile(r"\s+".join(map(re.escape, words))).search(text, behind)
            if found is None:  # a splitter that rewrites: the words are lost, the order is not
                continue
            start, end = found.span()
        yield start, end


def find_headings(text: str) -> list[Heading]:
    """Headings of Markdown (``# Title``) and of reStructuredText or AsciiDoc (a rule under the title).

    Args:
        text: the document.

    Returns:
        Headings in order. Marks for underlines get their depth in the order in which they first appear, as
        in reStructuredText. Fenced code is left out.
    """
    found: list[Heading] = []
    marks: list[str] = []
    fence, before, before_start, start = "", "", 0, 0
    for line in text.splitlines(keepends=True):
        bare = line.rstrip()
        rule = _RULE.fullmatch(bare)
        if not (before[:1].strip() and abs(len(bare) - len(before)) <= 2 and not before.startswith("|")):
            rule = None  # a rule is about as long as its title
        edge = None if rule and not fence else _FENCE.match(bare)
        if edge and (not fence or edge[1] == fence):
            fence = "" if fence else edge[1]
        elif not fence:
            atx = _ATX.fullmatch(bare)
            if atx:
                found.append(Heading(start, len(atx[1]), atx[2]))
            elif rule:
                if rule[1] not in marks:
                    marks.append(rule[1])
                found.append(Heading(before_start, marks.index(rule[1]) + 1, before.strip()))
        before, before_start = bare, start
        start += len(line)
    return found


def outline(text: str, start: int, *, depth: int = 3) -> list[str]:
    """The lines that what stands at an offset hangs under, the outermost first.

    Above a description that is the term it describes, above an item its list, above a statement its function:
    the nearest line before that is indented less, and so on outwards. A piece cut from a manual's list of
    options is found by the option's name through this.

    Args:
        text: the document.
        start: the offset.
        depth: lines at most, the innermost ones.

    Returns:
        The lines without their indentation; lines of prose are left out.
    """
    at = text.rfind("\n", 0, start) + 1
    limit = _indent(text[at : at + _WIDEST])
    found: list[str] = []
    for _ in range(_FAR):
        if not limit or not at:
            break
        before = text.rfind("\n", 0, at - 1) + 1
        line = text[before : at - 1]
        at = before
        if line.strip() and (indent := _indent(line)) < limit:
            limit = indent
            if len(line.strip()) <= _WIDEST:
                found.append(line.strip(" \t:"))
    return found[:depth][::-1]


def _indent(line: str) -> int:
    """Columns before a line's first character; ``:`` opens the description of a term in Markdown."""
    return len(_LEAD.match(line)[0].expandtabs())  # type: ignore[index]  # it fits the empty text


class _Places:
    """Says where a chunk stands, as a person would look it up."""

    def __init__(self, document: Document, headings: list[Heading]) -> None:
        self._pages, self._word = document.pages, document.page_word
        self._starts = [heading.start for heading in headings]
        self._paths: list[str] = []
        path: list[Heading] = []
        for heading in headings:
            path = [above for above in path if above.level < heading.level] + [heading]
            self._paths.append(" > ".join(part.title for part in path))
        self._lines = [found.start() for found in re.finditer("\n", document.text)]

    def of(self, start: int, end: int) -> str:
        if self._pages:
            first, last = bisect.bisect_right(self._pages, start), bisect.bisect_right(self._pages, end - 1)
            return f"{self._word} {first}" if first == last else f"{self._word}s {first}-{last}"
        at = bisect.bisect_right(self._starts, start) - 1
        if at >= 0:
            return self._paths[at]
        if not self._lines:  # one line: there is nothing to look up
            return ""
        first, last = bisect.bisect_left(self._lines, start) + 1, bisect.bisect_left(self._lines, end - 1) + 1
        return f"line {first}" if first == last else f"lines {first}-{last}"
