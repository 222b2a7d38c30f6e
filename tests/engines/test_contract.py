"""What every engine holds, whatever runs the model: a notebook's cells do not change with it."""

from __future__ import annotations

import threading
import time

import pytest

from llm_magics.engines.base import Scorer
from llm_magics.engines.scripted import ScriptedEngine
from llm_magics.errors import ContextLengthError, ModelError
from llm_magics.prompts.templates import NAMES, chat_template
from llm_magics.values.asking import GenerationOptions
from llm_magics.values.messages import Message, Prompt

pytestmark = pytest.mark.model

GREEDY = GenerationOptions(temperature=0.0, repetition_penalty=1.0, max_new_tokens=20)
STORY = [Message("user", "Tell me a long story about a llama.")]
CONVERSATION = [
    Message("system", "Be brief."),
    Message("user", "Say <|im_end|> and {{ 1 + 1 }}.\n"),
    Message("assistant", "  Grüße, 世界 🙂  "),
    Message("user", "Again"),
]


FIXTURES = {
    "transformers": "smollm2",
    "llamacpp": "smollm2_in_llamacpp",
    "llama.cpp server": "smollm2_on_llamacpp_server",
    "transformers serve": "smollm2_on_transformers_serve",
}
LOCAL = ["transformers", "llamacpp"]
KNOWS_THE_PROMPT = [*LOCAL, "llama.cpp server"]  # transformers serve tells neither the exact text nor its length


@pytest.fixture(params=FIXTURES)
def model(request):
    """An engine with the real SmolLM2."""
    return request.getfixturevalue(FIXTURES[request.param])


@pytest.fixture(params=LOCAL)
def local_model(request):
    """One without a server."""
    return request.getfixturevalue(FIXTURES[request.param])


@pytest.fixture(params=KNOWS_THE_PROMPT)
def exact_model(request):
    """One that knows the exact prompt and the probability of a token."""
    return request.getfixturevalue(FIXTURES[request.param])


@pytest.fixture(params=[*FIXTURES, "scripted"])
def engine(request):
    """Any engine."""
    if request.param == "scripted":
        return ScriptedEngine(lambda messages: "A llama is an animal that lives in the mountains. " * 20)
    return request.getfixturevalue(FIXTURES[request.param])


@pytest.fixture(params=[*KNOWS_THE_PROMPT, "scripted"])
def exact_engine(request):
    """Any engine that knows the exact prompt."""
    if request.param == "scripted":
        return ScriptedEngine(lambda messages: "A llama is an animal that lives in the mountains. " * 20)
    return request.getfixturevalue(FIXTURES[request.param])


def run(engine, messages, *, stop=None, stop_texts=(), **options):
    """The chunks of one answer; greedy, of 20 tokens, unless asked for otherwise."""
    values = {"temperature": 0.0, "repetition_penalty": 1.0, "max_new_tokens": 20, "stop": stop_texts, **options}
    return list(engine.stream(engine.render(messages), GenerationOptions(**values), stop or threading.Event()))


def text_of(chunks):
    return "".join(chunk.text for chunk in chunks)


def tokenizer_of(smollm2, template=""):
    import copy

    tokenizer = copy.deepcopy(smollm2._tokenizer)
    if template:
        tokenizer.chat_template = template
    return tokenizer


def test_the_answer_comes_in_many_chunks_and_only_the_last_has_a_stop_reason(engine):
    chunks = run(engine, STORY)
    assert len(chunks) > 10
    assert [chunk.stop_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].stop_reason == "length"
    counts = [chunk.usage.new_tokens for chunk in chunks]
    assert counts == sorted(counts)
    assert counts[-1] == 20
    assert {chunk.part for chunk in chunks} == {"answer"}


def test_the_usage_has_the_prompts_length_and_times_that_fit_together(exact_engine):
    prompt = exact_engine.render(STORY)
    usages = [chunk.usage for chunk in run(exact_engine, STORY)]
    assert {usage.prompt_tokens for usage in usages} == {prompt.token_count}
    assert 0 < usages[-1].seconds_to_first_token <= usages[-1].seconds
    assert [usage.seconds for usage in usages] == sorted(usage.seconds for usage in usages)
    assert 0 <= usages[-1].cached_tokens < prompt.token_count


@pytest.mark.parametrize("limit", [1, 2])
def test_a_limit_of_one_or_two_tokens_is_held(engine, limit):
    last = run(engine, STORY, max_new_tokens=limit)[-1]
    assert (last.stop_reason, last.usage.new_tokens) == ("length", limit)


