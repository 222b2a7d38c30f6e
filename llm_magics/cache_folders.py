"""The user's cache: where it is, and how a folder of it is written, whole or not at all.

A folder is written under a temporary name and renamed when it is whole. What a killed kernel leaves is removed by
the next writing an hour later.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_ABANDONED = 3600  # seconds after which an unfinished folder belongs to a kernel that was killed


def cache_folder(kind: str) -> Path:
    """Where things of one kind are kept: below ``LLM_MAGICS_CACHE``, or below the system's place for caches."""
    import platformdirs

    return Path(os.environ.get("LLM_MAGICS_CACHE") or platformdirs.user_cache_dir("llm_magics")) / kind


@contextlib.contextmanager
def written_whole(folder: Path, doing: str) -> Iterator[Path]:
    """Fill the folder that is given, and it gets its name when the block ends; after an error nothing is left of it.

    Args:
        folder: the name it gets. A damaged copy there is removed first.
        doing: a word in the temporary name, such as ``unpacking``, by which leftovers are known.

    Raises:
        OSError: it cannot be made or renamed. Where another kernel was faster, its folder is there.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    for left in folder.parent.glob(f".{doing}-*"):
        with contextlib.suppress(OSError):  # another kernel has just removed or renamed it
            if time.time() - left.stat().st_mtime > _ABANDONED:
                shutil.rmtree(left, ignore_errors=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{doing}-", dir=folder.parent))
    try:
        yield unfinished
        unfinished.chmod(0o755)  # mkdtemp's 0700 would hide a shared cache from its other users
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
