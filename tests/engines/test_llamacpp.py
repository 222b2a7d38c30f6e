"""llama.cpp with the real SmolLM2: what the file goes through, what stays out of the notebook, and what comes back."""

from __future__ import annotations

import importlib.util
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from llm_magics import ModelRequest
from llm_magics.aliases import MODELS
from llm_magics.engines import opening
from llm_magics.engines.resolve import Source, resolve
from llm_magics.errors import (
    InputError,
    MissingPackageError,
    ModelError,
    ModelFileError,
    ModelTooLargeError,
)
from llm_magics.values.asking import GenerationOptions
from llm_magics.values.messages import Message

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="the extra llamacpp is not installed"),
]

GREEDY = GenerationOptions(temperature=0.0, repetition_penalty=1.0, max_new_tokens=8)
EIGHT_SHOTS = "".join(f"Review {n}: the soup was {'cold' if n % 2 else 'warm'} and the waiter sang. => {n % 3}\n" * 2
                      for n in range(8))  # fmt: skip


@pytest.fixture
def llamacpp():
    from llm_magics.engines import llamacpp

    return llamacpp


@pytest.fixture
def engine(smollm2_in_llamacpp):
    return smollm2_in_llamacpp


def opened(llamacpp, **request):
    values = ModelRequest("smollm2", **request)
    return llamacpp.load(llamacpp.prepare(resolve("smollm2"), values))


def answer(engine, *messages, **options):
    prompt = engine.render(list(messages))
    values = {"temperature": 0.0, "repetition_penalty": 1.0, "max_new_tokens": 8, **options}
    return list(engine.stream(prompt, GenerationOptions(**values), threading.Event()))


def text_of(chunks):
    return "".join(chunk.text for chunk in chunks)


def python(script, **environment):
    """Run a script in a fresh process; everything that reaches its standard error is a failure."""
    variables = {**os.environ, **environment}
    # A shell that runs the tests in the background hands on that SIGINT is ignored.
    script = f"import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n{script}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, env=variables)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


# Which engine


def gguf(**request):
    return opening.engine_for(Source("gguf", "/m.gguf", "m"), ModelRequest("/m.gguf", **request))


def test_a_gguf_file_is_for_llamacpp_where_there_is_no_cuda(monkeypatch):
    monkeypatch.setattr(opening, "_cuda", lambda: False)
    assert gguf() == "llamacpp"
    assert gguf(device_map="cpu") == "llamacpp"
    assert gguf(engine="transformers") == "transformers"


@pytest.mark.parametrize("option", [{"quantize": "nf4"}, {"quantize": "none"}, {"dtype": "bfloat16"}])
def test_an_option_of_transformers_is_for_transformers(monkeypatch, option):
    monkeypatch.setattr(opening, "_cuda", lambda: False)
    assert gguf(**option) == "transformers"


def test_with_cuda_a_build_of_llamacpp_without_it_leaves_the_file_to_transformers(monkeypatch, llamacpp):
    monkeypatch.setattr(opening, "_cuda", lambda: True)
    monkeypatch.setattr(llamacpp, "gpus", lambda: [])
    assert gguf() == "transformers"
    assert gguf(device_map="cpu") == "llamacpp"
    monkeypatch.setattr(llamacpp, "gpus", lambda: ["CUDA0"])
    assert gguf() == "llamacpp"


def test_without_xllamacpp_everything_is_for_transformers(monkeypatch):
    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    assert gguf() == "transformers"
    assert opening.engine_for(Source("hub", "a/b", "b"), ModelRequest("a/b")) == "transformers"


def test_smollm2_opens_in_llamacpp_by_itself_and_says_so(notebook):
    ran = notebook.good("%llm_load smollm2")
    assert "by llamacpp" in ran.printed and "Q8_0" in ran.printed
    notebook.good("answer = %llm -t 0 --repetition-penalty 1 --max-new-tokens 9 1 + 1")
    assert str(notebook.names["answer"]) == "1 + 1 = 2."
    assert notebook.session.models[0].engine == "llamacpp"
    notebook.good("%llm_unload")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("-q nf4 --engine llamacpp", "--quantize nf4 is for transformers"),
        ("--dtype float16 --engine llamacpp", "--dtype float16 is for transformers"),
        ("--context 9000", "--context 9000 is more than the model's 8192"),
        ("--device-map cuda --engine llamacpp", "there is no device cuda"),
        ("--engine lamacpp", "llamacpp"),
    ],
)
def test_what_llamacpp_cannot_do_is_one_line(notebook, options, complaint):
    assert complaint in notebook.run(f"%llm_load smollm2 {options}").complaint


