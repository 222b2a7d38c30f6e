"""The user's cache of models that were made from a file: named by its content, written whole or not at all.

A folder is written under a temporary name and renamed when it is whole. A full disk leaves
nothing behind; what a killed kernel leaves is removed by the next writing an hour later.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import ModelTooLargeError
from .memory import gigabytes

_EDGE = 1 << 20  # bytes: the header, and the last tensor
_SAMPLES, _SAMPLE = 256, 4096  # pieces in between, and bytes of each: new weights change every one of them
_ABANDONED = 3600  # seconds after which an unfinished folder belongs to a kernel that was killed


def cache_folder(kind: str) -> Path:
    """Where models of one kind are kept: below ``LLM_MAGICS_CACHE``, or below the system's place for caches."""
    import platformdirs

    return Path(os.environ.get("LLM_MAGICS_CACHE") or platformdirs.user_cache_dir("llm_magics")) / kind


def fingerprint(path: Path) -> str:
    """Twelve hexadecimal digits that change with a file's content; reads 3 MB of it at most."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(_EDGE))
        size = file.seek(0, os.SEEK_END)
        for number in range(_SAMPLES):
            file.seek(size * number // _SAMPLES)
            digest.update(file.read(_SAMPLE))
        file.seek(max(0, size - _EDGE))
        digest.update(file.read())
    digest.update(str(size).encode())
    return digest.hexdigest()[:12]


@contextlib.contextmanager
def new_folder(folder: Path, needed: int, what: str, is_whole: Callable[[Path], bool]) -> Iterator[Path]:
    """Write a folder of the cache: fill the one that is given, and it gets its name when the block ends.

    Args:
        folder: the name it gets. A damaged copy there is removed first.
        needed: bytes that will be written.
        what: the file that it is made from, for the errors.
        is_whole: whether a folder needs no writing; another kernel may have been faster.

    Raises:
        ModelTooLargeError: there is no room on the disk, or the block raised an ``OSError``.
    """
    unfinished: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        free = shutil.disk_usage(folder.parent).free
        if needed > free:
            raise ModelTooLargeError(
                f"unpacking {what} takes {gigabytes(needed)} on the disk, and {folder.parent} has {gigabytes(free)}",
                "Set LLM_MAGICS_CACHE to a larger disk",
            )
        unfinished = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder.parent))
        yield unfinished
        unfinished.chmod(0o755)  # mkdtemp's 0700 would hide a shared cache from its other users
        unfinished.rename(folder)
    except OSError as error:
        if not is_whole(folder):  # else another kernel was faster
            raise ModelTooLargeError(
                f"{what} could not be unpacked to {folder.parent}: {error.strerror or error}",
                "Free some disk, or set LLM_MAGICS_CACHE to a larger one",
            ) from error
    finally:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove a damaged copy of this model, and what killed kernels left."""
    shutil.rmtree(folder, ignore_errors=True)
    for left in folder.parent.glob(".unpacking-*"):
        if time.time() - left.stat().st_mtime > _ABANDONED:
            shutil.rmtree(left, ignore_errors=True)
