"""Vectors of texts: those of sentence-transformers, whatever computes them, and soon there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm_magics.aliases import EMBEDDERS
from llm_magics.knowledge import openvino
from llm_magics.knowledge.embeddings import Embedder

pytestmark = pytest.mark.model

MINILM = "all-MiniLM-L6-v2"
TEXTS = [
    "git rebase moves commits onto another base.\n\n  --onto <newbase>\tWhere to start.",
    "A llama is a domesticated South American camelid.",
    "",
    "ÀCCÉNTS, 漢字, 🦙 and MiXeD cAsE",
    "The soup was cold and the waiter ignored us. " * 60,
    *(f"The number {number} is " + "much " * number + "larger than zero." for number in range(40)),
]


@pytest.fixture(scope="session")
def original() -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(EMBEDDERS[MINILM].packaged() or EMBEDDERS[MINILM].hub), device="cpu")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("openvino", reason="openvino is not installed")
    monkeypatch.setenv("LLM_MAGICS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "openvino"


@pytest.fixture
def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "usable", lambda: False)


MakeModel = Callable[..., Path]


@pytest.fixture
def make_model(original: Any, tmp_path: Path) -> MakeModel:
    """Save a small model of random weights with these modules behind the transformer; returns its folder."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Transformer
    from transformers import BertConfig, BertModel

    def made(*modules: Any, seed: int = 0, limit: int = 60, **options: Any) -> Path:
        torch.manual_seed(seed)
        words = len(original.tokenizer)
        config = BertConfig(
            vocab_size=words,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=60,
            initializer_range=0.5,
        )
        BertModel(config).save_pretrained(tmp_path / "bert")
        original.tokenizer.save_pretrained(tmp_path / "bert")
        transformer = Transformer(str(tmp_path / "bert"), max_seq_length=limit)
        SentenceTransformer(modules=[transformer, *modules], **options).save(str(tmp_path / "model"))
        return tmp_path / "model"

    return made


def cosines(found: Any, true: Any) -> Any:
    return (found * true).sum(-1) / np.linalg.norm(true, axis=-1)


def check_minilm(embedder: Embedder, original: Any) -> None:
    found = embedder.vectors(TEXTS)
    assert found.dtype == np.float32 and found.shape == (len(TEXTS), 384)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)
    assert cosines(found, original.encode(TEXTS)).min() >= 0.999
    for text in TEXTS[:6]:
        assert cosines(embedder.question(text), original.encode(text)) >= 0.999
    assert embedder.similarities(TEXTS[:3], TEXTS[1])[1] == pytest.approx(1, abs=1e-3)
    assert embedder.count_tokens("a llama") == len(original.tokenizer.tokenize("a llama"))
    assert embedder.count_tokens(TEXTS[4]) > 500, "the length of a text is not that of what the model reads"
    assert embedder.vectors([]).shape == (0, 384)


def test_vectors_of_the_converted_model_are_those_of_sentence_transformers(cache: Path, original: Any) -> None:
    embedder = Embedder(MINILM)
    assert embedder.backend == "openvino"
    check_minilm(embedder, original)


def test_vectors_without_openvino_are_those_of_sentence_transformers(without_openvino: None, original: Any) -> None:
    embedder = Embedder(MINILM)
    assert embedder.backend == "sentence-transformers"
    check_minilm(embedder, original)


def test_a_later_session_embeds_without_importing_torch(cache: Path) -> None:
    said: list[str] = []
    first = Embedder(MINILM, said.append).question("What is a llama?")
    assert said == ["Preparing all-MiniLM-L6-v2 for this processor, once…"]
    code = f"""
import json, sys
from llm_magics.knowledge.embeddings import Embedder
vector = Embedder({MINILM!r}, print).question("What is a llama?")
print(json.dumps([vector.tolist(), sorted({{"torch", "transformers", "sentence_transformers"}} & set(sys.modules))]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    vector, heavy = json.loads(done.stdout)
    assert heavy == []
    assert np.dot(vector, first) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("when", ["converting", "opening"])
def test_nothing_is_told_to_anybody_over_the_network(cache: Path, make_model: MakeModel, when: str) -> None:
    from sentence_transformers.models import Pooling

    folder = make_model(Pooling(32, "mean"))
    if when == "opening":
        Embedder(str(folder))
    code = f"""
import socket, sys
tried = []
for name in ("connect", "connect_ex"):
    setattr(socket.socket, name, lambda *a: tried.append(a) or exit(f"connects to {{a}}"))
socket.getaddrinfo = lambda *a, **k: tried.append(a) or exit(f"asks for {{a}}")
from llm_magics.knowledge.embeddings import Embedder
embedder = Embedder({str(folder)!r})
embedder.question("What is a llama?")
print(embedder.backend, tried, sys.modules.get("openvino_telemetry"))
"""
    environment = {name: value for name, value in os.environ.items() if name != "CI"}  # it is off there
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split("\n")[-2] == "openvino [] None"


def test_an_interrupt_reaches_python_after_the_last_embedder_was_let_go_in_another_thread(cache: Path) -> None:
    """OpenVINO frees the stack for signal handlers that it gave the thread in which it began."""
    code = f"""