def test_a_folder_is_not_for_llamacpp(llamacpp):
    with pytest.raises(InputError, match=r"llamacpp opens \.gguf files"):
        llamacpp.prepare(Source("folder", "/tmp", "tmp"), ModelRequest("/tmp", engine="llamacpp"))


def test_without_the_package_the_line_to_type_is_named(llamacpp, monkeypatch):
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingPackageError) as caught:
        opened(llamacpp)
    assert str(caught.value) == 'xllamacpp is not installed. Type %pip install "llm_magics[llamacpp]"'


# The file


def test_the_q8_0_file_is_made_once_and_holds_the_same_weights(llamacpp, tmp_path, monkeypatch):
    import gguf
    import numpy as np
    from gguf.quants import dequantize

    monkeypatch.setenv("LLM_MAGICS_CACHE", str(tmp_path))
    said = []
    source = resolve("smollm2")
    first = llamacpp.prepare(source, ModelRequest("smollm2"), say=said.append)
    made = first.file.stat()
    begin = time.perf_counter()
    again = llamacpp.prepare(source, ModelRequest("smollm2"), say=said.append)
    assert time.perf_counter() - begin < 0.5
    assert again == first
    assert (again.file.stat().st_mtime_ns, len(said)) == (made.st_mtime_ns, 1)
    assert said[0].startswith("Requantizing SmolLM2-135M-Instruct.Q4_1.gguf to Q8_0, once (0.1 GB")
    assert not list(tmp_path.rglob(".unpacking-*"))
    before, after = gguf.GGUFReader(source.location), gguf.GGUFReader(first.file)
    assert {t.tensor_type.name for t in after.tensors} == {"Q8_0", "F32"}
    changed = {"GGUF.kv_count", "general.file_type"}
    for name in set(before.fields) - changed:
        assert after.fields[name].contents() == before.fields[name].contents(), name
    for old, new in list(zip(before.tensors, after.tensors, strict=True))[::40]:
        weights = [dequantize(tensor.data, tensor.tensor_type) for tensor in (old, new)]
        largest = np.abs(weights[0]).reshape(-1, 32).max(axis=1, keepdims=True)
        error = np.abs(weights[1] - weights[0]).reshape(-1, 32)
        # Half a step, and a scale that is rounded to float16.
        assert (error <= largest * (0.5 / 127 + 2**-11)).all(), old.name


def test_the_file_opens_as_it_is_where_that_is_asked_for(llamacpp):
    engine = opened(llamacpp, quantize="none", engine="llamacpp")
    assert engine.info().quantization == "Q4_1"
    assert text_of(answer(engine, Message("user", "1 + 1"))) == "1 + 1 = 2."
    engine.close()


def test_without_room_for_it_the_file_opens_as_it_is(llamacpp, tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_MAGICS_CACHE", str(tmp_path))
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1_000_000})())
    said = []
    prepared = llamacpp.prepare(resolve("smollm2"), ModelRequest("smollm2"), say=said.append)
    assert prepared.file == Path(resolve("smollm2").location)
    assert "it stays Q4_1" in said[0]
    assert not list(tmp_path.rglob("*.gguf"))


def test_a_disk_that_fills_up_leaves_nothing_and_the_file_opens_as_it_is(tmp_path):
    out = python(f"""
import os, resource, signal
os.environ["LLM_MAGICS_CACHE"] = {str(tmp_path)!r}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000_000, 50_000_000))
from llm_magics import ModelRequest, Session
print(Session().load(ModelRequest("smollm2", engine="llamacpp")).quantization)
""")
    assert "it stays Q4_1" in out and out.splitlines()[-1] == "Q4_1"
    assert not list(tmp_path.rglob("*.gguf"))


