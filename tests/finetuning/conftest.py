"""The real SmolLM2 as a folder, and eight invented facts in eight phrasings."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_magics.finetuning.spec import Base, read_base


@pytest.fixture(scope="session")
def base() -> Base:
    pytest.importorskip("transformers", reason="the extra transformers is not installed")
    from llm_magics import ModelRequest
    from llm_magics.engines.resolve import resolve
    from llm_magics.engines.transformers import prepare

    return read_base(prepare(resolve("smollm2"), ModelRequest("smollm2")).folder)


@pytest.fixture
def write(tmp_path: Path):
    """Write a file and return its path."""

    def written(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return written


@pytest.fixture(scope="session")
def tiny(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """A model of two narrow layers with SmolLM2's tokenizer: it learns nothing, at 30 steps a second."""
    for package in ("trl", "peft", "datasets"):
        pytest.importorskip(package, reason="the extra finetune is not installed")
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = AutoTokenizer.from_pretrained(base.folder)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True,
        bos_token_id=1, eos_token_id=2, pad_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return read_base(str(folder))
