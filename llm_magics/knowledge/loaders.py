"""From files, folders, addresses and variables to documents.

Formats are read by the libraries made for them: markitdown (HTML, docx, pptx, ipynb) and pypdf.
What cannot be read is named and left out; nothing that a document links to is fetched.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import fnmatch
import glob
import io
import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError, KnowledgeError, LLMMagicsError, MissingPackageError, did_you_mean
from .base import Base, Document, expanded, shown
from .web import fetch

LARGEST = 200_000_000  # bytes of a file: above, a text would fill the memory several times over
_LEFT_OUT = {"__pycache__", "node_modules"}  # folders that hold what programs made; so do hidden ones
_CONVERTED = {".html": "html", ".htm": "html", ".docx": "docx", ".pptx": "pptx", ".ipynb": "ipynb"}
_LANGUAGES = {
    **{".py": "python", ".js": "js", ".ts": "ts", ".tsx": "ts", ".go": "go", ".java": "java", ".c": "c", ".h": "c"},
    **{".cpp": "cpp", ".cc": "cpp", ".hpp": "cpp", ".cs": "csharp", ".rb": "ruby", ".rs": "rust", ".php": "php"},
    **{".scala": "scala", ".swift": "swift", ".kt": "kotlin", ".lua": "lua", ".hs": "haskell", ".pl": "perl"},
    **{".sol": "sol", ".ps1": "powershell", ".ex": "elixir", ".proto": "proto", ".tex": "latex"},
    **{".md": "markdown", ".markdown": "markdown"},
}
_LONGEST_NAME = 80  # characters of a name in an error
_TEXT_FIELDS = ("text", "content", "page_content", "body")


@dataclass(slots=True)
class Loaded:
    """What came of loading.

    Attributes:
        documents: what could be read.
        skipped: what could not be read, each with the reason.
        whole: folders and patterns of which all files were read: no other file of them is there.
        variable: the variable of which all documents were read.
    """

    documents: list[Document] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    whole: list[str] = field(default_factory=list)
    variable: str = ""


def load(
    sources: Iterable[str],
    *,
    strict: bool = False,
    private: bool = False,
    root: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Loaded:
    """Read files, folders (with all below), glob patterns (``docs/**/*.md``) and http(s) addresses.

    Args:
        sources: what a person typed.
        strict: raise at the first that cannot be read.
        private: whether an address may redirect to this machine or the local network.
        root: as for ``source_name``.
        progress: told the name of each file or address before it is read.

    Raises:
        KnowledgeError: nothing of that name; with ``strict``, a file that cannot be read.
        InputError: an address that is neither http nor https.
        MissingPackageError: what a format needs is not installed.
    """
    loaded = Loaded()
    for source in sources:
        for name in [source] if "://" in source else _files(source):
            if progress is not None:
                progress(shown(name))
            try:
                loaded.documents.append(_from_address(name, private) if "://" in name else _from_file(name, root))
            except (MissingPackageError, InputError):
                raise
            except LLMMagicsError as error:
                if strict:
                    raise
                # a reason begins with what the file is called in the base, and stands beside its name
                loaded.skipped[name] = error.message.removeprefix(f"{shown(source_name(name, root))} ")
        if "://" not in source and not os.path.isfile(expanded(source)):
            loaded.whole.append(source)
    return loaded


def gone(base: Base, loaded: Loaded) -> list[str]:
    """Sources of a base that were part of what was just read whole, and are not any more.

    Of a folder or pattern those are files that are not there, of a variable the documents that it had before.

    Args:
        base: what was read before.
        loaded: what was read now.
    """
    found = {document.source for document in loaded.documents}
    sources = [source for source in base.sources if source not in found]
    if loaded.variable:
        return part_of_variable(base, loaded.variable, sources)
    files = [source for source in sources if (document := base.document(source)) and document.file]
    return [
        source
        for source in files
        if any(_is_in(base.root / source, part) for part in loaded.whole) and not os.path.lexists(base.root / source)
    ]


def part_of_variable(base: Base, variable: str, sources: Iterable[str]) -> list[str]:
    """Those of the sources that a variable of this name brought."""
    row = re.compile(rf"{re.escape(variable)}(\[\d+\])?")
    found = []
    for source in sources:
        document = base.document(source)
        if (document and document.variable == variable) or (row.fullmatch(source) and not (document and document.file)):
            found.append(source)
    return found


def part_of_folder(base: Base, folder: str, sources: Iterable[str]) -> list[str]:
    """Those of the sources that lie below a folder, or a web address."""
    start = f"{folder.rstrip('/')}/"
    files = {source for source in sources if (document := base.document(source)) and document.file}
    return [
        source
        for source in sources
        if source.startswith(start) or (source in files and _is_in(base.root / source, folder))
    ]


def _is_in(path: Path, part: str) -> bool:
    """Whether a file lies below a folder or fits a pattern."""
    whole = os.path.abspath(os.path.expanduser(part))
    if path.is_relative_to(whole):
        return True
    return glob.has_magic(part) and fnmatch.fnmatch(str(path), whole.replace(f"**{os.sep}", "*"))


def from_variable(value: Any, name: str) -> list[Document]:
    """Documents from a text, a list of texts, a DataFrame's column, or LangChain documents.

    Args:
        value: the variable's value.
        name: the variable's name; the source of text ``n`` of several is ``name[n]``. LangChain documents
            keep the source that their metadata names.

    Raises:
        InputError: something else.
    """
    if isinstance(value, str):
        return [Document(value, name)]
    if hasattr(value, "columns"):  # iterating a table gives its headings
        first = next(iter(value.columns), "text")
        raise InputError(f"{name} is a table", f"Name the column with the texts: --var {name}[{str(first)!r}]")
    several = not hasattr(value, "page_content")
    items = [value] if not several else value
    if isinstance(value, (bytes, dict)) or not hasattr(items, "__iter__"):
        raise InputError(
            f"{name} is a {type(value).__name__}", "--var takes a text, a list of texts, a column, or documents"
        )
    found: list[Document] = []
    for number, item in enumerate(items):
        text = getattr(item, "page_content", item)
        if not isinstance(text, str):
            raise InputError(f"{name}[{number}] is a {type(item).__name__}, not a text", "Leave it out, or take str(…)")
        metadata = getattr(item, "metadata", None) or {}
        own = str(metadata.get("source") or "")
        source = own or (f"{name}[{number}]" if several else name)
        found.append(Document(text, source, metadata=_as_json(metadata), variable=name if own else ""))
    return _joined(found)


def _as_json(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What can be saved of a document's metadata; the rest as its text."""
    simple = (str, int, float, bool, type(None))
    return {str(key): value if isinstance(value, simple) else str(value) for key, value in metadata.items()}