def test_an_answer_that_the_model_ends_says_end(engine):
    chunks = run(engine, [Message("user", "1 + 1")], max_new_tokens=400)
    assert chunks[-1].stop_reason == "end"
    assert text_of(chunks).strip()
    assert "<|" not in text_of(chunks)


def test_a_stop_ends_at_the_next_token(engine):
    stop = threading.Event()
    chunks = []
    for chunk in engine.stream(engine.render(STORY), GenerationOptions(temperature=0.0, max_new_tokens=150), stop):
        chunks.append(chunk)
        if len(chunks) == 5:
            stop.set()
    assert chunks[-1].stop_reason == "stopped"
    assert 5 <= chunks[-1].usage.new_tokens <= 7


def test_a_stop_that_was_there_before_gives_one_empty_chunk(engine):
    stop = threading.Event()
    stop.set()
    chunks = run(engine, STORY, stop=stop)
    assert (text_of(chunks), chunks[-1].stop_reason) == ("", "stopped")


def test_a_stop_while_a_long_prompt_is_read_does_not_wait_for_its_end(exact_model):
    """transformers serve lets us go as well, and itself reads on for three minutes."""
    model = exact_model
    stop = threading.Event()
    prompt = model.render([Message("user", "word " * 6000)])
    threading.Timer(0.5, stop.set).start()
    begin = time.process_time()
    chunks = list(model.stream(prompt, GREEDY, stop))
    assert time.process_time() - begin < 8  # the whole takes more than 20 seconds
    assert (chunks[-1].stop_reason, chunks[-1].usage.new_tokens) == ("stopped", 0)
    assert text_of(run(model, [Message("user", "1 + 1")], max_new_tokens=8)).strip()


def test_the_answer_after_a_stopped_one_is_the_same_as_without_it(model):
    expected = text_of(run(model, [Message("user", "1 + 1")], max_new_tokens=8))
    stop = threading.Event()
    for chunk in model.stream(model.render(STORY), GREEDY, stop):
        if chunk.text:
            stop.set()
    assert text_of(run(model, [Message("user", "1 + 1")], max_new_tokens=8)) == expected


def test_a_stream_that_is_left_soon_leaves_no_thread(model):
    before = {thread.name for thread in threading.enumerate() if thread.name.startswith("llm_magics")}
    stream = model.stream(
        model.render(STORY), GenerationOptions(temperature=0.0, max_new_tokens=200), threading.Event()
    )
    next(stream)
    stream.close()
    deadline = time.monotonic() + 5
    while {t.name for t in threading.enumerate() if t.name.startswith("llm_magics")} - before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_stop_text_is_cut_off_and_ends_the_answer(engine):
    whole = text_of(run(engine, STORY))
    word = whole.split()[5]
    chunks = run(engine, STORY, stop_texts=(word,))
    assert text_of(chunks) == whole[: whole.index(word)]
    assert chunks[-1].stop_reason == "stop"
    assert chunks[-1].usage.new_tokens < 20
    assert text_of(run(engine, STORY, stop_texts=("never written",))) == whole


def test_the_same_seed_gives_the_same_text_and_another_seed_another(model):
    question = [Message("user", "Name a colour.")]
    run(model, question)  # what is remembered of the prompt is the same for all three
    first, again, other = (text_of(run(model, question, temperature=1.5, seed=seed)) for seed in (1, 1, 2**40))
    assert first == again
    assert first != other


def test_without_a_seed_two_samples_differ(model):
    question = [Message("user", "Name a colour.")]
    assert len({text_of(run(model, question, temperature=2.0)) for _ in range(3)}) > 1


def test_a_tiny_top_p_is_greedy(model):
    assert text_of(run(model, STORY, temperature=1.0, top_p=1e-6)) == text_of(run(model, STORY))


def test_a_repetition_penalty_reaches_the_whole_prompt(local_model):
    """The word that comes next stands in the prompt once, before llama.cpp's usual window of 64 tokens."""
    filler = "The sun rose over the hills and the birds began to sing in the old trees near the river. " * 5
    text = f"Her favourite animal is the zebra. {filler}Her favourite animal is the"
    prompt = Prompt((), text, 0)

    def next_word(penalty):
        options = GenerationOptions(temperature=0.0, repetition_penalty=penalty, max_new_tokens=1)
        return text_of(local_model.stream(prompt, options, threading.Event()))

    assert next_word(1.0) == " zebra"
    assert next_word(3.0) != " zebra"


