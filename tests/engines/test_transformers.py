"""The transformers engine with the real SmolLM2-135M-Instruct."""

from __future__ import annotations

import gc
import random
import threading
import time
import weakref

import pytest

from llm_magics.engines.base import Scorer
from llm_magics.engines.resolve import Source, resolve
from llm_magics.engines.transformers import TransformersEngine, _decoder, open_model
from llm_magics.errors import (
    ContextLengthError,
    InputError,
    ModelError,
    ModelFileError,
    ModelTooLargeError,
    OutOfMemoryError,
)
from llm_magics.values.asking import GenerationOptions
from llm_magics.values.messages import Message
from llm_magics.values.models import ModelRequest

pytestmark = pytest.mark.model

GREEDY = GenerationOptions(temperature=0.0, repetition_penalty=1.0, max_new_tokens=24)


def text_of(chunks):
    return "".join(chunk.text for chunk in chunks)


def generate(engine, prompt, **options):
    """What the library's own ``generate`` says, without our streaming."""
    import torch

    ids = engine._tokenizer(prompt.text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        out = engine._model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), pad_token_id=2, do_sample=False, **options
        )
    return out[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("question", ["What is Llama 2?", "1 + 1", "Write three words in French, with accents."])
def test_a_greedy_stream_is_what_generate_says_token_for_token(smollm2, question):
    prompt = smollm2.render([Message("user", question)])
    tokens = generate(smollm2, prompt, max_new_tokens=24)
    chunks = list(smollm2.stream(prompt, GREEDY, threading.Event()))
    assert text_of(chunks) == smollm2._tokenizer.decode(tokens, skip_special_tokens=True)
    assert chunks[-1].usage.new_tokens == len(tokens)
    assert chunks[-1].usage.prompt_tokens == prompt.token_count


def test_a_repetition_penalty_changes_the_text_as_in_generate(smollm2):
    prompt = smollm2.render([Message("user", "Say yes ten times.")])
    tokens = generate(smollm2, prompt, max_new_tokens=24, repetition_penalty=1.3)
    options = GenerationOptions(temperature=0.0, repetition_penalty=1.3, max_new_tokens=24)
    chunks = list(smollm2.stream(prompt, options, threading.Event()))
    assert text_of(chunks) == smollm2._tokenizer.decode(tokens, skip_special_tokens=True)


def test_the_answer_comes_in_many_chunks_and_only_the_last_has_a_stop_reason(ask):
    chunks = ask("Tell me about llamas.")
    assert len(chunks) > 10
    assert [chunk.stop_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].stop_reason == "length"
    counts = [chunk.usage.new_tokens for chunk in chunks]
    assert counts == sorted(counts)
    assert counts[-1] == 20


def test_an_answer_that_the_model_ends_says_end(ask):
    chunks = ask("1 + 1", max_new_tokens=100)
    assert text_of(chunks) == "1 + 1 = 2."
    assert chunks[-1].stop_reason == "end"


def test_a_stop_ends_at_the_next_token(smollm2):
    prompt = smollm2.render([Message("user", "Tell me a long story.")])
    stop = threading.Event()
    chunks = []
    for chunk in smollm2.stream(prompt, GenerationOptions(temperature=0.0, max_new_tokens=200), stop):
        chunks.append(chunk)
        if len(chunks) == 5:
            stop.set()
    assert chunks[-1].stop_reason == "stopped"
    assert 5 <= chunks[-1].usage.new_tokens <= 8


def test_a_stop_while_a_long_prompt_is_read_does_not_wait_for_its_end(smollm2):
    prompt = smollm2.render([Message("user", "word " * 4000)])
    stop = threading.Event()
    threading.Timer(1.0, stop.set).start()
    begin = time.perf_counter()
    chunks = list(smollm2.stream(prompt, GREEDY, stop))
    assert time.perf_counter() - begin < 4
    assert (chunks[-1].stop_reason, chunks[-1].usage.new_tokens) == ("stopped", 0)
    assert text_of(list(smollm2.stream(smollm2.render([Message("user", "1 + 1")]), GREEDY, threading.Event())))


def test_a_stop_ends_the_scoring_of_choices(smollm2):
    stop = threading.Event()
    stop.set()
    assert smollm2.score(smollm2.render([Message("user", "Hi")]), ["Yes", "No"], stop) == ()


def test_a_stream_that_is_left_leaves_no_thread(smollm2):
    prompt = smollm2.render([Message("user", "Tell me a long story.")])
    stream = smollm2.stream(prompt, GenerationOptions(temperature=0.0, max_new_tokens=200), threading.Event())
    next(stream)
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "llm_magics generate"]


