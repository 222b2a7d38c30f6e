"""Models on a server: what is asked of it, what comes back, and what happens where it misbehaves.

The contract of every engine runs over two real servers in test_contract.py.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
import time
import types

import psutil
import pytest
from servers import fake_server, on_server

from llm_magics import AskRequest, LLMMagicsError, ModelRequest, Session
from llm_magics.engines import opening
from llm_magics.engines.base import BatchEngine, Scorer
from llm_magics.engines.resolve import Source, resolve
from llm_magics.engines.server_address import Address, key_for, parse
from llm_magics.errors import (
    AnswerBrokenError,
    ContextLengthError,
    InputError,
    ModelNotFoundError,
    ServerError,
)
from llm_magics.settings import LLMMagics
from llm_magics.values.asking import GenerationOptions
from llm_magics.values.messages import Message

GREEDY = GenerationOptions(temperature=0.0, repetition_penalty=1.0, max_new_tokens=20)
HI = [Message("user", "Hi")]
QUICK = LLMMagics(server_connect_timeout=2.0, server_first_token_timeout=0.5, server_token_timeout=0.5)


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    for name in ("LLM_MAGICS_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    with fake_server() as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_is_left_behind(request):
    """After each test no thread of ours, and no connection; the engines of the real servers stay open for others."""
    before = set(threading.enumerate())
    yield
    real, deadline = request.node.get_closest_marker("model"), time.monotonic() + 5
    while any(thread.name.startswith("llm_magics server") for thread in set(threading.enumerate()) - before) or (
        not real and [line for line in psutil.Process().net_connections("tcp") if line.status == "ESTABLISHED"]
    ):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def opened(nothing_is_left_behind):
    """Opens engines, and closes them."""
    engines = []

    def on(*args, **request):
        engines.append(on_server(*args, **request))
        return engines[-1]

    yield on
    for engine in engines:
        engine.close()


@pytest.fixture
def engine(server, opened):
    return opened(server.address, QUICK)


@pytest.fixture
def session(nothing_is_left_behind):
    """A session that waits half a second; what it says is in ``said``."""
    said = []
    session = Session(QUICK, say=said.append)
    session.said = said
    yield session
    session.close()


def answer(engine, messages=HI, options=GREEDY, stop=None):
    return list(engine.stream(engine.render(messages), options, stop or threading.Event()))


def text_of(chunks):
    return "".join(chunk.text for chunk in chunks)


def one_line(error: LLMMagicsError) -> str:
    """What a person sees."""
    (line,) = error._render_traceback_()
    assert "\n" not in line and len(line) < 600
    assert error.hint
    return line


# The address


@pytest.mark.parametrize(
    ("typed", "model", "url"),
    [
        ("m@http://host:8000/v1", "m", "http://host:8000/v1"),
        ("org/Model-7B@https://h.example.org/v1/", "org/Model-7B", "https://h.example.org/v1"),
        ("m@http://host:8000", "m", "http://host:8000/v1"),
        ("llama3.2:3b@http://localhost:11434/v1", "llama3.2:3b", "http://localhost:11434/v1"),
        ("a@b@http://[::1]:8000/v1", "a@b", "http://[::1]:8000/v1"),
        ("m@https://gateway/llama/v1", "m", "https://gateway/llama/v1"),
        ("@http://host:8000/v1", "", "http://host:8000/v1"),
    ],
)
def test_an_address_is_read(typed, model, url):
    assert parse(typed) == Address(model, url)


@pytest.mark.parametrize(
    "typed",
    ["m@http://ann:secret@host/v1", "m@http://secret@host/v1", "m@http://host/v1?api_key=secret", "m@http://h/#secret"],
)
def test_a_key_in_the_address_is_refused_and_not_repeated(typed):
    with pytest.raises(InputError) as caught:
        resolve(typed)
    assert "secret" not in one_line(caught.value) and "LLM_MAGICS_API_KEY" in one_line(caught.value)


@pytest.mark.parametrize("typed", ["m@http://", "m@http://:8000/v1", "m@http://host:port/v1", "m@http://ho st/v1"])
def test_an_address_that_cannot_be_used_says_the_form(typed):
    with pytest.raises(InputError, match="NAME@http://host:8000/v1"):
        resolve(typed)


def test_a_server_needs_an_address_and_an_address_a_server():
    source = resolve("Org/Qwen@http://host/v1")
    assert source == Source("server", "Org/Qwen@http://host/v1", "qwen")
    assert opening.engine_for(source, ModelRequest("x")) == "server"
    with pytest.raises(InputError, match="llamacpp opens no model on a server"):
        opening.engine_for(source, ModelRequest("x", engine="llamacpp"))
    with pytest.raises(InputError, match="Type %llm_load a/b@http"):
        opening.engine_for(Source("hub", "a/b", "b"), ModelRequest("a/b", engine="server"))


@pytest.mark.parametrize(
    "option", [{"quantize": "nf4"}, {"dtype": "float16"}, {"device_map": "cpu"}, {"trust_remote_code": True}]
)
def test_what_the_server_decides_is_refused(server, option, opened):
    with pytest.raises(InputError, match="is decided where the server is started"):
        opened(server.address, **option)


# Keys


def test_a_key_comes_from_the_environment_and_openais_own_goes_to_openai_alone(monkeypatch):
    own, openai = parse("m@http://host/v1"), parse("m@https://api.openai.com/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    assert (key_for(own), key_for(openai)) == ("", "sk-openai")
    assert key_for(parse("m@https://api.openai.com.evil.org/v1")) == ""
    monkeypatch.setenv("LLM_MAGICS_API_KEY", "mine")
    assert (key_for(own), key_for(openai)) == ("mine", "mine")


class KeyringError(Exception):
    pass


@pytest.fixture
def keyring(monkeypatch):
    """The package keyring with one key in it; the real one would ask this machine's."""
    errors, package = types.ModuleType("keyring.errors"), types.ModuleType("keyring")
    errors.KeyringError, package.errors = KeyringError, errors
    package.get_password = lambda service, user: f"{service} {user}"
    monkeypatch.setitem(sys.modules, "keyring", package)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)
    return package


