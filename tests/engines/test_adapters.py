"""Adapters on the real SmolLM2: switched in milliseconds, and the base untouched where they are off."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from random_adapter import make_adapter

from llm_magics.engines.adapters import Adapters
from llm_magics.engines.resolve import resolve
from llm_magics.engines.scripted import ScriptedEngine
from llm_magics.engines.transformers import TransformersEngine, open_model
from llm_magics.errors import BusyError, ModelFileError
from llm_magics.values.asking import GenerationOptions
from llm_magics.values.messages import Message
from llm_magics.values.models import ModelRequest

pytest.importorskip("peft", reason="the extra finetune is not installed")
pytestmark = pytest.mark.model

GREEDY = GenerationOptions(temperature=0.0, repetition_penalty=1.0, max_new_tokens=8)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """The base's own logits, and then the base with two adapters."""
    engine = open_model(resolve("smollm2"), ModelRequest("smollm2"))
    folders = [make_adapter(engine._model, tmp_path_factory.mktemp("adapter"), seed) for seed in (1, 2)]
    before = logits(engine)
    adapters = Adapters(engine)
    return adapters, before, adapters.add("one", folders[0]), adapters.add("two", folders[1]), folders


def prompt(engine):
    return engine.render([Message("user", "What is the capital of France?")])


def logits(engine):
    import torch

    with torch.inference_mode():
        return engine._model(torch.tensor([engine._encode(prompt(engine).text)])).logits


def answer(engine):
    return "".join(chunk.text for chunk in engine.stream(prompt(engine), GREEDY, threading.Event()))


def test_the_base_is_bit_identical_where_adapters_are_off(opened):
    adapters, before, one, two, _ = opened
    assert (logits(adapters.base) == before).all()
    plain = answer(adapters.base)
    assert len({answer(one), answer(two), plain}) == 3
    assert answer(adapters.base) == plain
    assert (logits(adapters.base) == before).all()


def test_switching_takes_milliseconds_and_no_second_copy_of_the_weights(opened):
    adapters, _, one, _, _ = opened
    begin = time.process_time()
    for _ in range(10):
        with adapters.switched_to("one"):
            pass
    assert (time.process_time() - begin) / 10 < 0.1
    assert 0 < one.info().memory < 0.05 * adapters.base.info().memory
    assert one._model is adapters.base._model


def test_two_models_of_the_same_weights_never_answer_at_once(opened):
    adapters, before, one, _, _ = opened
    stream = one.stream(prompt(one), GREEDY, threading.Event())
    next(stream)
    with pytest.raises(BusyError, match="shares its weights"):
        answer(adapters.base)
    stream.close()
    assert (logits(adapters.base) == before).all()


def test_what_is_no_adapter_or_one_of_another_base_is_told(opened, tmp_path):
    import json

    adapters, before, _, _, folders = opened
    with pytest.raises(ModelFileError, match="is no adapter"):
        adapters.add("three", str(tmp_path))
    from safetensors.torch import load_file, save_file

    weights = load_file(Path(folders[0]) / "adapter_model.safetensors")
    save_file(
        {name: weight[..., :5].contiguous() for name, weight in weights.items()}, tmp_path / "adapter_model.safetensors"
    )
    config = json.loads((Path(folders[0]) / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelFileError, match="another base"):
        adapters.add("three", str(tmp_path))
    assert (logits(adapters.base) == before).all()


# The first three cannot be keys of a ``ModuleDict``, as PEFT makes them of its adapters' names.
AWKWARD = ("train", "items", "my-lora-v1.0", "my-lora-v1-0", "lora_", "base_model", "q_proj", "of my own")


def test_an_adapter_may_have_any_name(opened):
    adapters, before, one, two, folders = opened
    answers = [answer(one), answer(two)]
    tuned = [adapters.add(name, folders[number % 2]) for number, name in enumerate(AWKWARD)]
    try:
        assert [engine.info().name for engine in tuned] == list(AWKWARD)
        assert [answer(engine) for engine in tuned] == [answers[number % 2] for number in range(len(AWKWARD))]
    finally:
        for engine in tuned:
            engine.close()
    assert [answer(one), answer(two)] == answers
    assert (logits(adapters.base) == before).all()


def test_a_name_that_is_used_again_means_the_new_adapter_or_the_old_where_the_new_cannot_be_opened(opened, tmp_path):
    adapters, before, one, two, folders = opened
    again = adapters.add("again", folders[0])
    assert answer(again) == answer(one)
    again = adapters.add("again", folders[1])
    assert answer(again) == answer(two)
    (tmp_path / "adapter_config.json").write_text((Path(folders[0]) / "adapter_config.json").read_text())
    (tmp_path / "adapter_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelFileError, match="cannot be opened"):
        adapters.add("again", str(tmp_path))
    assert answer(again) == answer(two)
    again.close()
    assert len(adapters._tuned.peft_config) == 2
    assert (logits(adapters.base) == before).all()


def test_a_model_that_is_closed_while_another_answers_is_freed_when_that_has_ended(opened):
    adapters, before, _, _, folders = opened
    whole = answer(adapters.base)
    third = adapters.add("third", folders[0])
    stream = adapters.base.stream(prompt(adapters.base), GREEDY, threading.Event())
    begun = next(stream).text
    third.close()
    assert begun + "".join(chunk.text for chunk in stream) == whole
    assert len(adapters._tuned.peft_config) == 2
    assert (logits(adapters.base) == before).all()


def test_the_weights_are_freed_with_the_last_model(tmp_path):
    engine = open_model(resolve("smollm2"), ModelRequest("smollm2"))
    adapters = Adapters(engine)
    tuned = adapters.add("one", make_adapter(engine._model, tmp_path, 1))
    adapters.base.close()
    assert engine._model is not None
    tuned.close()
    assert engine._model is None


def test_a_first_adapter_of_another_base_leaves_the_base_as_it_was(tmp_path):
    """Some of its matrices fit, and a base that kept them would answer otherwise without a word."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    def tiny(inner):
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
        return LlamaForCausalLM(LlamaConfig(vocab_size=64, intermediate_size=inner, **sizes)).eval()

    config = LoraConfig(target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(tiny(48), config).save_pretrained(tmp_path / "adapter")
    model = tiny(32)
    ids = torch.arange(8)[None]
    before = model(ids).logits
    engine = TransformersEngine(model, None, ScriptedEngine(["x"]).info())
    with pytest.raises(ModelFileError, match="trained on another base"):
        Adapters(engine).add("wrong", str(tmp_path / "adapter"))
    assert torch.equal(model(ids).logits, before)
