"""The user's cache of models that were made from a file: named by its content, written where there is room."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from ..cache_folders import written_whole
from ..errors import ModelTooLargeError
from .memory import gigabytes

_EDGE = 1 << 20  # bytes: the header, and the last tensor
_SAMPLES, _SAMPLE = 256, 4096  # pieces in between, and bytes of each: new weights change every one of them


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
    try:
        with written_whole(folder, "unpacking") as unfinished:
            free = shutil.disk_usage(folder.parent).free
            if needed > free:
                there = f"{folder.parent} has {gigabytes(free)}"
                raise ModelTooLargeError(
                    f"unpacking {what} takes {gigabytes(needed)} on the disk, and {there}",
                    "Set LLM_MAGICS_CACHE to a larger disk",
                )
            yield unfinished
    except OSError as error:
        if not is_whole(folder):  # else another kernel was faster
            raise ModelTooLargeError(
                f"{what} could not be unpacked to {folder.parent}: {error.strerror or error}",
                "Free some disk, or set LLM_MAGICS_CACHE to a larger one",
            ) from error