import gc, os, signal, threading, time
from llm_magics.knowledge.embeddings import Embedder
signal.signal(signal.SIGINT, signal.default_int_handler)
held = [Embedder({MINILM!r})]
print(held[0].backend, held[0].vectors(["a"]).shape)
def let_go():
    held.clear()
    gc.collect()
thread = threading.Thread(target=let_go)
thread.start()
thread.join()
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert (done.returncode, done.stdout.split("\n")[-3:]) == (0, ["openvino (1, 384)", "interrupted", ""])


def test_prompts_pooling_and_layers_of_a_model_are_kept(cache: Path, make_model: MakeModel) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Dense, Pooling

    prompts = {"query": "ask: ", "passage": "read this passage: "}
    folder = make_model(Pooling(32, "cls"), Dense(32, 16), prompts=prompts)
    embedder, model = Embedder(str(folder)), SentenceTransformer(str(folder))
    assert embedder.backend == "openvino"
    assert embedder.dimension == 16
    assert cosines(embedder.vectors(TEXTS), model.encode_document(TEXTS)).min() >= 0.999
    assert cosines(embedder.question(TEXTS[1]), model.encode_query(TEXTS[1])) >= 0.999
    assert cosines(embedder.question(TEXTS[1]), model.encode_document(TEXTS[1])) < 0.999, "the prompts do not differ"


def test_a_model_that_cannot_be_converted_truly_is_left_to_sentence_transformers(
    cache: Path, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling

    # Pooling without the prompt's tokens needs to be told how many they are.
    folder = make_model(Pooling(32, "mean", include_prompt=False), prompts={"query": "one two three four five: "})
    embedder, model = Embedder(str(folder)), SentenceTransformer(str(folder))
    assert embedder.backend == "sentence-transformers"
    assert cosines(embedder.question(TEXTS[1]), model.encode_query(TEXTS[1])) >= 0.999
    monkeypatch.setattr(openvino, "convert", lambda *_: pytest.fail("it is tried again"))
    assert Embedder(str(folder)).backend == "sentence-transformers"


def test_new_weights_in_the_same_folder_give_new_vectors(cache: Path, make_model: MakeModel) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling

    folder = make_model(Pooling(32, "mean"), seed=1)
    old = Embedder(str(folder)).question(TEXTS[1])
    make_model(Pooling(32, "mean"), seed=2)
    new = Embedder(str(folder)).question(TEXTS[1])
    assert new @ old < 0.99
    assert cosines(new, SentenceTransformer(str(folder)).encode(TEXTS[1])) >= 0.999


@pytest.mark.parametrize(
    ("name", "damage"), [("about.json", "cut"), ("model.xml", "gone"), ("model.bin", "cut"), ("tokenizer.json", "cut")]
)
def test_a_damaged_copy_is_made_again(cache: Path, make_model: MakeModel, name: str, damage: str) -> None:
    from sentence_transformers.models import Pooling

    folder = make_model(Pooling(32, "mean"))
    first = Embedder(str(folder)).question(TEXTS[1])
    (copy,) = cache.glob("model-*")
    whole = (copy / name).read_bytes()
    (copy / name).unlink()
    if damage == "cut":
        (copy / name).write_bytes(whole[: len(whole) // 2])
    again = Embedder(str(folder))
    assert again.backend == "openvino"
    assert again.question(TEXTS[1]) @ first == pytest.approx(1, abs=1e-4)
    assert len(list(cache.iterdir())) == 1, "something unfinished was left"


def test_a_cache_that_cannot_be_written_to_leaves_the_model_to_sentence_transformers(
    cache: Path, make_model: MakeModel
) -> None:
    from sentence_transformers.models import Pooling

    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    assert Embedder(str(make_model(Pooling(32, "mean")))).backend == "sentence-transformers"


def check_progress(embedder: Embedder) -> None:
    texts = TEXTS * 4
    told: list[int] = []
    whole = embedder.vectors(texts, told.append)
    assert told == sorted(set(told)) and told[-1] == len(texts)
    assert len(told) > 3, "a person sees nothing for long"

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embedder.vectors(texts, stop)
    assert cosines(embedder.vectors(texts), whole).min() >= 0.9999


def test_progress_is_told_after_each_batch_and_an_interrupt_leaves_the_converted_model_usable(cache: Path) -> None:
    check_progress(Embedder(MINILM))


def test_progress_is_told_after_each_batch_and_an_interrupt_leaves_the_model_usable(without_openvino: None) -> None:
    check_progress(Embedder(MINILM))
