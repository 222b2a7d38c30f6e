"""What was read before is not read again, and no answer is another for it. With SmolLM2 where a person sees it."""

from __future__ import annotations

import contextlib
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_adapter import make_adapter

from llm_magics.engines.adapters import Adapters
from llm_magics.engines.base import PrefixKeeper
from llm_magics.engines.resolve import resolve
from llm_magics.engines.transformers import TransformersEngine, open_model
from llm_magics.errors import OutOfMemoryError
from llm_magics.values.asking import AskRequest, GenerationOptions
from llm_magics.values.messages import Message, Prompt
from llm_magics.values.models import ModelInfo, ModelRequest

pytestmark = pytest.mark.model

REVIEWS = (
    "The soup was a joy. => positive\nThe staff was rude. => negative\nWe sat by the door. => neutral\n"
    "I would come again any day. => positive\nIt was cold and slow. => negative\nThey open at ten. => neutral\n"
)
DISHES = ("soup", "bread", "fish", "tea", "cake", "service", "music", "bill", "garden")
NOTES = (
    "Notes of the keeper. The lamp was lit at six. The ship Aurora passed at nine with red sails. At midnight a storm "
    "broke the window of the tower, and the keeper mended it with a blanket. The gulls came back in the morning.\n\n"
)
QUESTIONS = ("Which ship passed?", "When was the lamp lit?", "What broke?", "Who came back?", "What is the title?")
HELLO = Message("user", "Name three animals of the high mountains and say what they eat, please.")


def run(engine, asked, *, penalty=1.0, tokens=6, stop=None):
    """The text of a greedy answer, and its last chunk."""
    prompt = asked if isinstance(asked, Prompt) else engine.render(asked)
    options = GenerationOptions(temperature=0.0, repetition_penalty=penalty, max_new_tokens=tokens)
    chunks = list(engine.stream(prompt, options, stop or threading.Event()))
    return "".join(chunk.text for chunk in chunks), chunks[-1]


def cold(engine, asked, **options):
    """The same with nothing known."""
    engine._prefixes.clear()
    text, last = run(engine, asked, **options)
    assert last.usage.cached_tokens == 0
    return text


@contextlib.contextmanager
def tokens_read(engine):
    """How many tokens the model reads or writes."""
    counts = []
    hook = engine._model.get_input_embeddings().register_forward_pre_hook(
        lambda module, inputs: counts.append(inputs[0].numel())
    )
    yield counts
    hook.remove()


@pytest.fixture
def fresh(smollm2):
    """SmolLM2 that has read nothing."""
    smollm2._prefixes.clear()
    yield smollm2
    smollm2._prefixes.clear()


@pytest.mark.parametrize("penalty", [1.0, 1.1])
def test_greedy_answers_are_the_same_with_and_without_what_was_read_before(fresh, penalty):
    asked = [[Message("user", f"Classify each review.\n{REVIEWS}The {dish} was fine. =>")] for dish in DISHES]
    asked += [[Message("user", NOTES + question)] for question in QUESTIONS]
    asked += [[Message("system", "Be brief."), Message("user", NOTES + question)] for question in QUESTIONS[:2]]
    known = [run(fresh, messages, penalty=penalty) for messages in asked]
    assert sum(last.usage.cached_tokens > 50 for _, last in known) >= len(asked) - 3
    assert [text for text, _ in known] == [cold(fresh, messages, penalty=penalty) for messages in asked]


def test_the_second_turn_of_a_chat_reads_only_what_is_new(fresh):
    answer, first = run(fresh, [HELLO], penalty=1.1, tokens=12)
    talk = [HELLO, Message("assistant", answer), Message("user", "And where do they sleep?")]
    text, last = run(fresh, talk, penalty=1.1)
    assert last.usage.cached_tokens >= first.usage.prompt_tokens + 9
    assert text == cold(fresh, talk, penalty=1.1)


def test_the_same_question_again_reads_one_token(fresh):
    text, _ = run(fresh, [HELLO])
    with tokens_read(fresh) as counts:
        again, last = run(fresh, [HELLO])
    assert (again, last.usage.cached_tokens) == (text, last.usage.prompt_tokens - 1)
    assert set(counts) == {1}


def test_a_penalty_sees_the_tokens_that_were_known(fresh):
    """The word that comes next stands in the part of the prompt that is not read again."""
    filler = "The sun rose over the hills and the birds began to sing in the old trees near the river. " * 2
    prompt = Prompt((), f"Her favourite animal is the zebra. {filler}Her favourite animal is the", 0)
    assert run(fresh, prompt, tokens=1)[0] == " zebra"
    text, last = run(fresh, prompt, penalty=3.0, tokens=1)
    assert last.usage.cached_tokens > 40
    assert text != " zebra"