def _joined(documents: list[Document]) -> list[Document]:
    """Documents of one source become one, such as the pages that LangChain's PDF loader makes."""
    groups: dict[str, list[Document]] = {}
    for document in documents:
        groups.setdefault(document.source, []).append(document)
    found = []
    for source, parts in groups.items():
        starts = [0]
        for part in parts[:-1]:
            starts.append(starts[-1] + len(part.text) + 2)
        several = len(parts) > 1
        whole = Document(
            "\n\n".join(part.text for part in parts),
            source,
            pages=tuple(starts) if several else (),
            page_word="page" if all("page" in part.metadata for part in parts) else "part",
            metadata={} if several else parts[0].metadata,
            variable=parts[0].variable,
        )
        found.append(whole)
    return found


def source_name(path: str, root: Path | None = None) -> str:
    """What a file is called in a knowledge base: from the root where it lies below, else in full.

    Args:
        path: of a file, in any spelling.
        root: the base's folder; the working folder unless given.
    """
    full, root = Path(os.path.abspath(os.path.expanduser(path))), root or Path.cwd()
    return str(full.relative_to(root) if full.is_relative_to(root) else full)


def _files(source: str) -> Iterator[str]:
    path = expanded(source)
    if os.path.isdir(path):  # not path.is_dir(), which raises where a name is too long or a folder is closed
        yield from _below(path)
    elif os.path.exists(path):
        yield str(path)
    elif glob.has_magic(source):
        # ** follows links to folders, in circles too: each file counts once, under its shortest name
        found = {os.path.realpath(name): name for name in sorted(glob.glob(str(path), recursive=True), key=len)[::-1]}
        if not found:
            raise KnowledgeError(f"no file fits {_short(source)}", "A folder's name alone takes all files below it")
        yield from sorted(name for name in found.values() if Path(name).is_file())
    else:
        near: list[str] = []
        with contextlib.suppress(OSError):
            near = [str(path.with_name(name)) for name in os.listdir(path.parent)]
        raise KnowledgeError(
            f"there is no file or folder {_short(source)}",
            shown(did_you_mean(str(path), near)) or "Text can be added in the cell: %%rag_add",
        )


def _short(source: str) -> str:
    """What a person typed, fit for one line: it may be a text where a name was wanted."""
    return shown(source if len(source) <= _LONGEST_NAME else f"{source[:_LONGEST_NAME]}…")


def _below(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder):  # links to folders are not followed: they may lead in circles
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _LEFT_OUT)
        yield from (os.path.join(place, name) for name in sorted(files) if not name.startswith("."))


def _from_file(name: str, root: Path | None) -> Document:
    path = Path(name)
    try:
        if not path.is_file():  # reading a pipe or a device could wait for ever
            raise KnowledgeError(f"{shown(name)} is no ordinary file", "Name a file or a folder")
        if path.stat().st_size > LARGEST:
            raise KnowledgeError(f"{shown(name)} is larger than {LARGEST // 10**6} MB", "Split it")
        data = path.read_bytes()
    except OSError as error:
        raise KnowledgeError(f"{shown(name)} cannot be read: {error.strerror}", "Look at its permissions") from error
    return dataclasses.replace(document(data, source_name(name, root), path.suffix.lower()), file=True)


def _from_address(address: str, private: bool) -> Document:
    data, suffix = fetch(address, private=private)
    return document(data, address, suffix)