def test_a_key_comes_from_the_keyring_where_the_environment_has_none(keyring, monkeypatch):
    assert key_for(parse("m@http://host:8000/v1")) == "llm_magics host:8000"
    monkeypatch.setenv("LLM_MAGICS_API_KEY", "mine")
    assert key_for(parse("m@http://host:8000/v1")) == "mine"


def test_a_keyring_that_is_locked_or_has_no_key_is_no_error(keyring):
    def locked(service, user):
        raise KeyringError

    for answer_of in (locked, lambda service, user: None):
        keyring.get_password = answer_of
        assert key_for(parse("m@http://host:8000/v1")) == ""


def test_a_refused_key_that_the_server_repeats_is_in_no_error(server, monkeypatch, opened):
    monkeypatch.setenv("LLM_MAGICS_API_KEY", "sk-very-secret")
    said = {"error": {"message": "Incorrect API key provided: sk-very-secret"}}
    server.answer = lambda handler, body: handler.reply(401, said)
    engine = opened(server.address)
    with pytest.raises(ServerError, match="does not take the key") as caught:
        answer(engine)
    assert "secret" not in one_line(caught.value) + repr(caught.value) + str(caught.value.__cause__)
    assert server.seen[-1]["Authorization"] == "Bearer sk-very-secret"


@pytest.mark.parametrize("status", [400, 500])
def test_a_key_in_any_other_message_of_the_server_is_taken_out(server, monkeypatch, status, opened):
    monkeypatch.setenv("LLM_MAGICS_API_KEY", "sk-very-secret")
    monkeypatch.setattr("llm_magics.engines.server_http._ATTEMPTS", 1)
    server.answer = lambda handler, body: handler.reply(status, {"error": "bad header Bearer sk-very-secret\x1b[31m"})
    engine = opened(server.address)
    with pytest.raises(ServerError, match="bad header Bearer …") as caught:
        answer(engine)
    assert "secret" not in one_line(caught.value) and "\x1b" not in one_line(caught.value)


def test_without_a_key_none_is_sent_and_a_server_that_wants_one_says_how(server, opened):
    server.other["/models"] = (401, {"error": "Unauthorized"})
    with pytest.raises(ServerError, match=r"wants a key \(401\)\. Set LLM_MAGICS_API_KEY"):
        opened(server.address)
    assert "Authorization" not in server.seen[-1]


# Opening


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("", r"is named without a model; it has qwen3-4b, qwen3-8b\. Type %llm_load qwen3-4b@http://127"),
        ("qwen3", r"has no model qwen3; it has qwen3-4b, qwen3-8b\. Did you mean qwen3-4b or qwen3-8b\?"),
        ("llama", r"has no model llama; it has qwen3-4b, qwen3-8b\. Type %llm_load qwen3-4b@http"),
    ],
)
def test_a_model_that_the_server_has_not_is_an_error_with_those_that_it_has(server, typed, expected, opened):
    server.models = [{"id": "qwen3-4b"}, {"id": "qwen3-8b"}]
    with pytest.raises(ModelNotFoundError, match=expected):
        opened(f"{typed}@http://{server.host}/v1")


