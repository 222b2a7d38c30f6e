"""Several prompts at once: the same answers as one by one, on every engine."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from llm_magics.engines.adapters import Adapters
from llm_magics.engines.llamacpp_batch import stream_batch
from llm_magics.engines.scripted import ScriptedEngine
from llm_magics.engines.transformers import TransformersEngine
from llm_magics.engines.transformers_batch import common_prefix
from llm_magics.errors import ContextLengthError, ModelError, OutOfMemoryError
from llm_magics.values.answers import Chunk, Usage
from llm_magics.values.asking import GenerationOptions
from llm_magics.values.messages import Message, Prompt

GREEDY = {"temperature": 0.0, "repetition_penalty": 1.0, "max_new_tokens": 12}
TOPICS = ["a llama", "the sea near a small town", "rain", "an old lighthouse keeper and his many ships", "tea"]
SHOTS = [
    Message("user", "Classify the text: I loved it."),
    Message("assistant", "positive"),
    Message("user", "Classify the text: The waiter ignored us for an hour."),
    Message("assistant", "negative"),
]
LABELS = ("negative", "positive", "neutral and more")


@pytest.fixture(params=["smollm2", "smollm2_in_llamacpp"])
def engine(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def prompts_of(engine: Any, *, shots: bool = False) -> list[Prompt]:
    before = SHOTS if shots else []
    begin = "Classify the text: " if shots else "Say something about "
    return [engine.render([*before, Message("user", f"{begin}{topic}.")]) for topic in TOPICS]


def one_by_one(engine: Any, prompts: list[Prompt], **options: Any) -> list[str]:
    wanted = GenerationOptions(**{**GREEDY, **options})
    return ["".join(c.text for c in engine.stream(prompt, wanted, threading.Event())) for prompt in prompts]


def together(engine: Any, prompts: list[Prompt], **options: Any) -> dict[int, Any]:
    return dict(engine.stream_batch(prompts, GenerationOptions(**{**GREEDY, **options}), threading.Event()))


@pytest.mark.model
@pytest.mark.parametrize("options", [{}, {"repetition_penalty": 1.2}, {"stop": (" the",)}])
@pytest.mark.parametrize("shots", [True, False])
def test_a_batch_gives_the_texts_of_one_by_one(engine: Any, shots: bool, options: dict[str, Any]) -> None:
    prompts = prompts_of(engine, shots=shots)
    alone, found = one_by_one(engine, prompts, **options), together(engine, prompts, **options)
    same = sum(found[number].text == text for number, text in enumerate(alone))
    # llama.cpp's quantized products come in another order in a batch: docs/decisions.md, "Batches over a table".
    least = len(alone) - (1 if isinstance(engine, TransformersEngine) else 2)
    assert same >= least, [(text, found[number].text) for number, text in enumerate(alone)]


@pytest.mark.model
def test_each_answer_tells_what_it_cost_and_why_it_ended(engine: Any) -> None:
    prompts = prompts_of(engine, shots=True)
    found = together(engine, prompts)
    assert sorted(found) == list(range(len(prompts)))
    for number, chunk in found.items():
        assert chunk.usage.prompt_tokens == prompts[number].token_count
        assert chunk.stop_reason in ("end", "length")
        assert (chunk.usage.new_tokens == 12) == (chunk.stop_reason == "length")
        assert 0 < chunk.usage.seconds_to_first_token <= chunk.usage.seconds
    assert max(chunk.usage.cached_tokens for chunk in found.values()) > 30, "the shots are read again"


@pytest.mark.model
def test_a_prompt_that_is_too_long_is_an_error_of_its_own(engine: Any) -> None:
    prompts = prompts_of(engine)
    prompts.insert(1, engine.render([Message("user", "word " * 9000)]))
    found = together(engine, prompts, max_new_tokens=2)
    assert isinstance(found[1], ContextLengthError)
    assert sum(isinstance(chunk, Chunk) for chunk in found.values()) == len(TOPICS)


@pytest.mark.model
def test_a_stop_ends_a_batch_within_a_token_and_the_next_one_is_whole(engine: Any) -> None:
    prompts = prompts_of(engine)
    stop = threading.Event()
    timer = threading.Timer(0.5, stop.set)
    timer.start()
    options = GenerationOptions(temperature=0.0, max_new_tokens=2000)
    found = dict(engine.stream_batch(prompts * 2, options, stop))
    late = time.perf_counter()
    timer.join()
    assert len(found) < 2 * len(prompts)
    assert all(chunk.stop_reason in ("end", "stop") for chunk in found.values())
    assert one_by_one(engine, prompts[:1], max_new_tokens=3)[0]
    assert time.perf_counter() - late < 30


@pytest.mark.model
def test_sampled_answers_differ_and_their_seed_repeats_them(smollm2: Any) -> None:
    same = [prompts_of(smollm2)[0]] * 3
    first = together(smollm2, same, temperature=1.2, seed=3)
    assert len({chunk.text for chunk in first.values()}) > 1
    again = together(smollm2, same, temperature=1.2, seed=3)
    assert {n: c.text for n, c in again.items()} == {n: c.text for n, c in first.items()}


@pytest.mark.model
def test_a_schema_holds_every_row_of_a_batch(engine: Any) -> None:
    pytest.importorskip("llguidance", reason="the extra schema is not installed")
    found = together(engine, prompts_of(engine), schema='{"enum": ["good", "bad", "neither of them"]}')
    assert {chunk.text for chunk in found.values()} <= {'"good"', '"bad"', '"neither of them"'}
    assert {chunk.stop_reason for chunk in found.values()} == {"end"}


@pytest.mark.model
def test_where_memory_runs_out_the_batch_is_halved(smollm2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    sizes: list[int] = []
    generate = smollm2._model.generate

    def small(**arguments: Any) -> Any:
        sizes.append(len(arguments["input_ids"]))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(**arguments)

    monkeypatch.setattr(smollm2._model, "generate", small)
    found = together(smollm2, prompts_of(smollm2), max_new_tokens=2)
    assert sizes[0] == len(TOPICS) and all(isinstance(chunk, Chunk) for chunk in found.values())
    monkeypatch.setattr(
        smollm2._model, "generate", lambda **unused: (_ for _ in ()).throw(torch.OutOfMemoryError("out of memory"))
    )
    assert {type(error) for error in together(smollm2, prompts_of(smollm2)).values()} == {OutOfMemoryError}


@pytest.mark.model
@pytest.mark.parametrize("shots", [True, False])
def test_labels_of_many_prompts_are_as_probable_as_those_of_one(engine: Any, shots: bool) -> None:
    prompts = prompts_of(engine, shots=shots)
    found = dict(engine.score_batch(prompts, LABELS, threading.Event()))
    assert sorted(found) == list(range(len(prompts)))
    for number, prompt in enumerate(prompts):
        assert sum(found[number]) == pytest.approx(1)
        assert found[number] == pytest.approx(engine.score(prompt, LABELS, threading.Event()), abs=0.02)


@pytest.mark.model
def test_packed_labels_are_as_probable_as_labels_read_one_by_one(smollm2: Any) -> None:
    import torch

    prompts = prompts_of(smollm2, shots=True)
    found = dict(smollm2.score_batch(prompts, LABELS, threading.Event()))
    for number, prompt in enumerate(prompts):
        ids = smollm2._encode(prompt.text)
        with torch.inference_mode():
            totals = [smollm2._log_probability(ids, smollm2._encode(label)) for label in LABELS]
        assert found[number] == pytest.approx(torch.softmax(torch.tensor(totals), 0).tolist(), abs=1e-4)


@pytest.mark.model
def test_weighing_stops_too(engine: Any) -> None:
    stop = threading.Event()
    found = []
    for place in engine.score_batch(prompts_of(engine) * 20, LABELS, stop):
        found.append(place)
        stop.set()
    assert len(found) < 5 * len(TOPICS)


@pytest.mark.model
def test_the_base_of_an_adapter_answers_a_batch_as_before(smollm2: Any) -> None:
    pytest.importorskip("peft")
    base = Adapters(smollm2).base
    prompts = prompts_of(smollm2)
    assert {n: c.text for n, c in together(base, prompts, max_new_tokens=4).items()} == {
        n: c.text for n, c in together(smollm2, prompts, max_new_tokens=4).items()
    }
    assert dict(base.score_batch(prompts, LABELS, threading.Event())).keys() == set(range(len(prompts)))


def test_the_scripted_engine_answers_in_turn_and_stops() -> None:
    engine = ScriptedEngine(["one", "two"], context=50)
    prompts = [engine.render([Message("user", text)]) for text in ("a", "word " * 90, "b")]
    found = dict(engine.stream_batch(prompts, GenerationOptions(), threading.Event()))
    assert [found[0].text, found[2].text] == ["one", "two"] and isinstance(found[1], ContextLengthError)
    stop = threading.Event()
    stop.set()
    assert not list(engine.stream_batch(prompts, GenerationOptions(), stop))


def test_what_prompts_share_leaves_a_token_to_compute() -> None:
    assert common_prefix([[1, 2, 3], [1, 2, 4], [1, 2, 3, 5]]) == [1, 2]
    assert common_prefix([[1, 2], [1, 2]]) == [1]
    assert common_prefix([[1], [2]]) == []


@pytest.mark.parametrize(("written", "known", "at_once"), [(1, 500, 1), (60, 20, 4)])
def test_slots_are_used_where_writing_costs_more_than_reading_again(written: int, known: int, at_once: int) -> None:
    running = most = 0
    lock = threading.Lock()

    def stream(prompt: Prompt, options: GenerationOptions, stop: threading.Event) -> Any:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1
        if prompt.text == "p7":
            raise ModelError("refused")
        yield Chunk("x", Usage(known + 9, written, 0.1, 0.2, known), "end")

    prompts = [Prompt((), f"p{number}", known + 9) for number in range(24)]
    options = GenerationOptions(max_new_tokens=100)
    place = {"slots": 4, "context": 8192, "gpu": False}
    found = dict(stream_batch(stream, prompts, options, threading.Event(), **place))
    assert most == at_once and isinstance(found[7], ModelError) and len(found) == 24


def test_a_bug_in_a_slot_is_raised() -> None:
    def stream(prompt: Prompt, options: GenerationOptions, stop: threading.Event) -> Any:
        if prompt.text == "p5":
            raise ZeroDivisionError
        yield Chunk("x", Usage(9, 9, 0.1, 0.2, 0), "end")

    prompts = [Prompt((), f"p{number}", 9) for number in range(9)]
    with pytest.raises(ZeroDivisionError):
        list(stream_batch(stream, prompts, GenerationOptions(), threading.Event(), slots=2, context=8192, gpu=True))