def document(data: bytes, source: str, suffix: str) -> Document:
    """Read one document.

    Args:
        data: the file.
        source: its path or address.
        suffix: says the format, such as ``.pdf``; what is not known is read as text.

    Raises:
        KnowledgeError: damaged, binary, or without any text.
        MissingPackageError: what the format needs is not installed.
    """
    readers = {".pdf": _pdf, ".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl}
    reader = readers.get(suffix, _converted if suffix in _CONVERTED else _plain)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # parsers warn of every oddity in a file
            found = reader(data, source, suffix)
    except (LLMMagicsError, MemoryError):
        raise
    except Exception as error:  # each parser has classes of its own for what a damaged file can hold
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise KnowledgeError(
            f"{shown(source)} cannot be read as {suffix.lstrip('.') or 'text'}: {reason}", "Leave it out, or convert it"
        ) from error
    if not found.text.strip():
        hint = "A scanned PDF needs text recognition first" if suffix == ".pdf" else "Leave it out"
        raise KnowledgeError(f"{shown(source)} holds no text", hint)
    return found


def _plain(data: bytes, source: str, suffix: str) -> Document:
    return Document(_decoded(data, source), source, _LANGUAGES.get(suffix, "text"))


def _decoded(data: bytes, source: str) -> str:
    if not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        if b"\0" in data[:8192]:
            raise KnowledgeError(f"{shown(source)} is no text", "Leave it out, or convert it to text or PDF")
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            pass
    from charset_normalizer import from_bytes

    best = from_bytes(data).best()
    if best is None:
        raise KnowledgeError(f"{shown(source)} is no text", "Leave it out, or save it as UTF-8")
    return str(best)


def _converted(data: bytes, source: str, suffix: str) -> Document:
    try:
        from markitdown import MarkItDown, MissingDependencyException, StreamInfo, converters
    except ImportError as error:
        raise MissingPackageError(error.name or "markitdown", "rag") from error
    kind = _CONVERTED[suffix]
    if kind == "html":  # its own guess of the encoding looks at the first bytes only
        data = _decoded(data, source).encode("utf-8", "replace")
    if kind == "ipynb" and "cells" not in json.loads(data):  # it would be taken for text otherwise
        raise KnowledgeError(f"{shown(source)} is no notebook of format 4", "Open and save it in Jupyter")
    information = StreamInfo(extension=f".{kind}", charset="utf-8" if kind in ("html", "ipynb") else None)
    try:
        reader = MarkItDown(enable_builtins=False, enable_plugins=False)  # all of it would read anything as text
        reader.register_converter(getattr(converters, f"{kind.capitalize()}Converter")())
        result = reader.convert_stream(io.BytesIO(data), stream_info=information)
    except MissingDependencyException as error:
        raise MissingPackageError(f"what markitdown needs for {kind}", "rag") from error
    text = result.markdown
    mark = "<!-- Slide number:"
    pages: list[int] = []
    while kind == "pptx" and (at := text.find(mark, pages[-1] + 1 if pages else 0)) >= 0:
        pages.append(at)
    title = " ".join((result.title or "").split()) if "://" in source else ""  # a file is known by its path
    return Document(text, source, "markdown", tuple(pages), "slide" if pages else "page", title)


def _pdf(data: bytes, source: str, suffix: str) -> Document:
    try:
        import pypdf
    except ImportError as error:
        raise MissingPackageError(error.name or "pypdf", "rag") from error
    logging.getLogger("pypdf").setLevel(logging.ERROR)
    reader = pypdf.PdfReader(io.BytesIO(data))
    if reader.is_encrypted and not reader.decrypt(""):
        raise KnowledgeError(f"{shown(source)} needs a password", "Save a copy without one")
    starts, texts, length = [], [], 0
    for page in reader.pages:
        text = page.extract_text()
        starts.append(length)
        texts.append(text)
        length += len(text) + 2
    return Document("\n\n".join(texts), source, "text", tuple(starts))


def _csv(data: bytes, source: str, suffix: str) -> Document:
    """One paragraph a row, ``column: value`` a line: a row is found by its words and read with its names."""
    text = _decoded(data, source)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if suffix == ".tsv" else ",")
    names = next(rows, [])
    paragraphs = []
    for row in rows:
        cells = [f"{name}: {value}" for name, value in zip(names, row, strict=False) if value.strip()]
        paragraphs.append("\n".join(cells))
    return Document("\n\n".join(filter(None, paragraphs)) or text, source)


def _jsonl(data: bytes, source: str, suffix: str) -> Document:
    """One paragraph a line: its text where it has one, else ``name: value`` a line."""
    paragraphs = []
    for number, line in enumerate(_decoded(data, source).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise KnowledgeError(f"line {number} of {shown(source)} is no JSON", "Correct or remove it") from error
        if isinstance(row, dict):
            texts = [row[name] for name in _TEXT_FIELDS if isinstance(row.get(name), str)]
            paragraphs.append(texts[0] if texts else "\n".join(f"{name}: {value}" for name, value in row.items()))
        else:
            paragraphs.append(row if isinstance(row, str) else json.dumps(row, ensure_ascii=False))
    return Document("\n\n".join(paragraphs), source)
