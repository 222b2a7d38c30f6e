"""The real SmolLM2, opened once an engine for all engine tests, and small ways to ask it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from llm_magics.engines.resolve import resolve
from llm_magics.engines.transformers import TransformersEngine, open_model
from llm_magics.messages import GenerationOptions, Message, ModelRequest
from llm_magics.results import Chunk


@pytest.fixture(scope="session")
def smollm2() -> TransformersEngine:
    return open_model(resolve("smollm2"), ModelRequest("smollm2"))


@pytest.fixture(scope="session")
def smollm2_in_llamacpp() -> Iterator[object]:
    pytest.importorskip("xllamacpp", reason="the extra llamacpp is not installed")
    from llm_magics.engines import llamacpp

    engine = llamacpp.load(llamacpp.prepare(resolve("smollm2"), ModelRequest("smollm2")))
    yield engine
    engine.close()


@pytest.fixture
def ask(smollm2: TransformersEngine) -> Callable[..., list[Chunk]]:
    """Ask one question; returns the chunks."""

    def asked(text: str, **options: object) -> list[Chunk]:
        prompt = smollm2.render([Message("user", text)])
        defaults = {"temperature": 0.0, "repetition_penalty": 1.0, "max_new_tokens": 20}
        return list(smollm2.stream(prompt, GenerationOptions(**{**defaults, **options}), threading.Event()))

    return asked
