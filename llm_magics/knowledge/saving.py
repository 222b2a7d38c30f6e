"""A knowledge base on the disk: two data files and a manifest that names them. Nothing is pickled.

    manifest.json           format, versions, embedding model, counts, checksums, names of the two below
    sources-<token>.jsonl   one source a line: its text and where its chunks are
    vectors-<token>.faiss   the vectors, as FAISS writes them

Data files get new names each time, and the manifest is replaced last, in one step. Until then the
folder holds the last saved base, from then on the new one, whatever kills the kernel in between. What
a killed one left is removed by a save an hour later.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import KnowledgeError
from .base import shown

FORMAT = "llm_magics knowledge base"
VERSION = 1
MANIFEST = "manifest.json"
_OURS = re.compile(r"(sources-[0-9a-f]{16}\.jsonl|vectors-[0-9a-f]{16}\.faiss|manifest-[0-9a-f]{16}\.tmp)")
_ABANDONED = 3600  # seconds after which a file that no manifest names belongs to a kernel that was killed


@dataclass(frozen=True, slots=True)
class Saved:
    """What a folder holds: the manifest's own words, and its two files, whose checksums are right."""

    about: dict[str, Any]
    sources: Path
    vectors: Path

    def lines(self) -> Iterator[dict[str, Any]]:
        """The sources, one by one."""
        with self.sources.open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)


def write(
    folder: Path, about: dict[str, Any], sources: Iterable[dict[str, Any]], write_vectors: Callable[[Path], None]
) -> None:
    """Save into a folder, all or nothing.

    Args:
        folder: new, empty, or one that was saved into before.
        about: what the manifest says besides files and checksums.
        sources: one JSON object a source.
        write_vectors: writes the vectors to the path it is given.

    Raises:
        KnowledgeError: the folder holds something else, or cannot be written to.
    """
    token = secrets.token_hex(8)
    names = {"sources": f"sources-{token}.jsonl", "vectors": f"vectors-{token}.faiss"}
    unfinished = folder / f"manifest-{token}.tmp"
    try:
        _check_ours(folder)
        folder.mkdir(parents=True, exist_ok=True)
        before = {entry.name: entry.stat().st_mtime for entry in folder.iterdir() if _OURS.fullmatch(entry.name)}
        replaced = _named(folder)
        with (folder / names["sources"]).open("w", encoding="utf-8") as file:
            for source in sources:
                file.write(json.dumps(source) + "\n")  # ASCII: a file name may hold bytes that are no UTF-8
        write_vectors(folder / names["vectors"])
        manifest = {"format": FORMAT, "version": VERSION, "llm_magics": __version__, **about, "files": names}
        manifest["checksums"] = {kind: _checksum(folder / name) for kind, name in names.items()}
        manifest["checksum"] = _seal(manifest)
        unfinished.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        for path in (*(folder / name for name in names.values()), unfinished):
            _to_disk(path)
        unfinished.replace(folder / MANIFEST)
        _to_disk(folder)
        old = {name for name, changed in before.items() if time.time() - changed > _ABANDONED}
        for name in (replaced | old) - set(names.values()):
            (folder / name).unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError is how FAISS reports a full disk
        for name in (*names.values(), unfinished.name):
            with contextlib.suppress(OSError):
                (folder / name).unlink()
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise KnowledgeError(
            f"the knowledge base could not be saved in {shown(str(folder))}: {reason}",
            "What was saved there before is untouched; name another folder, as in %rag_add --save DIR",
        ) from error


