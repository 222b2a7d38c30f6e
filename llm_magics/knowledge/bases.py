"""The knowledge bases of one session, by name, and the embedding models that they share.

A base is made by the first thing that is added to it. Where the setting ``knowledge_folder`` names a
folder, each base lives in a folder of its name in it: saved after every change, and opened again by
the next kernel that asks for it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError, Interrupted, KnowledgeError, did_you_mean
from ..settings import LLMMagics
from ..values.knowledge import DAMAGED, Added, Indexing, IndexingProgress, KnowledgeBaseInfo, Splitting
from . import loaders, saving
from .base import Base, Document, expanded, shown
from .embeddings import Embedder, HashingEmbedder
from .saving import MANIFEST
from .store import KnowledgeBase

DEFAULT = "default"
_HASHING = re.compile(r"hashing-([1-9][0-9]{0,4})")
_TITLE = 40  # characters of a cell that name it

Progress = Callable[[IndexingProgress], None]


class KnowledgeBases:
    """Knowledge bases by name; the one used last answers where no name is given.

    Args:
        settings: for the embedding model and the folder in which bases live.
    """

    def __init__(self, settings: LLMMagics) -> None:
        self._settings = settings
        self._bases: dict[str, Base] = {}
        self._embedders: dict[str, Embedder | HashingEmbedder] = {}
        self._manifests: dict[str, bytes] = {}  # of each base in the project's folder, as read or written last
        self._lock = threading.RLock()

    def __len__(self) -> int:
        """How many are open."""
        return len(self._bases)

    def __iter__(self) -> Iterator[Base]:
        return iter(tuple(self._bases.values()))

    @property
    def names(self) -> list[str]:
        """Names of the bases that are open, and of those in the project's folder."""
        return [*self._bases, *self._saved()]

    @property
    def infos(self) -> tuple[KnowledgeBaseInfo, ...]:
        """The bases of this session in figures; the last one answers where no name is given."""
        return tuple(self.info(base) for base in self)

    @property
    def saved(self) -> tuple[KnowledgeBaseInfo, ...]:
        """The bases in the project's folder that are not open, by what they say of themselves."""
        return tuple(map(self._saved_info, self._saved()))

    def info(self, base: Base) -> KnowledgeBaseInfo:
        """A base in figures."""
        folder = str(self._folder(base.name)) if base.name in self._manifests else ""
        return KnowledgeBaseInfo(base.name, len(base.sources), len(base), base.embedding, base.index, folder)

    def listed(self, name: str = "") -> list[tuple[str, str, int]]:
        """The sources of a base, what a person calls each where that is something else, and its number of chunks.

        Args:
            name: the base, as for ``find``.
        """
        base = self.find(name)
        documents = ((source, base.document(source), chunks) for source, chunks in base.sources.items())
        return [(source, document.title if document else "", chunks) for source, document, chunks in documents]

    def _saved_info(self, name: str) -> KnowledgeBaseInfo:
        folder = self._folder(name)
        assert folder is not None
        try:
            about = saving.about(folder)
        except KnowledgeError:
            return KnowledgeBaseInfo(name, 0, 0, "", DAMAGED, str(folder), open=False)
        sources, chunks = (value if isinstance(value := about.get(key), int) else 0 for key in ("sources", "chunks"))
        embedding, index = (shown(str(about.get(key, ""))) for key in ("embedding", "index"))
        return KnowledgeBaseInfo(name, sources, chunks, embedding, index, str(folder), open=False)

    def embedder(self, name: str = "") -> Embedder | HashingEmbedder:
        """An embedding model, opened once.

        Args:
            name: alias, Hub id or folder; the setting unless given. ``hashing-256`` compares words alone and
                needs no model.

        Raises:
            ModelNotFoundError: no such model.
            MissingPackageError: sentence-transformers is not installed.
        """
        name = name or self._settings.embedding
        with self._lock:
            if name not in self._embedders:
                words = _HASHING.fullmatch(name)
                self._embedders[name] = HashingEmbedder(int(words[1])) if words else Embedder(name)
            return self._embedders[name]

    def find(self, name: str = "") -> Base:
        """The base of that name, opened from the project's folder where it lies there.

        Args:
            name: the one used last unless given.

        Raises:
            KnowledgeError: there is none.
        """
        with self._lock:
            name = name or next(reversed(self._bases), DEFAULT)
            if name not in self._bases and (folder := self._folder(name)) and (folder / MANIFEST).is_file():
                manifest = (folder / MANIFEST).read_bytes()
                self._bases[name] = KnowledgeBase.load(folder, self.embedder, name=name)
                self._manifests[name] = manifest
            if name not in self._bases:
                there = f"There is {', '.join(map(shown, self.names))}" if self.names else ""
                hint = did_you_mean(name, self.names) or there or "%%rag_add with a text below it makes one"
                raise KnowledgeError(f"there is no knowledge base {shown(name)}", hint)
            self._bases[name] = self._bases.pop(name)  # the last one answers
            return self._bases[name]

    def open(self, name: str = "", *, embedding: str = "") -> Base:
        """The base of that name, made where there is none.

        Args:
            name: the one used last, or ``default``, unless given.
            embedding: the embedding model that a person asked for; empty for the base's own, or the setting.

        Raises:
            KnowledgeError: the base was made with another embedding model.
            ModelNotFoundError: no such embedding model.
        """
        with self._lock:
            try:
                base = self.find(name)
            except KnowledgeError:
                name = name or DEFAULT
                if (folder := self._folder(name)) and (folder / MANIFEST).exists():
                    raise  # it is there and damaged: a new one would be saved over it
                # Two working folders may share this one: their files must not be called the same.
                root = folder.absolute().parent.parent if folder else None
                base = self._bases[name] = KnowledgeBase(name, self.embedder(embedding), root=root)
            if embedding and embedding != base.embedding:
                raise KnowledgeError(
                    f"the knowledge base {shown(base.name)} was made with {base.embedding}, not {embedding}",
                    f"Leave --embedding out, or make another one: %rag_add --kb NAME --embedding {embedding}",
                )
            return base

    def use(self, store: Any, name: str = "") -> Base:
        """Make any LangChain vector store a knowledge base of this session; one of that name is replaced.

        Args:
            store: a ``langchain_core.vectorstores.VectorStore``; what it holds can be searched at once.
            name: what to call it; ``default`` unless given.

        Raises:
            InputError: it is something else.
        """
        from .remote import StoreBase

        name = name or DEFAULT
        with self._lock:
            self._bases.pop(name, None)
            self._bases[name] = StoreBase(name, store)
            return self._bases[name]

    def add_text(
        self, text: str, name: str = "", *, splitting: Splitting | None = None, embedding: str = "", cell: str = ""
    ) -> Indexing:
        """Add a text, as ``%%rag_add`` does with its cell.

        Args:
            text: what to add.
            name: the base, as for ``open``.
            splitting: how it is cut.
            embedding: as for ``open``.
            cell: identity of the notebook cell; a cell that runs again with another text replaces its first.

        Raises:
            InputError: there is no text.
            KnowledgeError: when it runs, as ``open``.
        """
        if not text.strip():
            raise InputError("there is nothing to add", "Type the text below the %%rag_add line, or %rag_add FILE")
        document = Document(text.strip("\n"), f"cell:{_digest(cell or text)}", title=_title(text))
        return self._indexing(name, embedding, lambda base, progress: loaders.Loaded([document]), splitting)

    def add_sources(
        self,
        sources: Sequence[str],
        name: str = "",
        *,
        splitting: Splitting | None = None,
        embedding: str = "",
        strict: bool = False,
        private: bool = False,
    ) -> Indexing:
        """Add files, folders, glob patterns and web pages; see ``loaders.load``.

        Files of a folder or pattern that were added before and are not there any more are taken out.

        Args:
            sources: what a person typed.
            name: the base, as for ``open``.
            splitting: how they are cut.
            embedding: as for ``open``.
            strict: raise at the first that cannot be read.
            private: whether a page may redirect to this machine or the local network.

        Raises:
            KnowledgeError: when it runs, as ``open``; nothing of a name, or with ``strict`` what cannot be read.
        """

        def documents(base: Base, progress: Progress) -> loaders.Loaded:
            began = time.perf_counter()

            def tell(file: str) -> None:
                progress(IndexingProgress(0, 0, time.perf_counter() - began, f"reading {file}"))

            return loaders.load(sources, strict=strict, private=private, root=base.root, progress=tell)

        return self._indexing(name, embedding, documents, splitting)

    def add_variable(
        self, value: Any, variable: str, name: str = "", *, splitting: Splitting | None = None, embedding: str = ""
    ) -> Indexing:
        """Add a text, a list of texts, a DataFrame's column, or LangChain documents.

        What a variable of this name brought before and holds no more is taken out.

        Args:
            value: the variable's value.
            variable: the variable's name.
            name: the base, as for ``open``.
            splitting: how they are cut.
            embedding: as for ``open``.

        Raises:
            InputError: the value is something else.
            KnowledgeError: when it runs, as ``open``.
        """
        found = loaders.from_variable(value, variable)
        loaded = loaders.Loaded(found, variable=variable)
        return self._indexing(name, embedding, lambda base, progress: loaded, splitting)

    def remove(self, source: str, name: str = "") -> dict[str, int]:
        """Take a source out of a base, or all that a folder, a pattern or a variable brought.

        Args:
            source: as it is listed, or a file, folder, pattern or variable as it was added.
            name: the base, as for ``find``.

        Returns:
            Each source that was taken out, with its number of chunks.

        Raises:
            KnowledgeError: no such base, or no such source in it.
        """
        with self._lock:
            base = self.find(name)
            taken = {one: base.remove(one) for one in self._meant(base, source)}
            self.keep(base)
            return taken

    @staticmethod
    def _meant(base: Base, source: str) -> list[str]:
        """The sources that a person means by a name; the name itself where there are none."""
        for one in (source, loaders.source_name(source, base.root)):
            if one in base.sources:
                return [one]
        parts = loaders.part_of_variable(base, source, base.sources)
        return parts or loaders.part_of_folder(base, source, base.sources) or [source]

    def clear(self, name: str = "") -> KnowledgeBaseInfo:
        """Take everything out of a base and forget it; returns what it was.

        Raises:
            KnowledgeError: there is none, or it is a database that cannot be emptied from here.
        """
        with self._lock:
            base = self.find(name)
            info = self.info(base)
            if base.name in self._manifests:
                self._check_ours(base.name)
            base.clear()
            if base.name in self._manifests:
                self.keep(base)
            del self._bases[base.name]
            return info

    def save(self, folder: str, name: str = "") -> KnowledgeBaseInfo:
        """Save a base into a folder, all or nothing; see ``saving``.

        Raises:
            KnowledgeError: no such base, or it cannot be saved there.
        """
        base = self.find(name)
        if not isinstance(base, KnowledgeBase):
            raise KnowledgeError(
                f"{shown(base.name)} lives in {base.index}, which keeps it", "There is nothing to save from here"
            )
        base.save(expanded(folder))
        return self.info(base)

    def load(self, folder: str, name: str = "") -> KnowledgeBaseInfo:
        """Open a saved base under its own or another name; one of that name is replaced.

        Raises:
            KnowledgeError: the folder holds none, or a damaged one.
        """
        with self._lock:
            path = expanded(folder)
            base = KnowledgeBase.load(path, self.embedder, name=name)
            own = self._folder(base.name)
            if own is not None and own.resolve() == path.resolve():
                self._manifests[base.name] = (own / MANIFEST).read_bytes()
            self._check_ours(base.name)
            self._bases.pop(base.name, None)
            self._bases[base.name] = base
            self.keep(base)
            return self.info(base)

    def _indexing(
        self,
        name: str,
        embedding: str,
        documents: Callable[[Base, Progress], loaders.Loaded],
        splitting: Splitting | None,
    ) -> Indexing:
        name = name or next(reversed(self._bases), DEFAULT)

        def work(progress: Progress) -> Added:
            began = time.perf_counter()
            if name not in self._bases and (wanted := embedding or self._settings.embedding) not in self._embedders:
                progress(IndexingProgress(0, 0, 0.0, f"opening {wanted}", long=True))
            made = name not in self._bases
            try:
                base = self.open(name, embedding=embedding)
            except KeyboardInterrupt:
                raise Interrupted("stopped; nothing was added") from None
            try:
                loaded = documents(base, progress)
                added = base.add(loaded.documents, splitting or Splitting(), progress=progress)
                gone = loaders.gone(base, loaded)
                for source in gone:
                    base.remove(source)
            except KeyboardInterrupt:
                self.keep(base)
                self._forget(base, made)
                plural = "" if len(base) == 1 else "s"
                held = f"{base.name} holds {len(base):,} chunk{plural}, each source whole"
                raise Interrupted(f"stopped; {held if base.name in self._bases else 'nothing was added'}") from None
            except Exception:
                self._forget(base, made)
                raise
            self.keep(base)
            seconds = time.perf_counter() - began
            return dataclasses.replace(added, seconds=seconds, skipped=loaded.skipped, gone=tuple(gone))

        def info() -> KnowledgeBaseInfo:
            return self.info(self._bases[name]) if name in self._bases else KnowledgeBaseInfo(name, 0, 0, "", "")

        return Indexing(name, work, info)

    def _forget(self, base: Base, made: bool) -> None:
        """A base that was made for an addition that came to nothing must not answer from now on."""
        if made and not len(base):
            self._bases.pop(base.name, None)

    def keep(self, base: Base) -> None:
        """Save a base that lives in the project's folder, after a change; one that is empty is taken off the disk.

        Args:
            base: one that was replaced by another of its name meanwhile is left alone.

        Raises:
            KnowledgeError: it cannot be saved, or another kernel saved one of that name.
        """
        with self._lock:
            folder = self._folder(base.name)
            if folder is None or not isinstance(base, KnowledgeBase) or self._bases.get(base.name) is not base:
                return
            self._check_ours(base.name)
            if base.sources:
                base.save(folder)
                self._manifests[base.name] = (folder / MANIFEST).read_bytes()
            elif base.name in self._manifests:
                saving.remove(folder)
                del self._manifests[base.name]

    def _check_ours(self, name: str) -> None:
        """Nothing is saved over a base that this session has not read.

        Raises:
            KnowledgeError: another kernel saved one of that name, or it lay there before.
        """
        folder = self._folder(name)
        path = folder / MANIFEST if folder is not None else None
        if path is not None and path.is_file() and path.read_bytes() != self._manifests.get(name):
            raise KnowledgeError(
                f"{shown(str(folder))} holds a base that this session has not read; this one is in memory only",
                f"%rag_add --save DIR keeps this one, and %rag_add --load {shown(str(folder))} opens the other",
            )

    def _folder(self, name: str) -> Path | None:
        """Where the base of that name lives; None where bases live in memory alone.

        Raises:
            InputError: the name cannot be a folder's.
        """
        if not self._settings.knowledge_folder:
            return None
        if name != Path(name).name or name in (".", "..") or not name.isprintable() or len(os.fsencode(name)) > 255:
            raise InputError(f"{shown(name)} cannot name a folder", "Take letters, digits, - and _")
        return expanded(self._settings.knowledge_folder) / name

    def _saved(self) -> list[str]:
        """Names of the bases in the project's folder that are not open."""
        if not self._settings.knowledge_folder:
            return []
        folder = expanded(self._settings.knowledge_folder)
        names = (path.parent.name for path in folder.glob(f"*/{MANIFEST}"))
        return sorted(name for name in names if name not in self._bases and name.isprintable())


def _title(text: str) -> str:
    """The first words of a cell."""
    line = " ".join(text.split())
    return line if len(line) <= _TITLE else line[:_TITLE].rsplit(" ", 1)[0] + "…"


def _digest(text: str) -> str:
    """What stands for the identity of a cell where the front end gives none: its text."""
    return hashlib.sha256(text.strip().encode("utf-8", "surrogatepass")).hexdigest()[:8]