def test_an_answer_that_was_stopped_is_kept_as_far_as_it_came(fresh):
    stop = threading.Event()
    options = GenerationOptions(temperature=0.0, max_new_tokens=100)
    chunks = []
    for chunk in fresh.stream(fresh.render([HELLO]), options, stop):
        chunks.append(chunk)
        if len(chunks) == 4:
            stop.set()
    text, last = run(fresh, [HELLO], penalty=1.1)
    assert chunks[-1].stop_reason == "stopped"
    assert last.usage.cached_tokens == last.usage.prompt_tokens - 1
    assert text == cold(fresh, [HELLO], penalty=1.1)


@pytest.mark.parametrize("layers", [0, 7])
def test_a_stop_between_two_layers_leaves_what_all_of_them_have(fresh, layers):
    """The new part of a prompt is broken off after some layers: the rest of the cache is as it was."""
    longer = [Message("user", HELLO.content + " Begin with the largest one of them.")]
    run(fresh, [HELLO], tokens=1)
    stop = threading.Event()
    layer = fresh._model.model.layers[layers]
    hook = layer.register_forward_hook(lambda *unused: stop.set())
    assert run(fresh, longer, stop=stop)[1].stop_reason == "stopped"
    hook.remove()
    text, last = run(fresh, longer)
    assert 20 < last.usage.cached_tokens < last.usage.prompt_tokens - 5
    assert text == cold(fresh, longer)


COPIED = (
    "The Aurora sails on Monday with salt, on Tuesday with wool and on Wednesday with coal from the northern mines.",
    "The library lends books for three weeks, films for one week and the keys of its reading rooms for one day only.",
    "Set the lamp to six volts, wait until the red light is out, and turn the outer ring until the beam is narrow.",
)


@pytest.mark.parametrize("fact", COPIED)
def test_an_answer_that_copies_takes_fewer_steps_and_is_the_same(fresh, monkeypatch, fact):
    passages = "\n".join(f"[{number}] {text}" for number, text in enumerate([*COPIED, *COPIED[:2], NOTES * 2]))
    asked = [Message("user", f"{passages}\n\nRepeat this sentence word by word: {fact}")]
    with tokens_read(fresh) as steps:
        text, last = run(fresh, asked, tokens=24)
    assert last.usage.prompt_tokens > 200
    assert len(steps) < 0.6 * last.usage.new_tokens
    again, warm = run(fresh, asked, tokens=24)
    assert (again, warm.usage.cached_tokens) == (text, warm.usage.prompt_tokens - 1)
    monkeypatch.setattr("llm_magics.engines.transformers._LOOKUP_FROM", 10**6)
    with tokens_read(fresh) as steps:
        assert cold(fresh, asked, tokens=24) == text
    assert len(steps) == last.usage.new_tokens


def test_two_conversations_that_take_turns_are_both_kept(fresh):
    shots = [Message("user", f"Classify each review.\n{REVIEWS}The soup was fine. =>")]
    notes = [Message("user", NOTES + QUESTIONS[0])]
    for _ in range(2):
        lasts = [run(fresh, messages)[1].usage for messages in (shots, notes)]
    assert all(usage.cached_tokens == usage.prompt_tokens - 1 for usage in lasts)


def test_choices_are_weighed_on_a_prompt_that_is_read_once(fresh):
    prompt = fresh.render([Message("user", f"Classify each review.\n{REVIEWS}The bread was dry. =>")])
    other = fresh.render([Message("user", f"Classify each review.\n{REVIEWS}The view was wide. =>")])
    choices = ["positive", "negative", "neutral"]
    with tokens_read(fresh) as counts:
        scores = fresh.score(prompt, choices, threading.Event())
    assert sum(counts) < prompt.token_count + 10
    fresh._prefixes._usable = False
    try:
        plain = [fresh.score(asked, choices, threading.Event()) for asked in (prompt, other)]
    finally:
        fresh._prefixes._usable = True
    assert scores == pytest.approx(plain[0], abs=1e-4)
    with tokens_read(fresh) as counts:
        assert fresh.score(other, choices, threading.Event()) == pytest.approx(plain[1], abs=1e-4)
    assert sum(counts) < 25
    assert run(fresh, other)[1].usage.cached_tokens == other.token_count - 1


