"""GGUF files for transformers: dequantised once, kept as safetensors in the user's cache.

The folder is written under a temporary name and renamed when it is whole. A full disk leaves
nothing behind; what a killed kernel leaves is removed by the next unpacking an hour later.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ..errors import MissingPackageError, ModelFileError, ModelTooLargeError
from .memory import BYTES, Weights, check_fits, gigabytes
from .quiet import quiet
from .resolve import is_whole

_EDGE = 1 << 20  # bytes: the header, and the last tensor
_SAMPLES, _SAMPLE = 256, 4096  # pieces in between, and bytes of each: new weights change every one of them
_ABANDONED = 3600  # seconds after which an unfinished folder belongs to a kernel that was killed


def cache_folder() -> Path:
    """Where dequantised models are kept: ``LLM_MAGICS_CACHE``, or the system's place for caches."""
    import platformdirs

    return Path(os.environ.get("LLM_MAGICS_CACHE") or platformdirs.user_cache_dir("llm_magics")) / "dequantized"


def dequantized(
    path: Path,
    dtype: str,
    *,
    check: Callable[[Weights], None],
    say: Callable[[str], None],
) -> str:
    """Folder with the file's weights as safetensors and its tokenizer.

    Args:
        path: the ``.gguf`` file.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        check: called with the weights before they are read; raises where they do not fit.
        say: told in one line what takes long.

    Raises:
        ModelFileError: truncated, damaged or of an architecture that transformers does not know.
        ModelTooLargeError: no room in memory or in the cache.
    """
    folder = cache_folder() / f"{path.stem}-{_fingerprint(path)}-{dtype}"
    if _is_whole(folder):
        return str(folder)
    weights = _read_header(path)
    check(weights)
    needed = int(weights.total * BYTES[dtype])
    check_fits(path.name, weights, "none", dtype, "cpu")  # all of it passes through this machine's memory
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    free = shutil.disk_usage(folder.parent).free
    if needed > free:
        raise ModelTooLargeError(
            f"unpacking {path.name} takes {gigabytes(needed)} on the disk, and {folder.parent} has {gigabytes(free)}",
            "Set LLM_MAGICS_CACHE to a larger disk",
        )
    say(f"Unpacking {path.name} for transformers, once ({gigabytes(needed)} in {folder.parent})…")
    unfinished = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder.parent))
    try:
        with quiet(), contextlib.redirect_stderr(io.StringIO()):  # a progress bar that cannot be turned off
            _write(path, dtype, unfinished)
        unfinished.chmod(0o755)  # mkdtemp's 0700 would hide a shared cache from its other users
        unfinished.rename(folder)
    except OSError as error:
        if not _is_whole(folder):  # else another kernel was faster
            raise ModelTooLargeError(
                f"{path.name} could not be unpacked to {folder.parent}: {error.strerror or error}",
                "Free some disk, or set LLM_MAGICS_CACHE to a larger one",
            ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return str(folder)


def _write(path: Path, dtype: str, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name, "local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**where)
        model = AutoModelForCausalLM.from_pretrained(
            **where, dtype=getattr(torch, dtype), quantization_config=GgufConfig(dequantize=True)
        )
    except (ValueError, KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelFileError(f"{path.name} cannot be opened by transformers: {reason}") from error
    try:
        tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)
    except Exception as error:  # safetensors and tokenizers each report a full disk with a class of their own
        raise OSError(str(error)) from error


def _read_header(path: Path) -> Weights:
    try:
        import gguf
    except ImportError as error:
        raise MissingPackageError("gguf", "transformers") from error
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError, OSError, OverflowError, MemoryError) as error:
        raise ModelFileError(
            f"{path.name} is damaged or incomplete ({gigabytes(path.stat().st_size)})", "Download it again"
        ) from error
    return Weights.count((tensor.name, tuple(tensor.shape)) for tensor in reader.tensors)


def _is_whole(folder: Path) -> bool:
    return is_whole(folder) and (folder / "tokenizer.json").is_file()


def _sweep(folder: Path) -> None:
    """Remove a damaged copy of this model, and what killed kernels left."""
    shutil.rmtree(folder, ignore_errors=True)
    for left in folder.parent.glob(".unpacking-*"):
        if time.time() - left.stat().st_mtime > _ABANDONED:
            shutil.rmtree(left, ignore_errors=True)


def _fingerprint(path: Path) -> str:
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
