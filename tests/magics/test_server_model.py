"""A model on a server in a notebook: the cells are the same, and what a person sees fits it."""

from __future__ import annotations

import time

import pytest
from servers import fake_server

from llm_magics.errors import AnswerBrokenError, InputError, ServerError


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("LLM_MAGICS_API_KEY", raising=False)
    with fake_server() as server:
        yield server


@pytest.fixture
def on_server(notebook, server):
    notebook.good(f"%llm_load {server.address} --as far")
    yield notebook
    notebook.session.close()


def test_one_line_opens_it_and_says_what_is_known(notebook, server):
    printed = notebook.good(f"%llm_load {server.address}").printed
    assert printed.startswith(f"m is open: on the server {server.host}, context 1000")
    assert notebook.good(f"%llm_load {server.address} --as m").printed.startswith("m is open already")
    notebook.session.close()


def test_the_table_of_models_is_calm_where_a_server_does_not_tell(on_server, server):
    lines = on_server.good("%llm_load").printed.splitlines()
    assert lines[2].split() == ["far", "m", "server", server.host, "-", "-", "-", "1000"]


def test_the_cells_are_the_same(on_server, server):
    ran = on_server.good("%%llm -o said\nHi")
    assert (ran.value, on_server.names["said"]) == ("Hello there", "Hello there")
    on_server.good("%%llm\nAnd again")
    assert [message["content"] for message in server.requests[-1]["messages"]] == ["Hi", "Hello there", "And again"]
    assert on_server.good("%%fewshot\nSay a mood.\ngood => Good\nbad").value == "Hello there"
    assert "server" not in on_server.good("%llm_history").printed


def test_the_rows_of_a_table_are_asked_together_and_one_that_fails_is_a_row_with_an_error(on_server, server):
    pandas = pytest.importorskip("pandas")

    def answered(handler, body):
        text = body["messages"][-1]["content"]
        if text.endswith("row 3"):
            handler.reply(400, {"error": {"message": "not this one"}})
        else:
            time.sleep(0.2)
            handler.say(text.upper())

    server.answer = answered
    on_server.names["table"] = pandas.DataFrame({"text": [f"row {number}" for number in range(40)]})
    on_server.good("%%llm --over table --column text --repetition-penalty 1 -o result\nSay it loud.")
    result = on_server.names["result"]
    assert "ROW 39" in result["answer"][39]
    assert "not this one" in result["error"][3] and result["error"].notna().sum() == 1
    assert server.most_at_once >= 8
    assert len(server.requests) == 40


def test_a_dry_run_marks_what_it_does_not_know(on_server, server):
    printed = on_server.good("%llm --dry-run Hi").printed
    said = "prompt, about 8 tokens, the server makes the exact text and does not tell it:"
    assert printed.splitlines()[:2] == [said, "user: Hi"]
    page = on_server.rich()
    on_server.good("%llm --dry-run Hi")
    html = page[-1]["data"]["text/html"]
    assert "about 8 tokens" in html and "exact prompt" not in html
    assert not server.requests


def test_it_is_closed_like_any_other(notebook, server):
    notebook.good(f"%llm_load {server.address}")
    assert notebook.good("%llm_unload").printed.startswith("m is closed: 0 MB of RAM came back")


def test_an_answer_that_breaks_off_is_one_line_and_the_partial_answer_is_shown(on_server, server):
    def breaks_off(handler, body):
        handler.begin()
        handler.token("Half an answer")

    server.answer = breaks_off
    ran = on_server.run("%%llm\nHi")
    assert isinstance(ran.error, AnswerBrokenError)
    assert "ended in the middle of the answer" in ran.complaint
    assert "Half an answer" in ran.printed
    assert ran.error.answer == "Half an answer"


def test_a_card_shows_what_came_of_a_broken_answer_and_why_it_broke(on_server, server):
    def breaks_off(handler, body):
        handler.begin()
        handler.token("Half an answer")

    server.answer = breaks_off
    shown = on_server.rich()
    ran = on_server.run("%%llm --no-stream\nHi")
    assert isinstance(ran.error, AnswerBrokenError)
    assert any("Half an answer" in output["data"].get("text/html", "") for output in shown)


@pytest.mark.parametrize(
    ("line", "kind", "said"),
    [
        ("%llm_load m@http://ann:secret@host/v1", InputError, "the address has a user or a key in it"),
        ("%llm_load m@http://127.0.0.1:9/v1", ServerError, "nothing answers at 127.0.0.1:9"),
        (
            "%llm_load m --engine server",
            InputError,
            "--engine server needs the server's address, and m has none. Type %llm_load m@http",
        ),
    ],
)
def test_a_mistake_is_one_line(notebook, line, kind, said):
    ran = notebook.run(line)
    assert "secret" not in ran.printed
    assert said in ran.complaint and type(ran.error) is kind


def test_a_chain_asks_it_too(on_server):
    pytest.importorskip("langchain_core")
    assert on_server.session.llm.invoke("Hi").content == "Hello there"


def test_tab_completes_the_engine(on_server):
    _, words = on_server.shell.complete("", "%llm_load --eng", len("%llm_load --eng"))
    assert "--engine" in words