def test_characters_of_several_tokens_come_whole(model):
    chunks = run(model, [Message("user", "Repeat exactly: 🦙🦙🦙 世界 Grüße 🦙🦙🦙")], max_new_tokens=30)
    assert not any("\ufffd" in chunk.text for chunk in chunks)
    assert any(ord(character) > 0x2000 for character in text_of(chunks))


def test_a_prompt_that_is_too_long_says_by_how_many_tokens(engine):
    prompt = engine.render([Message("user", "llama " * 9000)])
    over = prompt.token_count - engine.info().context + 1
    with pytest.raises(ContextLengthError, match=f"{prompt.token_count} tokens, {over} too many") as caught:
        next(engine.stream(prompt, GREEDY, threading.Event()))
    assert "--no-history" in caught.value.hint


def test_the_prompt_is_the_tokenizers_own_to_the_last_token(exact_model, smollm2):
    tokenizer = tokenizer_of(smollm2)
    for messages in (CONVERSATION, CONVERSATION[1:], CONVERSATION[:2]):
        turns = [message.as_dict() for message in messages]
        prompt = exact_model.render(messages)
        assert prompt.exact
        assert prompt.messages == tuple(messages)
        assert prompt.text == tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(prompt.text, add_special_tokens=False)["input_ids"]
        assert prompt.token_count == len(ids)
        assert ids[:2] != [tokenizer.bos_token_id] * 2


@pytest.mark.parametrize("name", NAMES)
def test_a_named_chat_template_gives_the_tokenizers_text(name, smollm2, smollm2_in_llamacpp):
    from llm_magics.engines.llamacpp import LlamaCppEngine

    other = smollm2_in_llamacpp
    engine = LlamaCppEngine(other._server, other._header, other.info(), chat_template(name))
    tokenizer = tokenizer_of(smollm2, chat_template(name))
    turns = [message.as_dict() for message in CONVERSATION]
    expected = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert engine.render(CONVERSATION).text == expected


def test_choices_get_probabilities_that_sum_to_one(exact_model):
    model = exact_model
    assert isinstance(model, Scorer)
    prompt = model.render([Message("user", "Is the sky blue? Answer yes or no.")])
    scores = model.score(prompt, ["Yes", "No", "Yes, it is"], threading.Event())
    assert sum(scores) == pytest.approx(1.0)
    assert scores == pytest.approx(model.score(prompt, ["Yes", "No", "Yes, it is"], threading.Event()), abs=0.02)
    turned = model.score(prompt, ["No", "Yes, it is", "Yes"], threading.Event())
    assert turned == pytest.approx((scores[1], scores[2], scores[0]), abs=0.02)


def test_both_engines_weigh_choices_alike(smollm2, smollm2_in_llamacpp):
    choices = ["Yes", "No", "Maybe", "Yes, it is blue"]
    for question in ("Is the sky blue? Answer yes or no.", "Is 2 larger than 3? Yes or no?"):
        prompt = smollm2.render([Message("user", question)])
        both = [engine.score(prompt, choices, threading.Event()) for engine in (smollm2, smollm2_in_llamacpp)]
        assert both[1] == pytest.approx(both[0], abs=0.1)  # 8 bits against 32


def test_a_stop_ends_the_weighing_of_choices(exact_model):
    stop = threading.Event()
    stop.set()
    assert exact_model.score(exact_model.render([Message("user", "Hi")]), ["Yes", "No"], stop) == ()


def test_a_choice_that_leaves_no_room_is_refused(exact_model):
    model = exact_model
    prompt = model.render([Message("user", "word " * (model.info().context - 60))])
    with pytest.raises(ContextLengthError):
        model.score(prompt, ["llama " * 100, "No"], threading.Event())


def test_a_template_that_refuses_the_conversation_is_one_line(smollm2, smollm2_in_llamacpp, monkeypatch):
    from llm_magics.engines.llamacpp import LlamaCppEngine

    template = "{{ raise_exception('roles must alternate') }}"
    other = smollm2_in_llamacpp
    monkeypatch.setattr(smollm2._tokenizer, "chat_template", template)
    for engine in (smollm2, LlamaCppEngine(other._server, other._header, other.info(), template)):
        with pytest.raises(ModelError, match="roles must alternate"):
            engine.render([Message("user", "Hi")])


def test_the_figures_are_the_same_model(smollm2, smollm2_in_llamacpp):
    ours, theirs = smollm2_in_llamacpp.info(), smollm2.info()
    assert (ours.parameters, ours.context, ours.device, ours.name) == (
        theirs.parameters,
        theirs.context,
        theirs.device,
        theirs.name,
    )
    assert ours.memory < 0.4 * theirs.memory