def test_a_stop_text_is_cut_off_and_ends_the_answer(ask):
    whole = text_of(ask("What is Llama 2?"))
    word = whole.split()[5]
    chunks = ask("What is Llama 2?", stop=(word,))
    assert text_of(chunks) == whole[: whole.index(word)]
    assert chunks[-1].stop_reason == "stop"
    assert chunks[-1].usage.new_tokens < 20


def test_the_same_seed_gives_the_same_text_and_another_seed_another(ask):
    first, again, other = (text_of(ask("Name a colour.", temperature=1.5, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_asking_leaves_the_random_state_of_the_notebook_alone(ask):
    import torch

    torch.manual_seed(7)
    random.seed(7)
    expected, python = torch.rand(1).item(), random.random()
    torch.manual_seed(7)
    random.seed(7)
    ask("Name a colour.", temperature=1.0, seed=3)
    assert (torch.rand(1).item(), random.random()) == (expected, python)


def test_the_times_fit_together(ask):
    usage = ask("Tell me about llamas.")[-1].usage
    assert 0 < usage.seconds_to_first_token < usage.seconds
    assert usage.tokens_per_second == pytest.approx(19 / (usage.seconds - usage.seconds_to_first_token))


def test_a_prompt_that_is_too_long_says_by_how_many_tokens(smollm2):
    prompt = smollm2.render([Message("user", "llama " * 9000)])
    with pytest.raises(ContextLengthError, match=f"{prompt.token_count} tokens, {prompt.token_count - 8191} too many"):
        next(smollm2.stream(prompt, GREEDY, threading.Event()))


def test_the_prompt_has_one_bos_and_the_tokenizers_template(smollm2):
    prompt = smollm2.render([Message("system", "Be brief."), Message("user", "Hi")])
    assert prompt.text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = smollm2._encode(prompt.text)
    assert prompt.token_count == len(ids)
    assert ids[0] == smollm2._tokenizer.bos_token_id
    assert ids[1] != smollm2._tokenizer.bos_token_id


def test_choices_are_scored_by_the_models_own_probabilities(smollm2):
    import torch

    prompt = smollm2.render([Message("user", "Is the sky blue? Answer yes or no.")])
    assert isinstance(smollm2, Scorer)
    scores = smollm2.score(prompt, ["Yes", "No"], threading.Event())
    assert sum(scores) == pytest.approx(1.0)
    totals = []
    for choice in ("Yes", "No"):  # the slow way: one forward pass over everything
        ids = smollm2._encode(prompt.text) + smollm2._encode(choice) + [2]
        with torch.inference_mode():
            logits = torch.log_softmax(smollm2._model(torch.tensor([ids])).logits[0].double(), -1)
        start = prompt.token_count
        totals.append(sum(logits[i - 1, ids[i]].item() for i in range(start, len(ids))))
    assert scores == pytest.approx(torch.softmax(torch.tensor(totals), 0).tolist(), abs=1e-4)


def test_out_of_memory_is_one_line_and_pins_nothing(smollm2, monkeypatch):
    import torch

    pinned = []

    def too_much(**unused):
        tensor = torch.zeros(1000)
        pinned.append(weakref.ref(tensor))
        torch.empty(2**50, dtype=torch.uint8)  # a real allocation, refused by torch itself

    prompt = smollm2.render([Message("user", "Hi")])
    with monkeypatch.context() as patch:
        patch.setattr(smollm2._model, "generate", too_much)
        with pytest.raises(OutOfMemoryError, match="memory ran out") as caught:
            list(smollm2.stream(prompt, GREEDY, threading.Event()))
    gc.collect()
    assert pinned[0]() is None, "the traceback keeps the tensors alive"
    del caught
    assert text_of(list(smollm2.stream(prompt, GREEDY, threading.Event())))


def test_a_bug_in_the_library_keeps_its_own_exception(smollm2, monkeypatch):
    def broken(**unused):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(smollm2._model, "generate", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        list(smollm2.stream(smollm2.render([Message("user", "Hi")]), GREEDY, threading.Event()))


def test_a_base_model_without_a_template_says_what_to_type(smollm2, monkeypatch):
    monkeypatch.setattr(smollm2._tokenizer, "chat_template", None)
    with pytest.raises(ModelError, match="--chat-template guanaco"):
        smollm2.render([Message("user", "Hi")])


def test_a_template_without_a_system_role_gets_it_in_the_first_turn(smollm2, monkeypatch):
    template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    )
    monkeypatch.setattr(smollm2._tokenizer, "chat_template", template)
    assert smollm2.render([Message("system", "Be brief."), Message("user", "Hi")]).text == "[user] Be brief.\n\nHi\n"


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_quantized_weights_take_less_memory_and_answer(smollm2, quantize, recwarn, capfd):
    engine = open_model(resolve("smollm2"), ModelRequest("smollm2", quantize=quantize))
    assert engine.info().quantization == quantize
    # Embeddings, a fifth of this small model, stay in 16 bits.
    assert engine.info().memory < smollm2.info().memory * {"nf4": 0.25, "int8": 0.35}[quantize]
    prompt = engine.render([Message("user", "1 + 1")])
    chunks = list(engine.stream(prompt, GenerationOptions(temperature=0.0, max_new_tokens=8), threading.Event()))
    assert text_of(chunks).strip()
    engine.close()
    assert capfd.readouterr().err == ""


def test_nf4_is_the_load_of_the_qlora_paper():
    engine = open_model(resolve("smollm2"), ModelRequest("smollm2", quantize="nf4"))
    config = engine._model.config.quantization_config
    assert config.load_in_4bit
    assert config.bnb_4bit_quant_type == "nf4"
    assert config.bnb_4bit_use_double_quant
    assert str(config.bnb_4bit_compute_dtype) == "torch.bfloat16"
    assert not engine._model.training
    engine.close()


def test_a_context_of_ones_own_bounds_prompt_and_answer():
    engine = open_model(resolve("smollm2"), ModelRequest("smollm2", context=40))
    prompt = engine.render([Message("user", "Tell me about llamas.")])
    chunks = list(engine.stream(prompt, GenerationOptions(temperature=0.0), threading.Event()))
    assert chunks[-1].usage.prompt_tokens + chunks[-1].usage.new_tokens == 40
    assert chunks[-1].stop_reason == "length"
    with pytest.raises(InputError, match="more than the model's 8192"):
        open_model(resolve("smollm2"), ModelRequest("smollm2", context=10**6))
    engine.close()


def test_a_model_that_cannot_fit_is_refused_with_the_flag_that_would(monkeypatch):
    monkeypatch.setattr("llm_magics.engines.memory.free_bytes", lambda device: 200_000_000)
    with pytest.raises(ModelTooLargeError, match=r"needs 0\.6 GB as float32, and 0\.2 GB are free.*-q int8"):
        open_model(resolve("smollm2"), ModelRequest("smollm2"))


def test_a_corrupt_safetensors_file_is_one_line(tmp_path, smollm2):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 500)
    with pytest.raises(ModelFileError, match=r"model\.safetensors is damaged"):
        open_model(Source("folder", str(tmp_path), "broken"), ModelRequest(str(tmp_path)))


def test_a_folder_with_only_pickled_weights_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(ModelFileError, match="pickles"):
        open_model(Source("folder", str(tmp_path), "old"), ModelRequest(str(tmp_path)))


def test_code_that_comes_with_a_model_does_not_run_unless_asked_for(tmp_path, smollm2):
    import json

    smollm2._model.save_pretrained(tmp_path)
    smollm2._tokenizer.save_pretrained(tmp_path)
    ran = tmp_path / "ran"
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "hostile", "auto_map": {"AutoConfig": "code.Hostile"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "code.py").write_text(f"open({str(ran)!r}, 'w')\n")
    with pytest.raises(ModelFileError, match="--trust-remote-code"):
        open_model(Source("folder", str(tmp_path), "hostile"), ModelRequest(str(tmp_path)))
    assert not ran.exists()


def test_a_tokenizer_in_pure_python_streams_whole_characters():
    from transformers import ByT5Tokenizer

    tokenizer = ByT5Tokenizer()
    text = "Grüße, 世界 🙂!"
    decode = _decoder(tokenizer)
    pieces = [decode(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
    assert "".join(pieces) == text
    assert "\ufffd" not in "".join(pieces)


def test_a_fast_tokenizer_streams_whole_characters(smollm2):
    text = "Grüße, 世界 🙂!"
    decode = _decoder(smollm2._tokenizer)
    pieces = [decode(token) for token in smollm2._encode(text)]
    assert "".join(pieces) == text


def test_the_engine_has_the_shape_of_the_protocol(smollm2):
    assert isinstance(smollm2, TransformersEngine)
    info = smollm2.info()
    assert (info.parameters, info.context, info.device, info.dtype) == (134_515_008, 8192, "cpu", "float32")