def read(folder: Path) -> Saved:
    """Find and check what was saved in a folder.

    Raises:
        KnowledgeError: nothing was saved there, or it is truncated, edited or from a newer version.
    """
    name = shown(str(folder))
    if not os.path.isdir(folder):  # folder.is_dir() raises where the name is too long
        raise KnowledgeError(f"there is no folder {name}", "%rag_add --save DIR makes one")
    for _ in range(3):  # another kernel may be saving: then the manifest changes
        manifest = _manifest(folder)
        files = {kind: folder / manifest["files"][kind] for kind in ("sources", "vectors")}
        wrong = [kind for kind, path in files.items() if _checksum(path) != manifest["checksums"].get(kind)]
        if not wrong:
            return Saved(manifest, files["sources"], files["vectors"])
        if manifest == _manifest(folder):
            break
    path = files[wrong[0]]
    state = "was changed or cut off after it was saved" if path.is_file() else "is missing"
    raise KnowledgeError(f"{path.name} in {name} {state}", "Add the documents again, or load another copy")


def about(folder: Path) -> dict[str, Any]:
    """What a saved base says of itself; its data files are not looked at.

    Raises:
        KnowledgeError: as ``read``.
    """
    return _manifest(folder)


def remove(folder: Path) -> None:
    """Take a saved base off the disk, the manifest first. What else lies in the folder stays.

    Raises:
        KnowledgeError: it cannot be.
    """
    try:
        names = _named(folder)
        for name in (MANIFEST, *names):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise KnowledgeError(
            f"the knowledge base in {shown(str(folder))} could not be removed: {error.strerror}",
            "Look at the folder's permissions",
        ) from error
    with contextlib.suppress(OSError):  # something else is in it
        folder.rmdir()


def path_from(folder: Path, place: Path) -> str:
    """A place as a path from a folder, so that both can be moved together."""
    try:
        return os.path.relpath(place, folder.absolute())
    except ValueError:  # another drive
        return str(place)


def damaged(folder: Path, reason: str) -> KnowledgeError:
    """The error for a folder that does not hold together."""
    return KnowledgeError(
        f"the knowledge base in {shown(str(folder))} is damaged: {reason}",
        "Add the documents again, or load another copy",
    )


def _manifest(folder: Path) -> dict[str, Any]:
    path, name = folder / MANIFEST, shown(str(folder))
    if (folder / "index.pkl").exists() and not path.exists():
        raise KnowledgeError(
            f"{name} was saved by LangChain's FAISS, with pickle, which can run code when it is opened",
            "Open it with LangChain as db, then type %rag_add --var list(db.docstore._dict.values())",
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise KnowledgeError(f"{name} holds no knowledge base", "%rag_add --save DIR makes one") from None
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(folder, f"{MANIFEST} cannot be read") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise KnowledgeError(f"{name} holds no knowledge base of llm_magics", "%rag_add --save DIR makes one")
    if found.get("version") != VERSION:
        raise KnowledgeError(
            f"{name} was saved in format {found.get('version')}, and this version reads {VERSION}",
            "Type %pip install --upgrade llm_magics",
        )
    names = found.get("files")
    whole = isinstance(names, dict) and all(_OURS.fullmatch(str(names.get(kind))) for kind in ("sources", "vectors"))
    if not whole or found.pop("checksum", None) != _seal(found) or not isinstance(found.get("checksums"), dict):
        raise damaged(folder, f"{MANIFEST} was changed")
    return found


def _named(folder: Path) -> set[str]:
    """The data files of the base that is saved there now."""
    try:
        return set(_manifest(folder)["files"].values())
    except KnowledgeError:
        return set()


def _check_ours(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise KnowledgeError(f"{shown(str(folder))} is a file", "Name a folder, as in %rag_add --save DIR")
    others = [entry.name for entry in folder.iterdir() if not _OURS.fullmatch(entry.name)]
    if MANIFEST in others:
        with contextlib.suppress(OSError, ValueError, RecursionError):
            found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            if isinstance(found, dict) and found.get("format") == FORMAT:
                return
    if others:
        raise KnowledgeError(
            f"{shown(str(folder))} holds other files, such as {shown(others[0])}",
            "Name a new or empty folder, as in %rag_add --save DIR",
        )


def _seal(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _checksum(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _to_disk(path: Path) -> None:
    """Wait until it is on the disk: a power cut must not leave a manifest without its files."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folder
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
