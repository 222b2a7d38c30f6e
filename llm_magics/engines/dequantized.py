"""GGUF files for transformers: dequantised once, kept as safetensors in the user's cache."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

from ..cache_folders import cache_folder
from ..errors import ModelFileError
from ..quiet import quiet
from .cache import fingerprint, new_folder
from .gguf_header import open_reader
from .memory import BYTES, Weights, check_fits, gigabytes
from .resolve import is_whole


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
    folder = cache_folder("dequantized") / f"{path.stem}-{fingerprint(path)}-{dtype}"
    if _is_whole(folder):
        return str(folder)
    weights = Weights.count((tensor.name, tuple(tensor.shape)) for tensor in open_reader(path).tensors)
    check(weights)
    needed = int(weights.total * BYTES[dtype])
    check_fits(path.name, weights, "none", dtype, "cpu")  # all of it passes through this machine's memory
    with new_folder(folder, needed, path.name, _is_whole) as unfinished:
        say(f"Unpacking {path.name} for transformers, once ({gigabytes(needed)} in {folder.parent})…")
        with quiet(), contextlib.redirect_stderr(io.StringIO()):  # a progress bar that cannot be turned off
            _write(path, dtype, unfinished)
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


def _is_whole(folder: Path) -> bool:
    return is_whole(folder) and (folder / "tokenizer.json").is_file()