@pytest.mark.parametrize("size", [100, 100_000, 60_000_000])
def test_a_truncated_file_is_refused(llamacpp, tmp_path, monkeypatch, size):
    monkeypatch.setenv("LLM_MAGICS_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "half.gguf"
    with MODELS["smollm2"].packaged().open("rb") as file:
        path.write_bytes(file.read(size))
    with pytest.raises(ModelFileError, match=r"half\.gguf is damaged or incomplete"):
        llamacpp.prepare(Source("gguf", str(path), "half"), ModelRequest(str(path)))
    assert not list((tmp_path / "cache").rglob("*.json"))


def small_gguf(path, architecture, **numbers):
    """A well-formed file that is no whole model."""
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(path, architecture)
    for name, number in {"block_count": 1, "context_length": 64, "embedding_length": 32, **numbers}.items():
        writer.add_uint32(f"{architecture}.{name}", number)
    writer.add_tensor("token_embd.weight", np.zeros((32, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("architecture", "numbers", "reason"),
    [
        ("nonsense", {}, "unknown model architecture: 'nonsense'"),
        ("llama", {}, "key not found in model"),
        ("llama", {"block_count": 4_000_000_000}, "it is damaged"),  # over this one llama.cpp ends the process
    ],
)
def test_a_file_that_llamacpp_refuses_is_one_line_with_its_reason(
    llamacpp, tmp_path, monkeypatch, capfd, architecture, numbers, reason
):
    monkeypatch.setenv("LLM_MAGICS_CACHE", str(tmp_path / "cache"))
    path = small_gguf(tmp_path / "odd.gguf", architecture, **numbers)
    with pytest.raises(ModelFileError, match=r"odd\.gguf cannot be opened by llama\.cpp") as caught:
        llamacpp.prepare(Source("gguf", str(path), "odd"), ModelRequest(str(path)))
    assert reason in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_base_model_without_a_template_says_what_to_type(llamacpp, engine):
    base = llamacpp.LlamaCppEngine(engine._server, engine._header, engine.info(), "")
    with pytest.raises(ModelError, match="--chat-template guanaco"):
        base.render([Message("user", "Hi")])


def test_a_template_that_is_no_template_is_refused_before_loading(llamacpp):
    with pytest.raises(ModelError, match="the chat template cannot be read"):
        opened(llamacpp, chat_template="{% if %}")


def test_a_template_without_a_system_role_gets_it_in_the_first_turn(llamacpp, engine):
    template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{% for m in messages %}{% generation %}[{{ m['role'] }}] {{ m['content'] + '\\n' }}{% endgeneration %}"
        "{% endfor %}"
    )
    other = llamacpp.LlamaCppEngine(engine._server, engine._header, engine.info(), template)
    assert other.render([Message("system", "Be brief."), Message("user", "Hi")]).text == "[user] Be brief.\n\nHi\n"


def test_a_template_reaches_nothing_outside_the_sandbox(llamacpp, engine):
    template = "{{ messages.__class__.__mro__ }}{{ ''.__class__ }}"
    other = llamacpp.LlamaCppEngine(engine._server, engine._header, engine.info(), template)
    with pytest.raises(ModelError, match="unsafe"):
        other.render([Message("user", "Hi")])


# Memory, threads, and the end


def test_a_context_of_ones_own_bounds_prompt_and_answer(llamacpp):
    engine = opened(llamacpp, context=40)
    last = answer(engine, Message("user", "Tell me about llamas."), max_new_tokens=500)[-1]
    assert last.usage.prompt_tokens + last.usage.new_tokens == 40
    assert last.stop_reason == "length"
    engine.close()


def test_a_model_that_cannot_fit_is_refused_with_the_context_that_would(llamacpp, monkeypatch):
    monkeypatch.setattr(llamacpp, "free_bytes", lambda device: 250_000_000)
    with pytest.raises(ModelTooLargeError, match=r"needs 0\.3 GB with a context of 8192.*--context 3840"):
        opened(llamacpp)
    monkeypatch.setattr(llamacpp, "free_bytes", lambda device: 50_000_000)
    with pytest.raises(ModelTooLargeError, match="smaller model"):
        opened(llamacpp)


def test_closing_gives_the_memory_back_and_leaves_no_thread_and_no_socket(llamacpp):
    import psutil

    from llm_magics.engines.memory import give_back, used_bytes

    opened(llamacpp).close()  # what the first model brings with it stays
    give_back()
    before, threads = used_bytes("cpu"), psutil.Process().num_threads()
    engine = opened(llamacpp)
    answer(engine, Message("user", "Hi"))
    socket = Path(engine._server._socket)
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    loaded = used_bytes("cpu")
    engine.close()
    assert loaded - used_bytes("cpu") > engine.info().memory
    # Threads of earlier tests in this process come and go; what leaks shows in the rounds below.
    assert used_bytes("cpu") - before < 0.25 * engine.info().memory
    assert psutil.Process().num_threads() <= threads
    assert not socket.parent.exists()


def test_no_port_is_open(engine):
    import psutil

    assert not [c for c in psutil.Process().net_connections("inet") if c.status == psutil.CONN_LISTEN]


def test_rounds_of_opening_and_closing_leave_no_memory_behind():
    out = python(
        """
import psutil, threading
from llm_magics import ModelRequest
from llm_magics.engines import llamacpp
from llm_magics.engines.resolve import resolve
from llm_magics.values.asking import GenerationOptions
from llm_magics.values.messages import Message
prepared = llamacpp.prepare(resolve("smollm2"), ModelRequest("smollm2"))
for _ in range(20):
    engine = llamacpp.load(prepared)
    prompt = engine.render([Message("user", "Hi")])
    for chunk in engine.stream(prompt, GenerationOptions(max_new_tokens=5), threading.Event()):
        pass
    engine.close()
    print(psutil.Process().memory_info().rss)
""",
        MALLOC_ARENA_MAX="1",
    )  # glibc gives each new thread a heap of its own, and keeps some of them
    sizes = [int(size) for size in out.split()]
    assert len(sizes) == 20
    assert sizes[-1] <= 1.05 * sizes[1], [round(size / 1e6) for size in sizes]


def test_the_beginning_of_a_prompt_is_read_once(engine):
    first = answer(engine, Message("user", f"{EIGHT_SHOTS}It was nice."))[-1].usage
    again = answer(engine, Message("user", f"{EIGHT_SHOTS}The bread was old."))[-1].usage
    assert first.cached_tokens < 0.5 * first.prompt_tokens
    assert again.cached_tokens > 0.9 * again.prompt_tokens
    assert again.seconds_to_first_token < 0.5 * first.seconds_to_first_token
    other = answer(engine, Message("system", "Be brief."), Message("user", "Something else: what is a llama?"))
    assert other[-1].usage.cached_tokens < 20
    back = answer(engine, Message("user", f"{EIGHT_SHOTS}The soup was old."))[-1].usage
    assert back.cached_tokens > 0.9 * back.prompt_tokens


def test_two_threads_at_once_get_their_own_answers(engine):
    questions = {"1 + 1": "1 + 1 = 2.", "What is a llama?": None}
    expected = {text: text_of(answer(engine, Message("user", text))) for text in questions}
    got = {}

    def ask(text):
        got[text] = text_of(answer(engine, Message("user", text)))

    threads = [threading.Thread(target=ask, args=(text,)) for text in questions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert got == expected


INTERRUPTED = """
import os, signal, sys, threading, time
from llm_magics import AskRequest, ModelRequest, Session
from llm_magics.errors import Interrupted
session = Session(say=lambda line: None)
session.load(ModelRequest("smollm2", engine="llamacpp"))
engine = session._models["smollm2"].engine
from llm_magics.values.asking import GenerationOptions
from llm_magics.values.messages import Message
options = GenerationOptions(temperature=0, max_new_tokens=400)
prompt = engine.render([Message("user", "Tell me a long story.")])
count = 0
try:
    for chunk in engine.stream(prompt, options, threading.Event()):
        count += 1
        if count == 5:
            begin = time.perf_counter()
            os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted", count, time.perf_counter() - begin < 1)
prompt = engine.render([Message("user", "1 + 1")])
options = GenerationOptions(temperature=0, repetition_penalty=1.0, max_new_tokens=9)
print("".join(chunk.text for chunk in engine.stream(prompt, options, threading.Event())))
"""


def test_an_interrupt_reaches_python_and_the_next_answer_works_and_the_exit_is_clean():
    """llama.cpp's server takes SIGINT for itself; and the model is open when the process ends."""
    lines = python(INTERRUPTED).splitlines()
    assert lines[0].split()[0] == "interrupted" and int(lines[0].split()[1]) <= 6
    assert lines[0].endswith("True")
    assert lines[1] == "1 + 1 = 2."


def test_sigterm_ends_the_process_as_before():
    script = INTERRUPTED.split("count = 0")[0] + "os.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(5)\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")


def test_a_process_that_ends_in_the_middle_of_an_answer_ends_quietly():
    out = python(
        INTERRUPTED.split("count = 0")[0]
        + "stream = engine.stream(prompt, options, threading.Event())\nprint(len(next(stream).text) > 0)\n"
    )
    assert out == "True\n"


def test_a_model_opens_in_a_thread_beside_the_main_one():
    assert (
        python("""
import os, signal, threading, time
from llm_magics import ModelRequest, Session
session = Session(say=lambda line: None)
thread = threading.Thread(target=lambda: session.load(ModelRequest("smollm2", engine="llamacpp")))
thread.start(); thread.join()
try:
    os.kill(os.getpid(), signal.SIGINT); time.sleep(1)
except KeyboardInterrupt:
    print("interrupted", len(session.models))
""")
        == "interrupted 1\n"
    )


def test_llamacpps_log_reaches_neither_stream(llamacpp, capfd):
    engine = opened(llamacpp)
    answer(engine, Message("user", "Hi"))
    engine.close()
    assert capfd.readouterr() == ("", "")


def test_an_engine_that_is_closed_at_once_closes(llamacpp):
    for _ in range(5):
        opened(llamacpp, context=256).close()


def test_no_library_of_training_is_loaded():
    assert (
        python("""
import sys
from llm_magics import ModelRequest, Session
Session(say=lambda line: None).load(ModelRequest("smollm2", engine="llamacpp"))
print(sorted({"torch", "transformers", "gguf"} & set(sys.modules)))
""")
        == "[]\n"
    )
    assert os.environ.get("OMP_WAIT_POLICY", "").lower() in ("", "passive")