def test_the_names_of_a_servers_models_cannot_write_to_the_terminal(server, opened):
    server.models = [{"id": "\x1b[31mred\nline"}, {"id": "x" * 5000}]
    with pytest.raises(ModelNotFoundError) as caught:
        opened(server.address)
    assert "\x1b" not in one_line(caught.value)


def test_a_server_without_a_list_of_models_is_taken_at_its_word(server, opened):
    server.other["/models"] = (404, {})
    engine = opened(server.address)
    assert text_of(answer(engine)) == "Hello there"


def test_the_context_is_the_servers_or_a_smaller_one_of_ones_own(server, opened):
    for request, context in (({}, 1000), ({"context": 100}, 100)):
        engine = opened(server.address, **request)
        assert engine.info().context == context
    with pytest.raises(InputError, match="more than the server's 1000"):
        opened(server.address, context=2000)


def test_a_context_that_the_server_does_not_tell_is_taken_and_said(server, session):
    server.models = [{"id": "m"}]
    assert session.load(ModelRequest(server.address)).context == 4096
    assert session.said == [
        f"{server.host} does not tell its context length: 4096 tokens are taken, --context N says another"
    ]
    assert session.load(ModelRequest(server.address, context=9000)).context == 9000
    assert len(session.said) == 1


def test_a_page_for_a_browser_is_no_server(server, opened):
    server.other["/models"] = "<html>"
    with pytest.raises(ServerError, match=r"does not speak OpenAI's API .* usually ends with /v1"):
        opened(server.address)


def test_nothing_at_the_address_is_one_line_at_once(opened):
    begin = time.monotonic()
    with pytest.raises(ServerError, match=r"nothing answers at 127\.0\.0\.1:9\. Start the server"):
        opened("m@http://127.0.0.1:9/v1")
    assert time.monotonic() - begin < 2


