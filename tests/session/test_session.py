"""The session without IPython."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from llm_magics import LLMMagicsError, ScriptedEngine, Session
from llm_magics.errors import BusyError, ContextLengthError, ModelNotFoundError
from llm_magics.settings import LLMMagics
from llm_magics.values.asking import AskRequest, GenerationOptions


@pytest.fixture
def session() -> Session:
    return Session(LLMMagics(), say=lambda line: None)


def test_a_session_works_without_ipython() -> None:
    code = (
        "import sys; from llm_magics import ScriptedEngine, Session; s = Session()\n"
        "s.add('fake', ScriptedEngine(['hello there'])); stream = s.ask('hi')\n"
        "print(''.join(chunk.text for chunk in stream), stream.answer.usage.new_tokens, 'IPython' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout == "hello there 2 False\n", ran.stderr


def test_nothing_runs_before_the_stream_is_iterated(session: Session) -> None:
    engine = ScriptedEngine(["hello"])
    session.add("fake", engine)
    stream = session.ask("hi")
    assert stream.prompt.text == "user: hi\nassistant:" and engine.prompts == []
    with pytest.raises(LLMMagicsError, match=r"the answer is not complete. Iterate the stream to its end first"):
        _ = stream.answer
    assert "".join(chunk.text for chunk in stream) == "hello" == stream.answer


def test_an_answer_that_is_left_in_the_middle_frees_the_model(session: Session) -> None:
    session.add("fake", ScriptedEngine(["one two three"]))
    running = iter(session.ask("hi"))
    next(running)
    with pytest.raises(BusyError):
        list(session.ask("me too"))
    with pytest.raises(BusyError):
        session.unload("fake")
    del running
    assert list(session.ask("me too"))
    assert session.unload("fake").name == "fake" and session.models == ()


def test_a_failing_answer_frees_the_model(session: Session) -> None:
    session.add("fake", ScriptedEngine(["x"], context=4))
    with pytest.raises(ContextLengthError):
        list(session.ask("far too long a prompt"))
    assert list(session.ask("hi"))


def test_a_stopped_answer_is_kept_as_far_as_it_came(session: Session) -> None:
    session.add("fake", ScriptedEngine(["one two three"]))
    stream = session.ask("hi")
    for _ in stream:
        stream.stop()
    assert stream.answer == "one" and stream.answer.stop_reason == "stopped"
    assert session.history.find()[-1].answer is stream.answer


def test_a_stopped_vote_counts_the_chains_that_were_complete(session: Session) -> None:
    session.add("fake", ScriptedEngine(["Answer: 4", "Let me think about it. Answer: 5"]))
    stream = session.ask_cot("hi", votes=3)
    for chunk in stream:
        if "think" in chunk.text:
            stream.stop()
    assert stream.answer == "4" and stream.answer.stop_reason == "stopped"
    assert stream.answer.chains == 1 and [(vote.answer, vote.count) for vote in stream.answer.votes] == [("4", 1)]


def test_an_evaluation_that_is_left_silences_no_other_cell() -> None:
    said: list[str] = []
    session = Session(LLMMagics(), say=said.append)
    left = threading.Event()

    def abandoned() -> None:
        with session.quiet():
            session._say("not heard")
            left.wait(10)

    thread = threading.Thread(target=abandoned)
    with session.quiet():
        thread.start()
        session._say("not heard")
    session._say("heard")
    left.set()
    thread.join()
    session._say("heard too")
    assert said == ["heard", "heard too"]


def test_a_model_of_a_loaded_name_takes_its_place(session: Session) -> None:
    closed = []
    first = ScriptedEngine(["first"])
    first.close = lambda: closed.append("first")  # type: ignore[method-assign]
    session.add("fake", first)
    session.add("fake", ScriptedEngine(["second"]))
    assert closed == ["first"] and len(session.models) == 1
    stream = session.ask("hi")
    assert list(stream) and stream.answer == "second"


def test_a_model_that_cannot_be_found_leaves_the_old_one_open(session: Session, tmp_path: Path) -> None:
    from llm_magics import ModelRequest

    session.add("old", ScriptedEngine(["here"]))
    with pytest.raises(ModelNotFoundError):
        session.load(ModelRequest(str(tmp_path / "nowhere")), name="old")
    assert [info.name for info in session.models] == ["old"]


def test_the_request_overrules_the_method_and_the_method_the_setting(session: Session) -> None:
    engine = ScriptedEngine(["x"])
    session.add("fake", engine)
    session.settings.temperature, session.settings.repetition_penalty = 0.9, 1.5

    def options(stream: object) -> GenerationOptions:
        list(stream)  # type: ignore[call-overload]
        return stream.answer.options  # type: ignore[attr-defined,no-any-return]

    cell = "a => b\nc"
    assert (options(session.ask("q")).temperature, options(session.ask("q")).repetition_penalty) == (0.9, 1.5)
    assert (options(session.ask_fewshot(cell)).temperature, options(session.ask_fewshot(cell)).repetition_penalty) == (
        0,
        1,
    )
    assert options(session.ask_fewshot(cell, AskRequest(temperature=0.3))).temperature == 0.3
    assert options(session.ask_cot("q", votes=2)).temperature == 0.7
    assert options(session.ask_cot("q", AskRequest(temperature=0.2), votes=2)).temperature == 0.2
    assert options(session.ask("q", AskRequest(temperature=0))).seed is None
    assert options(session.ask("q")).seed is not None


def test_an_empty_system_text_overrules_the_setting(session: Session) -> None:
    session.add("fake", ScriptedEngine(["x"]))
    session.settings.system = "Be brief."
    assert session.ask("q").prompt.messages[0].content == "Be brief."
    assert len(session.ask("q", AskRequest(system="")).prompt.messages) == 1


def test_similar_examples_are_compared_as_equals_not_as_documents_with_a_question():
    class Embedder:
        def equals(self, texts):
            return np.array([[1.0, 0.0] if text in ("near", "question") else [0.0, 1.0] for text in texts])

    session = Session(say=lambda line: None)
    session.add("fake", ScriptedEngine(["yes"]))
    session.knowledge._embedders[session.settings.embedding] = Embedder()
    stream = session.ask_fewshot("near => a\nfar => b\nquestion", select="similar", k=1)
    assert [message.content for message in stream.prompt.messages] == ["near", "a", "question"]
