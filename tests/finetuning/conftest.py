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
