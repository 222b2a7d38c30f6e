"""An adapter written into its base: one model folder that opens like any other."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from .tokens import load_tokenizer


def merge(
    base: str,
    adapter: Path,
    folder: Path,
    *,
    dtype: str = "",
    chat_template: str = "",
    trust_remote_code: bool = False,
) -> None:
    """Write a model with the adapter merged in.

    The base is opened anew and not quantized, whatever it was while it was trained on: weights of 4 bits
    cannot take up what the adapter adds.

    Args:
        base: the base's folder.
        adapter: the adapter's folder.
        folder: the folder to write; replaced where it is there, and never seen unfinished.
        dtype: ``float32``, ``bfloat16`` or ``float16``; the base's own unless given.
        chat_template: a Jinja template in place of the base's own; empty keeps that.
        trust_remote_code: whether Python code that comes with the base may run.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    kind: Any = getattr(torch, dtype) if dtype else "auto"
    local = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    model = AutoModelForCausalLM.from_pretrained(base, dtype=kind, use_safetensors=True, **local)
    merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    merged.save_pretrained(unfinished)
    tokenizer = load_tokenizer(base, chat_template=chat_template, trust_remote_code=trust_remote_code)
    tokenizer.save_pretrained(unfinished)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)
