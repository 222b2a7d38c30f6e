"""Tuned models and their bases in one session: whatever they are called and whoever answers, none is lost."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from llm_magics import ModelRequest, Session
from llm_magics.errors import BusyError, InputError, ModelNotFoundError
from llm_magics.finetuning.events import EventLog
from llm_magics.finetuning.jobs import Job
from llm_magics.settings import LLMMagics
from llm_magics.values.asking import AskRequest
from llm_magics.values.training import RowSource, TrainingRequest

pytest.importorskip("peft", reason="the extra finetune is not installed")
pytestmark = pytest.mark.model

ROWS = RowSource([("Who?", "Me."), ("Where?", "Here.")], "rows")


@pytest.fixture
def said():
    return []


@pytest.fixture
def session(said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Session(LLMMagics(), say=said.append)


@pytest.fixture
def finished(session, tiny):
    """A job on ``tiny`` that is done; its adapter changes every answer."""

    def made(name):
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        job = Job(Path("finetuned") / name)
        job.folder.parent.mkdir(exist_ok=True)
        job.write(session.plan_finetuning(TrainingRequest(name, tiny.folder), ROWS))
        torch.manual_seed(0)
        lora = LoraConfig(r=4, lora_alpha=256, target_modules="all-linear", init_lora_weights=False)
        get_peft_model(AutoModelForCausalLM.from_pretrained(tiny.folder), lora).save_pretrained(job.folder / "adapter")
        EventLog(job.folder).write("end")
        return job.run()

    return made


def asked(session, name="", tokens=12):
    request = AskRequest(name, max_new_tokens=tokens, temperature=0, history=False)
    return session.ask("Who?", request)


def answer(session, name=""):
    return str(asked(session, name).run(threading.Event()))


def names(session):
    return [info.name for info in session.models]


@pytest.mark.parametrize("name", ["train", "eval", "items", "half"])
def test_a_job_may_be_called_as_anything(session, tiny, finished, name):
    session.load(ModelRequest(tiny.folder), name="base")
    plain = answer(session)
    session.attach(finished(name))
    assert names(session) == ["base", name]
    assert answer(session, name) != plain == answer(session, "base")


def test_a_folder_with_a_dot_opens_under_its_name(session, tiny, finished):
    shutil.copytree(finished("mine").adapter, "my-lora-v1.0")
    assert session.load(ModelRequest(tiny.folder, adapter="my-lora-v1.0")).name == "my-lora-v1.0"
    assert answer(session, "my-lora-v1.0")


def test_no_adapter_is_put_on_a_base_that_answers(session, tiny, finished):
    session.load(ModelRequest(tiny.folder), name="base")
    run, whole = finished("mine"), answer(session)
    model = session._models["base"].engine._model
    running = iter(asked(session, "base"))
    begun = next(running).text
    wrong = "base is answering another cell, and mine shares its weights. Type %llm_load mine when that has ended"
    with pytest.raises(BusyError) as told:
        session.attach(run)
    assert str(told.value) == wrong
    assert not any("lora" in name for name, _ in model.named_modules())
    assert names(session) == ["base"]
    with pytest.raises(BusyError, match="Run this one again when that has ended"):
        session.load(ModelRequest("mine"))
    assert begun + "".join(chunk.text for chunk in running) == whole
    assert session.load(ModelRequest("mine")).name == "mine"
    assert answer(session, "base") == whole != answer(session, "mine")


def test_a_tuned_model_that_answers_is_not_replaced_and_its_base_takes_no_adapter(session, tiny, finished):
    session.load(ModelRequest(tiny.folder), name="base")
    run, other = finished("mine"), finished("other")
    session.attach(run)
    whole = answer(session, "mine")
    running = iter(asked(session, "mine"))
    begun = next(running).text
    for again in (run, other):
        with pytest.raises(BusyError, match=f"Type %llm_load {again.name} when that has ended"):
            session.attach(again)
    assert begun + "".join(chunk.text for chunk in running) == whole
    session.attach(run)
    session.attach(other)
    assert names(session) == ["base", "mine", "other"] and answer(session, "mine") == whole


def test_a_job_is_not_called_as_its_base(session, tiny):
    session.load(ModelRequest(tiny.folder), name="chat")
    own = Path(tiny.folder).name
    for base, name in (("chat", "chat"), ("", "chat"), (tiny.folder, "chat"), (tiny.folder, own), ("chat", own)):
        with pytest.raises(InputError) as told:
            session.plan_finetuning(TrainingRequest(name, base), ROWS)
        assert str(told.value) == f"--name {name} is the base's own name. Type --name {name}-tuned"
    assert session.plan_finetuning(TrainingRequest("chat-tuned", "chat"), ROWS)


def test_nor_as_its_base_that_llamacpp_has_open(session):
    pytest.importorskip("xllamacpp", reason="the extra llamacpp is not installed")
    session.load(ModelRequest("smollm2", engine="llamacpp"), name="chat")
    for base in ("chat", "smollm2"):
        with pytest.raises(InputError, match="--name chat is the base's own name"):
            session.plan_finetuning(TrainingRequest("chat", base), ROWS)


def test_the_name_of_a_tuned_model_may_be_trained_anew(session, tiny, finished):
    session.load(ModelRequest(tiny.folder), name="base")
    run = finished("mine")
    session.attach(run)
    for base in ("base", "mine"):
        assert session.plan_finetuning(TrainingRequest("mine", base), ROWS).spec.request.base == tiny.folder
    session.attach(run)
    assert names(session) == ["base", "mine"]


def test_a_tuned_model_does_not_take_the_place_of_its_base(session, tiny, finished):
    run = finished("chat")  # when nothing was open of that name
    session.load(ModelRequest(tiny.folder), name="chat")
    plain = answer(session)
    with pytest.raises(InputError) as told:
        session.load(ModelRequest("chat"))
    assert str(told.value) == "chat is the name of its base here. Take --as chat-tuned"
    with pytest.raises(InputError, match="Take --as chat-tuned"):
        session.attach(run)
    session.load(ModelRequest("chat"), name="chat-tuned")
    assert names(session) == ["chat", "chat-tuned"]
    assert answer(session, "chat") == plain != answer(session, "chat-tuned")


def test_a_base_that_is_not_open_yet_gives_way_to_the_name_of_its_tuned_model(session, tiny, finished):
    own = Path(tiny.folder).name
    session.load(ModelRequest(tiny.folder, adapter=finished("mine").adapter), name=own)
    assert names(session) == [f"{own}-base", own]
    assert answer(session, own) != answer(session, f"{own}-base")


def job(*kinds):
    """A job that wrote these events."""
    events = [SimpleNamespace(kind=kind) for kind in kinds]
    return SimpleNamespace(folder=Path("finetuned/mine"), run=lambda: SimpleNamespace(events=events))


@pytest.fixture
def full(monkeypatch):
    """Memory in which no job fits beside any model."""
    from llm_magics import tuning

    monkeypatch.setattr(tuning, "in_the_way", lambda job, held: [info.name for info in held])


def test_where_one_of_the_models_answers_none_is_put_away(session, tiny, full, said):
    for name in ("one", "two"):
        session.load(ModelRequest(tiny.folder), name=name)
    running = iter(asked(session, "two"))
    next(running)
    with pytest.raises(BusyError) as told, session.room_for(job("start")):
        pytest.fail("it is trained beside them")
    assert str(told.value) == (
        "two is answering another cell, and leaves mine no room in memory. "
        "Type %llm_finetune mine --resume when that has ended"
    )
    assert names(session) == ["one", "two"] and said == []


@pytest.mark.parametrize("wrong", [BusyError("two is answering another cell"), KeyboardInterrupt()])
def test_what_was_put_away_comes_back_where_another_cannot_be(session, tiny, full, monkeypatch, wrong):
    for name in ("one", "two"):
        session.load(ModelRequest(tiny.folder), name=name)
    unload = session.unload

    def unload_one(name=""):
        if name == "two":  # a question came in since it was looked at
            raise wrong
        return unload(name)

    monkeypatch.setattr(session, "unload", unload_one)
    with pytest.raises(type(wrong)), session.room_for(job("start")):
        pytest.fail("it is trained beside them")
    assert names(session) == ["one", "two"] and answer(session, "one") == answer(session, "two")


def test_models_come_back_under_their_names_and_the_same_one_answers(session, tiny, full, finished):
    session.load(ModelRequest(tiny.folder), name="base")
    session.attach(finished("mine"))
    session.load(ModelRequest(tiny.folder), name="base")
    assert names(session) == ["mine", "base"]
    plain = answer(session)
    with session.room_for(job("start", "phase")):
        assert session.models == ()
        with pytest.raises(ModelNotFoundError):
            answer(session, "base")
    assert names(session) == ["mine", "base"]
    assert answer(session) == plain != answer(session, "mine")
    assert session._models["mine"].engine._model is session._models["base"].engine._model


def test_a_job_that_has_its_memory_already_puts_no_model_away(session, tiny, full):
    session.load(ModelRequest(tiny.folder), name="one")
    with session.room_for(job("start", "phase", "begin", "step")):
        assert names(session) == ["one"]
    with session.room_for(job("start", "begin", "step", "start", "phase")):  # it was killed, and began again
        assert names(session) == []