@pytest.fixture
def certificate(tmp_path):
    """A certificate for 127.0.0.1 that nobody signed, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    file, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-days", "2"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    return file, context


def test_a_certificate_is_looked_at_and_one_of_ones_own_can_be_trusted(server, opened, certificate, monkeypatch):
    file, context = certificate
    server.socket = context.wrap_socket(server.socket, server_side=True)
    address = f"m@https://{server.host}/v1"
    with pytest.raises(ServerError, match="has no certificate that this machine trusts") as caught:
        opened(address)
    assert "SSL_CERT_FILE" in one_line(caught.value)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    assert text_of(answer(opened(address))) == "Hello there"


def test_a_failed_load_keeps_the_old_model_and_loading_again_asks_nobody(server, session):
    session.load(ModelRequest(server.address), name="x")
    with pytest.raises(ServerError):
        session.load(ModelRequest("m@http://127.0.0.1:9/v1"), name="x")
    assert session.models[0].device == server.host
    before = len(server.seen)
    assert session.load(ModelRequest(server.address), name="x").seconds == 0
    assert len(server.seen) == before


# What is asked


def test_the_request_has_the_messages_and_the_options(server, engine):
    options = GenerationOptions(
        temperature=0.7, top_p=0.9, max_new_tokens=5, repetition_penalty=1.2, seed=3, stop=("END",)
    )
    answer(engine, [Message("system", "Be brief."), *HI], options)
    request = server.requests[0]
    assert request["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert {name: request[name] for name in ("model", "temperature", "top_p", "max_tokens", "seed")} == {
        "model": "m",
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 5,
        "seed": 3,
    }
    assert request["repetition_penalty"] == 1.2
    assert request["stream"] and request["stream_options"] == {"include_usage": True}
    assert "seed" not in (answer(engine), server.requests)[1][1]


def test_no_more_tokens_are_asked_for_than_the_context_has_room_for(server, engine):
    answer(engine, options=GenerationOptions(max_new_tokens=5000))
    assert server.requests[0]["max_tokens"] == 1000 - engine.render(HI).token_count


def test_a_schema_goes_to_the_server(server, engine):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    answer(engine, options=GenerationOptions(schema=json.dumps(schema)))
    assert server.requests[0]["response_format"]["json_schema"]["schema"] == schema
    assert server.requests[0]["response_format"]["type"] == "json_schema"


def test_an_option_that_the_server_refuses_is_left_out_once_and_said(server, session):
    def answered(handler, body):
        unknown = {"repetition_penalty", "seed"} & set(body)
        if unknown:
            handler.reply(422, {"detail": f"Unexpected fields in the request: {unknown}"})
        else:
            handler.say("ok")

    server.answer = answered
    session.load(ModelRequest(server.address))
    for _ in range(2):
        stream = session.ask("Hi")
        assert text_of(stream) == "ok"
    assert session.said == [
        f"{server.host} takes no --repetition-penalty: it is left out",
        f"{server.host} takes no --seed: it is left out",
    ]
    assert len(server.requests) == 3


def test_a_value_that_the_server_refuses_is_an_error_and_not_left_out(server, engine):
    server.answer = lambda handler, body: handler.reply(400, {"error": {"message": "temperature must be at most 1"}})
    with pytest.raises(ServerError, match=r"refuses: temperature must be at most 1 \(400\)"):
        answer(engine, options=GenerationOptions(temperature=2))
    assert len(server.requests) == 1


def test_openais_newer_name_for_the_longest_answer_is_used_where_it_is_asked_for(server, engine):
    def answered(handler, body):
        if "max_tokens" in body:
            said = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
            handler.reply(400, {"error": {"message": said}})
        else:
            handler.say(str(body["max_completion_tokens"]))

    server.answer = answered
    assert [text_of(answer(engine)) for _ in range(2)] == ["20", "20"]
    assert len(server.requests) == 3


def test_a_refused_option_is_found_in_a_long_message(server, engine):
    def answered(handler, body):
        if "seed" in body:
            fields = [{"loc": ["body", "x" * 500]}, {"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]
            handler.reply(422, {"detail": fields})
        else:
            handler.say("ok")

    server.answer = answered
    assert text_of(answer(engine, options=GenerationOptions(seed=1))) == "ok"


# What comes back


def test_the_figures_are_the_servers(server, engine):
    def answered(handler, body):
        handler.begin()
        handler.token("Hel")
        handler.token("lo")
        usage = {"prompt_tokens": 50, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 32}}
        handler.end("length", usage)

    server.answer = answered
    last = answer(engine)[-1]
    assert (last.usage.prompt_tokens, last.usage.new_tokens, last.usage.cached_tokens) == (50, 9, 32)
    assert 0 < last.usage.seconds_to_first_token <= last.usage.seconds
    assert last.stop_reason == "length"


def test_without_figures_of_the_server_events_are_counted(server, engine):
    def answered(handler, body):
        handler.begin()
        handler.token("Hel")
        handler.token("lo")
        handler.end()

    server.answer = answered
    last = answer(engine)[-1]
    assert (last.usage.new_tokens, last.usage.prompt_tokens) == (2, engine.render(HI).token_count)
    assert last.stop_reason == "end"


def test_half_a_character_can_be_written(server, engine):
    server.answer = lambda handler, body: handler.say("a\ud83e", "b")
    assert text_of(answer(engine)) == "a?b"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_apart_from_the_answer_comes_as_local_models_write_it(server, name, session):
    def answered(handler, body):
        handler.begin()
        for piece in ("Hm", "m."):
            handler.event({"choices": [{"index": 0, "delta": {name: piece}}]})
        handler.token("Four")
        handler.end()

    server.answer = answered
    session.load(ModelRequest(server.address))
    stream = session.ask("2 + 2")
    assert text_of(stream) == "<think>\nHmm.\n</think>\n\nFour"
    assert (stream.answer, stream.answer.reasoning) == ("Four", "Hmm.")


def test_a_stop_text_ends_the_answer_and_the_servers_work(server, engine):
    server.answer = lambda handler, body: handler.say(*["one ", "two E", "ND three "] * 2000, pause=0.005)
    chunks = answer(engine, options=GenerationOptions(stop=("END",)))
    assert text_of(chunks) == "one two "
    assert (chunks[-1].stop_reason, chunks[-1].usage.new_tokens) == ("stop", 3)
    assert server.hung_up.wait(5)


def test_a_stop_closes_the_connection_so_that_the_server_stops_computing(server, engine):
    server.answer = lambda handler, body: handler.say(*["word "] * 5000, pause=0.005)
    stop, chunks = threading.Event(), []
    for chunk in engine.stream(engine.render(HI), GREEDY, stop):
        chunks.append(chunk)
        if len(chunks) == 3:
            stop.set()
    assert (len(chunks), chunks[-1].stop_reason, chunks[-1].usage.new_tokens) == (4, "stopped", 3)
    assert server.hung_up.wait(5)


def test_a_stop_before_the_first_token_does_not_wait(server, opened):
    server.answer = lambda handler, body: time.sleep(3)
    engine, stop = opened(server.address), threading.Event()
    threading.Timer(0.2, stop.set).start()
    begin = time.monotonic()
    (chunk,) = answer(engine, stop=stop)
    assert time.monotonic() - begin < 1
    assert (chunk.text, chunk.stop_reason) == ("", "stopped")


# Where it misbehaves


def stalls_before_the_first_token(handler, body):
    handler.begin()
    handler.wfile.flush()
    time.sleep(1.5)


def stalls_in_the_middle(handler, body):
    handler.begin()
    handler.token("Half")
    time.sleep(1.5)


def closes_in_the_middle(handler, body):
    handler.begin(Transfer_Encoding="chunked")
    data = b'data: {"choices": [{"index": 0, "delta": {"content": "Half"}}]}\n\n'
    handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


def ends_without_a_reason(handler, body):
    handler.begin()
    handler.token("Half")


def says_it_is_done_without_a_reason(handler, body):
    handler.begin()
    handler.token("Half")
    handler.event("[DONE]")


def sends_malformed_events(handler, body):
    handler.begin()
    handler.token("Half")
    handler.event('{"choices": [{"delta"')


def sends_a_list(handler, body):
    handler.begin()
    handler.token("Half")
    handler.event([1, 2])


def sends_what_is_nested_too_deep(handler, body):
    handler.begin()
    handler.token("Half")
    handler.event("[" * 100_000)


def sends_an_error(handler, body):
    handler.begin()
    handler.token("Half")
    handler.event({"error": {"message": "CUDA out of memory"}})


def sends_10_mb_at_once(handler, body):
    handler.begin()
    handler.token("Half")
    handler.token("x" * 10_000_000)


def sends_10_mb_without_an_end(handler, body):
    handler.begin()
    handler.token("Half")
    handler.wfile.write(b"data: ")
    for _ in range(1000):
        handler.wfile.write(b"x" * 10_000)


def ends_for_an_unknown_reason(handler, body):
    handler.begin()
    handler.token("Half")
    handler.end("content_filter")


@pytest.mark.parametrize(
    ("behave", "expected"),
    [
        (stalls_in_the_middle, r"was silent for 0\.5 s in the middle of the answer"),
        (closes_in_the_middle, "ended in the middle of the answer"),
        (ends_without_a_reason, "ended in the middle of the answer: no reason for its end was given"),
        (says_it_is_done_without_a_reason, "ended in the middle of the answer"),
        (sends_malformed_events, "sent an event that is no JSON object"),
        (sends_a_list, "sent an event that is no JSON object"),
        (sends_what_is_nested_too_deep, "sent an event that is no JSON object"),
        (sends_an_error, "broke off the answer: CUDA out of memory"),
        (sends_10_mb_at_once, "exceeded the 1048576 byte limit"),
        (sends_10_mb_without_an_end, "exceeded the 1048576 byte limit"),
        (ends_for_an_unknown_reason, "for a reason that is not known"),
    ],
)
def test_an_answer_that_breaks_is_an_error_and_keeps_what_came(server, behave, expected, session):
    server.answer = behave
    session.load(ModelRequest(server.address))
    stream, chunks = session.ask("Hi"), []
    with pytest.raises(AnswerBrokenError, match=expected) as caught:
        for chunk in stream:
            chunks.append(chunk)
    assert one_line(caught.value)
    assert text_of(chunks) == "Half" == caught.value.answer
    assert (caught.value.answer.model, caught.value.answer.stop_reason) == ("m", "stopped")
    assert len(server.requests) == 1, "it was asked twice, and the second answer would begin anew"


def test_a_broken_answer_leaves_the_engine_usable(server, engine):
    server.answer = ends_without_a_reason
    with pytest.raises(AnswerBrokenError):
        answer(engine)
    server.answer = lambda handler, body: handler.say("fine")
    assert text_of(answer(engine)) == "fine"


def test_a_break_after_the_last_token_is_none(server, engine):
    def answered(handler, body):
        handler.begin(Transfer_Encoding="chunked")
        data = b'data: {"choices": [{"index": 0, "delta": {"content": "All"}, "finish_reason": "stop"}]}\n\n'
        handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    server.answer = answered
    chunks = answer(engine)
    assert (text_of(chunks), chunks[-1].stop_reason) == ("All", "end")


def sends_html(handler, body):
    handler.begin(200, "text/html")
    handler.wfile.write(b"<html>Welcome</html>")


def sends_a_whole_answer(handler, body):
    handler.reply(200, {"choices": [{"message": {"content": "Hi"}}]})


def sends_on(handler, body):
    handler.begin(307, Location="http://elsewhere.example.org/v1", Content_Length="0")


@pytest.mark.parametrize(
    ("behave", "expected", "times"),
    [
        (stalls_before_the_first_token, r"sent nothing in 0\.5 s", 1),
        (sends_html, "Expected response with content type 'text/event-stream', got 'text/html'", 1),
        (sends_a_whole_answer, "got 'application/json'", 1),
        (sends_on, r"sends on to http://elsewhere\.example\.org/v1", 1),
        (lambda h, b: h.reply(404, {"error": {"message": "The model `m` does not exist."}}), r"`m` does not exist", 1),
        (lambda h, b: h.reply(404, "x" * 90_000), "refuses: x{199}… \\(404\\)", 1),
        (lambda h, b: h.reply(404, "x" * 10**6), r"refuses: no reason \(404\)", 1),
        (lambda h, b: h.reply(500, {"error": "broken"}), "answered 500: broken", 4),
        (lambda h, b: h.reply(429, {}, Retry_After="9999"), "answered 429, and asks to wait 9999 s", 1),
    ],
)
def test_a_server_that_does_not_answer_is_one_line(server, engine, monkeypatch, behave, expected, times):
    monkeypatch.setattr("llm_magics.engines.server_http._wait", lambda state: 0.01)
    server.answer = behave
    with pytest.raises(ServerError, match=expected) as caught:
        answer(engine)
    assert one_line(caught.value)
    assert len(server.requests) == times


def test_a_redirect_is_not_followed_with_the_prompt(server, engine):
    with fake_server() as other:
        server.answer = lambda handler, body: handler.begin(308, Location=f"http://{other.host}/v1/chat/completions")
        with pytest.raises(ServerError, match="sends on to"):
            answer(engine)
        assert not other.seen


def fails_at_first(*statuses: int, **headers: str):
    left = list(statuses)

    def answered(handler, body):
        if left:
            handler.reply(left.pop(0), {"error": "busy"}, **headers)
        else:
            handler.say("good")

    return answered


def test_500_twice_and_then_an_answer_is_an_answer_and_says_what_is_waited_for(server, engine, monkeypatch):
    monkeypatch.setattr("llm_magics.engines.server_http._wait", lambda state: 0.01)
    server.answer = fails_at_first(500, 503)
    chunks = answer(engine)
    assert text_of(chunks) == "good"
    assert [chunk.status for chunk in chunks if chunk.status] == [
        f"{server.host} answered 500: busy; again in 0 s",
        f"{server.host} answered 503: busy; again in 0 s",
    ]


def test_429_is_waited_for_as_long_as_the_server_asks(server, engine):
    server.answer = fails_at_first(429, Retry_After="1")
    begin = time.monotonic()
    assert text_of(answer(engine)) == "good"
    assert 1 <= time.monotonic() - begin < 5


def test_429_may_name_a_date(server, engine):
    from email.utils import formatdate

    server.answer = fails_at_first(429, Retry_After=formatdate(time.time() + 2, usegmt=True))
    begin = time.monotonic()
    assert text_of(answer(engine)) == "good"
    assert 0.5 <= time.monotonic() - begin < 5


def test_a_stop_ends_the_waiting_for_a_retry(server, engine):
    server.answer = fails_at_first(429, Retry_After="60")
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    begin = time.monotonic()
    assert answer(engine, stop=stop)[-1].stop_reason == "stopped"
    assert time.monotonic() - begin < 2


def test_a_connection_that_breaks_before_the_first_token_is_tried_again(server, engine, monkeypatch):
    monkeypatch.setattr("llm_magics.engines.server_http._wait", lambda state: 0.01)

    def answered(handler, body):
        if len(server.requests) == 1:
            handler.begin()
            handler.event({"choices": [{"index": 0, "delta": {"role": "assistant"}}]})
        else:
            handler.say("good")

    server.answer = answered
    assert text_of(answer(engine)) == "good"


def test_a_server_that_is_gone_is_tried_again_and_then_one_line(server, engine, monkeypatch):
    monkeypatch.setattr("llm_magics.engines.server_http._wait", lambda state: 0.01)
    prompt = engine.render(HI)
    server.shutdown()
    server.server_close()
    with pytest.raises(ServerError, match="nothing answers at"):
        list(engine.stream(prompt, GREEDY, threading.Event()))


@pytest.mark.parametrize(
    "error",
    [
        {"error": {"code": "context_length_exceeded", "message": "too long"}},
        {"error": {"type": "exceed_context_size_error", "message": "request (9 tokens) exceeds"}},
        {"object": "error", "message": "This model's maximum context length is 8 tokens.", "code": 400},
    ],
)
def test_a_prompt_that_is_too_long_for_the_server_is_that_error(server, engine, error):
    server.answer = lambda handler, body: handler.reply(400, error)
    with pytest.raises(ContextLengthError, match="the prompt is too long for m") as caught:
        answer(engine)
    assert "--no-history" in caught.value.hint


# Known servers


def test_vllm_tells_the_exact_prompt_and_counts_on_the_way(server, opened):
    server.models = [{"id": "m", "owned_by": "vllm", "max_model_len": 512}]
    server.other |= {
        "/tokenize": {"count": 3, "max_model_len": 512, "tokens": [1, 2, 3]},
        "/detokenize": {"prompt": "<s>[INST] Hi [/INST]"},
    }
    engine = opened(server.address)
    prompt = engine.render(HI)
    assert (prompt.text, prompt.token_count, prompt.exact) == ("<s>[INST] Hi [/INST]", 3, True)
    answer(engine, options=GenerationOptions(repetition_penalty=1.1))
    assert server.requests[0]["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert server.requests[0]["repetition_penalty"] == 1.1


def test_behind_a_gateway_that_hides_the_tokenizer_the_prompt_is_an_estimate(server, opened):
    server.models = [{"id": "m", "owned_by": "vllm"}]
    engine = opened(server.address)
    prompt = engine.render(HI)
    assert (prompt.text, prompt.exact) == ("user: Hi", False)
    before = len(server.seen)
    engine.render(HI)
    assert len(server.seen) == before, "it asks again and again"


def test_ollama_takes_a_name_without_its_tag_and_ignores_the_penalty_which_is_said(server, session):
    server.models = [{"id": "llama3.2:latest", "owned_by": "library"}]
    server.other["/api/version"] = {"version": "0.12.0"}
    session.load(ModelRequest(f"llama3.2@http://{server.host}/v1", context=4096))
    list(session.ask("Hi"))
    assert "repetition_penalty" not in server.requests[0]
    assert session.said == ["Ollama takes no --repetition-penalty: it is left out"]


def test_ollama_is_not_told_about_where_no_penalty_is_asked_for(server, session):
    server.other["/api/version"] = {"version": "0.12.0"}
    session.load(ModelRequest(server.address))
    list(session.ask("Hi", AskRequest(repetition_penalty=1.0)))
    assert session.said == []


def test_messages_that_the_servers_template_refuses_are_the_answers_error(server, opened):
    server.models = [{"id": "m", "owned_by": "vllm"}]
    server.other["/tokenize"] = (400, {"message": "roles must alternate"})
    engine = opened(server.address)
    assert not engine.render(HI).exact
    server.other |= {"/tokenize": {"tokens": [1]}, "/detokenize": {"prompt": "Hi"}}
    assert engine.render(HI).exact


def test_transformers_serve_takes_no_schema_and_that_is_an_error(server, opened):
    server.models = []
    server.other["/openapi.json"] = {"paths": {"/load_model": {}, "/v1/chat/completions": {}}}
    engine = opened(server.address)
    with pytest.raises(InputError, match="transformers serve holds no answer to a schema"):
        answer(engine, options=GenerationOptions(schema="{}"))
    answer(engine, options=GenerationOptions(temperature=0.5, repetition_penalty=1.1))
    config = json.loads(server.requests[0]["generation_config"])
    assert (config["do_sample"], config["temperature"], config["repetition_penalty"]) == (True, 0.5, 1.1)


def test_only_a_server_that_tells_probabilities_is_a_scorer(server, engine):
    assert isinstance(engine, BatchEngine)
    assert not isinstance(engine, Scorer)


# Several at once


def test_a_batch_runs_so_many_at_once_and_one_that_fails_does_not_lose_the_others(server, opened):
    def answered(handler, body):
        text = body["messages"][-1]["content"]
        if text == "5":
            handler.reply(400, {"error": "bad"})
        elif text == "7":
            ends_without_a_reason(handler, body)
        else:
            time.sleep(0.02 * (20 - int(text)))
            handler.say("answer ", text)

    server.answer = answered
    engine = opened(server.address, LLMMagics(server_concurrency=4))
    prompts = [engine.render([Message("user", str(number))]) for number in range(20)]
    found = list(engine.stream_batch(prompts, GREEDY, threading.Event()))
    results = dict(found)
    assert sorted(results) == list(range(20)) and len(found) == 20
    assert 3 <= server.most_at_once <= 6  # a handler ends a moment after its client
    assert [number for number, _ in found] != sorted(results), "they come in the order in which they are complete"
    assert isinstance(results[5], ServerError)
    assert isinstance(results[7], AnswerBrokenError) and results[7].answer == "Half"
    for number in set(range(20)) - {5, 7}:
        assert (results[number].text, results[number].stop_reason) == (f"answer {number}", "end")
        assert results[number].usage.new_tokens == 2


def test_a_stop_ends_a_batch_and_every_connection(server, opened):
    server.answer = lambda handler, body: handler.say(*["word "] * 5000, pause=0.005)
    engine, stop = opened(server.address), threading.Event()
    threading.Timer(0.3, stop.set).start()
    begin = time.monotonic()
    assert list(engine.stream_batch([engine.render(HI)] * 50, GREEDY, stop)) == []
    assert time.monotonic() - begin < 2
    assert server.hung_up.wait(5)
    asked = len(server.requests)
    time.sleep(0.2)
    assert 1 <= asked <= 16 and len(server.requests) == asked


def test_a_batch_of_nothing_is_nothing(engine):
    assert list(engine.stream_batch([], GREEDY, threading.Event())) == []


def test_a_bug_in_a_batch_is_not_taken_for_an_error_of_the_server(server, engine, monkeypatch):
    monkeypatch.setattr(engine, "_request", lambda prompt, options: 1 / 0)
    with pytest.raises(ExceptionGroup):
        list(engine.stream_batch([engine.render(HI)], GREEDY, threading.Event()))


# The end of the process

LEFT = """
import sys, threading
from llm_magics import ModelRequest, Session
session = Session(say=print)
session.load(ModelRequest(sys.argv[1]))
stream = iter(session.ask("Hi"))
print(next(stream).text)
"""


def test_a_process_that_ends_in_the_middle_of_an_answer_ends_quietly(server):
    server.answer = lambda handler, body: handler.say(*["word "] * 5000, pause=0.005)
    done = subprocess.run(
        [sys.executable, "-c", LEFT, server.address], capture_output=True, text=True, timeout=60, env={**os.environ}
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "word \n", "")
    assert server.hung_up.wait(5)


INTERRUPTED = """
import os, signal, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)
from llm_magics import ModelRequest, Session
session = Session(say=print)
session.load(ModelRequest(sys.argv[1]))
count = 0
try:
    for chunk in session.ask("Hi"):
        count += 1
        if count == 3:
            os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted after", count)
