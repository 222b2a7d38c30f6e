"""The real SmolLM2, opened once an engine for all engine tests, and small ways to ask it."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Iterator

import pytest
from servers import LLAMACPP_SERVER, TRANSFORMERS_SERVE, on_server, served

from llm_magics.engines.resolve import resolve
from llm_magics.engines.transformers import TransformersEngine, open_model
from llm_magics.values.answers import Chunk
from llm_magics.values.asking import GenerationOptions
from llm_magics.values.messages import Message
from llm_magics.values.models import ModelRequest


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


@pytest.fixture(scope="session")
def llamacpp_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """llama.cpp's own server with SmolLM2."""
    pytest.importorskip("xllamacpp", reason="the extra llamacpp is not installed")
    log = tmp_path_factory.mktemp("llamacpp") / "log"
    with served(LLAMACPP_SERVER, resolve("smollm2").location, log) as url:
        yield f"smollm2@{url}"


@pytest.fixture(scope="session")
def transformers_serve(smollm2: TransformersEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``transformers serve`` with SmolLM2, from the folder that the engine for transformers made."""
    for package in ("fastapi", "uvicorn", "openai"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"transformers serve needs {package}: the extra test brings it")
    folder = smollm2._tokenizer.name_or_path
    with served(TRANSFORMERS_SERVE, folder, tmp_path_factory.mktemp("transformers") / "log") as url:
        yield f"{folder}@{url}"


@pytest.fixture(scope="session")
def smollm2_on_llamacpp_server(llamacpp_server: str) -> Iterator[object]:
    engine = on_server(llamacpp_server)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def smollm2_on_transformers_serve(transformers_serve: str) -> Iterator[object]:
    engine = on_server(transformers_serve, context=8192)
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