def test_memory_is_bounded_shown_and_given_back(fresh):
    assert isinstance(fresh, PrefixKeeper)
    assert fresh.cached_bytes() == 0
    _, last = run(fresh, [HELLO])
    one = fresh.cached_bytes()
    tokens = last.usage.prompt_tokens + last.usage.new_tokens - 1
    assert one == tokens * 2 * 30 * 3 * 64 * 4  # keys and values, layers, heads, numbers of 4 bytes
    try:
        fresh.limit_cache(one)
        run(fresh, [Message("user", NOTES + QUESTIONS[0])])
        assert 0.9 * one < fresh.cached_bytes() <= one, "of a longer conversation, the beginning is kept"
        usage = run(fresh, [Message("user", NOTES + QUESTIONS[1])])[1].usage
        assert 0.9 * tokens < usage.cached_tokens <= tokens
        fresh.limit_cache(0)
        assert fresh.cached_bytes() == 0
        assert run(fresh, [HELLO])[1].usage.cached_tokens == 0
        assert run(fresh, [HELLO])[1].usage.cached_tokens == 0
    finally:
        fresh.limit_cache(2**30)


def test_a_machine_whose_memory_is_short_keeps_less(fresh, monkeypatch):
    monkeypatch.setattr("llm_magics.engines.prefix_cache.free_bytes", lambda device: 1000)
    run(fresh, [HELLO])
    assert fresh.cached_bytes() == 0


@pytest.mark.parametrize("after", [0, 3])
def test_where_memory_runs_out_the_answer_is_tried_once_more_without_the_cache(fresh, monkeypatch, after):
    expected, _ = run(fresh, [HELLO], tokens=8)
    run(fresh, [Message("user", NOTES + QUESTIONS[0])])
    generate, known = fresh._model.generate, []

    def full(*, streamer, past_key_values, **options):
        known.append(past_key_values.get_seq_length())
        put, left = streamer.put, [after + 1]

        def put_some(value):
            if len(known) == 1 and not left[0]:
                raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
            left[0] -= 1
            put(value)

        streamer.put = put_some
        generate(streamer=streamer, past_key_values=past_key_values, **options)

    monkeypatch.setattr(fresh._model, "generate", full)
    text, last = run(fresh, [HELLO], tokens=8)
    assert text == expected, "no token twice, none left out"
    assert len(known) == 2 and known[0] > 0 and known[1] == 0
    assert last.usage.cached_tokens == 0


def test_where_memory_runs_out_twice_it_is_told(fresh, monkeypatch):
    run(fresh, [HELLO])
    tries = []

    def full(**unused):
        tries.append(1)
        raise RuntimeError("not enough memory: you tried to allocate")

    with monkeypatch.context() as patch:
        patch.setattr(fresh._model, "generate", full)
        with pytest.raises(OutOfMemoryError):
            run(fresh, [HELLO])
    assert len(tries) == 2
    assert run(fresh, [HELLO])[0]


def test_an_adapter_and_its_base_never_share_what_they_read(tmp_path):
    pytest.importorskip("peft", reason="the extra finetune is not installed")
    engine = open_model(resolve("smollm2"), ModelRequest("smollm2", engine="transformers"))
    folders = [make_adapter(engine._model, tmp_path / str(seed), seed) for seed in (1, 2)]
    plain = cold(engine, [HELLO])
    adapters = Adapters(engine)
    tuned = adapters.add("tuned", folders[0])
    own, last = run(tuned, [HELLO])
    assert (own == plain, last.usage.cached_tokens) == (False, 0)
    text, last = run(adapters.base, [HELLO])
    assert (text, last.usage.cached_tokens) == (plain, last.usage.prompt_tokens - 1), "the base knows what it has read"
    assert run(tuned, [HELLO])[0] == own
    before = adapters.base.cached_bytes()
    assert tuned.cached_bytes() > 0
    replaced = adapters.add("tuned", folders[1])
    text, last = run(replaced, [HELLO])
    assert last.usage.cached_tokens == 0, "another adapter of that name has read nothing"
    assert text == cold(replaced, [HELLO]) != own
    run(adapters.base, [HELLO])
    replaced.close()
    assert (replaced.cached_bytes(), adapters.base.cached_bytes()) == (0, before)
    adapters.base.close()
    assert not engine._prefixes._kept


# Small models with random weights: every kind of memory that a model can have, and many ways to ask