print(next(iter(session.ask("Hi"))).text)
session.close()
print([thread.name for thread in threading.enumerate()])
"""


def test_an_interrupt_reaches_python_closes_the_connection_and_the_next_answer_works(server):
    server.answer = lambda handler, body: handler.say(*["word "] * 5000, pause=0.005)
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, server.address], capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout == "interrupted after 3\nword \n['MainThread']\n"
    assert server.hung_up.wait(5)


def test_no_library_of_models_is_loaded(server):
    script = LEFT + "print(sorted({'torch', 'transformers', 'xllamacpp', 'gguf', 'openai'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script, server.address], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


# llama.cpp's own server


@pytest.mark.model
def test_llamacpps_server_weighs_choices_as_the_engine_without_it(smollm2_on_llamacpp_server, smollm2_in_llamacpp):
    choices = ["Yes", "No", "Yes, it is blue"]
    both = [
        engine.score(engine.render([Message("user", "Is the sky blue? Answer yes or no.")]), choices, threading.Event())
        for engine in (smollm2_on_llamacpp_server, smollm2_in_llamacpp)
    ]
    assert both[0] == pytest.approx(both[1], abs=0.15)  # 4 bits against 8


@pytest.mark.model
def test_llamacpps_server_holds_an_answer_to_a_schema(smollm2_on_llamacpp_server):
    schema = {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}, "required": ["mood"]}
    options = GenerationOptions(temperature=0.0, repetition_penalty=1.0, schema=json.dumps(schema))
    chunks = answer(smollm2_on_llamacpp_server, [Message("user", "I loved the food.")], options)
    assert json.loads(text_of(chunks))["mood"] in ("good", "bad")


@pytest.mark.model
def test_llamacpps_server_punishes_words_far_back_in_the_prompt(smollm2_on_llamacpp_server):
    """Its own window is 64 tokens."""
    filler = "The sun rose over the hills and the birds began to sing in the old trees near the river. " * 5
    question = [Message("user", f"Repeat the word Zebra. {filler}Say the word again.")]

    def first_words(penalty):
        options = GenerationOptions(temperature=0.0, repetition_penalty=penalty, max_new_tokens=12)
        return text_of(answer(smollm2_on_llamacpp_server, question, options))

    assert first_words(1.0) != first_words(2.0)


@pytest.mark.model
def test_llamacpps_server_answers_a_batch(smollm2_on_llamacpp_server):
    engine = smollm2_on_llamacpp_server
    prompts = [engine.render([Message("user", f"{number} + 1")]) for number in range(4)]
    results = dict(engine.stream_batch(prompts, GREEDY, threading.Event()))
    assert [text_of(answer(engine, [Message("user", f"{number} + 1")])) for number in range(4)] == [
        results[number].text for number in range(4)
    ]