def tiny(kind, tokenizer, **config):
    """An engine with a model of two layers."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {
        "intermediate_size": 48,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    values = {name: value for name, value in {**sizes, **config}.items() if value is not None}
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **values)).eval()
    info = ModelInfo(kind, "", "transformers", "cpu", "float32", "none", 0, 0, 4096, 0.0)
    return TransformersEngine(model, tokenizer, info)


@pytest.mark.parametrize(
    ("kind", "config", "reused"),
    [
        ("llama", {}, True),
        ("qwen2", {}, True),
        ("qwen3", {}, True),
        ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4}, True),
        ("gpt_neox", {}, True),
        ("phi", {}, True),
        ("falcon", {"head_dim": None}, True),
        ("bloom", {}, True),
        ("opt", {"word_embed_proj_dim": 32, "ffn_dim": 48}, True),
        ("mistral", {"sliding_window": 24}, False),
        ("gemma2", {"sliding_window": 24}, False),
        ("gemma3_text", {"sliding_window": 24}, False),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0},
                   "max_position_embeddings": 40}, False),
        ("mamba", {}, False),
        ("qwen3_next", {"num_hidden_layers": 4, "num_experts": 4, "num_experts_per_tok": 2}, False),
        ("rwkv", {"attention_hidden_size": 32}, False),
    ],
)  # fmt: skip
def test_a_model_whose_memory_cannot_be_cut_reads_everything_and_says_the_same(smollm2, kind, config, reused):
    engine = tiny(kind, smollm2._tokenizer, **config)
    prompts = [Prompt((), NOTES + question, 0) for question in QUESTIONS[:3]]
    known = [run(engine, prompt, tokens=10) for prompt in [*prompts, prompts[0]]]
    assert [bool(last.usage.cached_tokens) for _, last in known] == [False, *[reused] * 3]
    assert [text for text, _ in known] == [cold(engine, prompt, tokens=10) for prompt in [*prompts, prompts[0]]]
    choices = ["sails", "gulls at night"]
    scores = [engine.score(prompt, choices, threading.Event()) for prompt in prompts]
    engine._prefixes._usable = False
    plain = [engine.score(prompt, choices, threading.Event()) for prompt in prompts]
    assert scores == [pytest.approx(score, abs=1e-5) for score in plain]


WORDS = st.sampled_from(["lamp", "ship", "storm", "gull", "keeper"])
ASKED = st.tuples(
    st.sampled_from(["", NOTES[:60], NOTES, NOTES + REVIEWS]),
    st.lists(WORDS, min_size=1, max_size=12),
    st.sampled_from([1.0, 1.3]),  # repetition penalty
    st.sampled_from([None, 0, 1, 4]),  # tokens after which it is stopped
    st.sampled_from(["", "tuned"]),  # who answers
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ASKED, min_size=2, max_size=6), st.sampled_from([2**30, 40_000]))
def test_whatever_was_asked_and_stopped_before_the_answer_is_the_same(pair, asked, limit):
    """Long prompts without a penalty are answered with prompt lookup in one of the two."""
    shared, plain = pair
    for engine in shared.values():
        engine._prefixes.clear()
        engine.limit_cache(limit)
    for beginning, words, penalty, stopped, who in asked:
        prompt = Prompt((), beginning + " ".join(words), 0)
        stop, options = threading.Event(), GenerationOptions(0.0, repetition_penalty=penalty, max_new_tokens=6)
        if stopped is not None:
            for number, _ in enumerate(shared[who].stream(prompt, options, stop)):
                if number >= stopped:
                    stop.set()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("llm_magics.engines.transformers._LOOKUP_FROM", 60)
            known, _ = run(shared[who], prompt, penalty=penalty)
        assert known == cold(plain[who], prompt, penalty=penalty)
        assert sum(engine.cached_bytes() for engine in shared.values()) <= limit


@pytest.fixture(scope="module")
def pair(smollm2, tmp_path_factory):
    """A small model with an adapter, twice: one goes on with what it has read, the other begins anew each time."""
    pytest.importorskip("peft", reason="the extra finetune is not installed")
    folder = str(tmp_path_factory.mktemp("adapter"))
    engines = []
    for _ in range(2):
        engine = tiny("llama", smollm2._tokenizer)
        make_adapter(engine._model, folder, 3)
        adapters = Adapters(engine)
        engines.append({"": adapters.base, "tuned": adapters.add("tuned", folder)})
    return engines


def test_the_figures_of_a_model_say_what_is_kept(fresh):
    from llm_magics import Session

    session = Session(say=lambda line: None)
    session.add("small", fresh)
    assert session.models[0].cached == 0
    for _ in session.ask("Tell me about llamas.", AskRequest(max_new_tokens=3)):
        pass
    assert session.models[0].cached > 10**6
    session.settings.prefix_cache_bytes = 0
    assert session.models[0].cached == 0
    fresh.limit_cache(2**30)
