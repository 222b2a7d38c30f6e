"""Opening and closing: the GGUF cache, the memory that comes back, and the names of models."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from llm_magics import ModelRequest, Session
from llm_magics.aliases import MODELS
from llm_magics.engines import memory
from llm_magics.engines.dequantized import dequantized
from llm_magics.engines.memory import Weights, check_fits
from llm_magics.engines.resolve import resolve
from llm_magics.errors import LLMMagicsError, ModelFileError, ModelNotFoundError, ModelTooLargeError
from llm_magics.values.asking import AskRequest


def test_the_alias_is_found_in_the_installed_package():
    source = resolve("smollm2")
    assert source.kind == "gguf"
    assert Path(source.location).stat().st_size > 90_000_000


def test_a_copy_in_the_hubs_cache_comes_before_the_package(tmp_path, monkeypatch):
    snapshot = tmp_path / "models--HuggingFaceTB--SmolLM2-135M-Instruct" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).touch()
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert resolve("smollm2").kind == "hub"


def test_a_name_that_is_nearly_right_is_offered():
    with pytest.raises(ModelNotFoundError, match=r"smolm2.*Did you mean smollm2"):
        resolve("smolm2")


def test_a_name_that_is_nothing_gets_the_list():
    with pytest.raises(ModelNotFoundError, match="Take one of smollm2"):
        resolve("zzzz")


def test_a_missing_file_offers_its_neighbours(tmp_path):
    (tmp_path / "llama.gguf").touch()
    with pytest.raises(ModelNotFoundError, match=r"Did you mean llama\.gguf"):
        resolve(str(tmp_path / "lama.gguf"))


def test_a_folder_without_a_model_says_what_it_holds(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ModelFileError, match=r"config\.json is missing; it holds notes\.txt"):
        resolve(str(tmp_path))


def test_a_file_that_is_no_gguf_is_refused(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"PK\x03\x04 not a model")
    with pytest.raises(ModelFileError, match="no GGUF file"):
        resolve(str(path))


@pytest.mark.model
@pytest.mark.parametrize("size", [100, 100_000, 60_000_000])
def test_a_truncated_gguf_is_refused_and_leaves_nothing(tmp_path, monkeypatch, size):
    monkeypatch.setenv("LLM_MAGICS_CACHE", str(tmp_path / "cache"))
    packaged = MODELS["smollm2"].packaged()
    path = tmp_path / "half.gguf"
    with packaged.open("rb") as file:
        path.write_bytes(file.read(size))
    with pytest.raises(ModelFileError, match=r"half\.gguf is damaged or incomplete"):
        dequantized(path, "float32", check=lambda weights: None, say=print)
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


@pytest.mark.model
@pytest.mark.slow
def test_the_second_load_of_a_gguf_takes_a_tenth_of_the_first_and_gives_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_MAGICS_CACHE", str(tmp_path))
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401  (imports are not what is timed)

    session = Session(say=lambda line: None)
    seconds = []
    for _ in range(2):
        begin = time.perf_counter()
        session.load(ModelRequest("smollm2", engine="transformers"))
        seconds.append(time.perf_counter() - begin)
        weights = session._models["smollm2"].engine._model.model.norm.weight.sum().item()
        session.unload()
    assert seconds[1] <= 0.1 * seconds[0], seconds
    assert torch.isfinite(torch.tensor(weights))
    assert not list(tmp_path.rglob(".unpacking-*"))


@pytest.mark.model
def test_a_full_disk_leaves_no_half_written_model(tmp_path, monkeypatch):
    """A real write that the system refuses: files may not grow past 50 MB in the child process."""
    script = f"""
import os, resource, signal
os.environ["LLM_MAGICS_CACHE"] = {str(tmp_path)!r}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000_000, 50_000_000))
from llm_magics import ModelRequest, Session
from llm_magics.errors import ModelTooLargeError
try:
    Session().load(ModelRequest("smollm2", engine="transformers"))
except ModelTooLargeError as error:
    print("refused:", error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert "refused: SmolLM2-135M-Instruct.Q4_1.gguf could not be unpacked" in done.stdout, done.stderr[-2000:]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_too_little_room_on_the_disk_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_MAGICS_CACHE", str(tmp_path))
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(ModelTooLargeError, match="Set LLM_MAGICS_CACHE"):
        dequantized(MODELS["smollm2"].packaged(), "float32", check=lambda weights: None, say=print)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_size_of_a_7b_model_is_counted_as_the_papers_count_it():
    seven = Weights(total=6_738_415_616, matrices=6_476_005_376)
    assert seven.bytes("none", "float32") / 1.1 == pytest.approx(26.95e9, rel=0.01)
    assert seven.bytes("nf4", "bfloat16") / 1.1 == pytest.approx(3.87e9, rel=0.02)


def test_a_model_that_fits_nowhere_says_so():
    with pytest.raises(ModelTooLargeError, match="take a smaller model"):
        check_fits("huge", Weights(10**13, 10**13), "nf4", "bfloat16", "cpu")


@pytest.mark.model
@pytest.mark.slow
def test_twenty_rounds_of_load_and_unload_leave_no_memory_behind():
    script = """
import os, psutil
from llm_magics import AskRequest, ModelRequest, Session
session = Session(say=lambda line: None)
sizes = []
for _ in range(20):
    session.load(ModelRequest("smollm2", engine="transformers"))
    for chunk in session.ask("Hi", AskRequest(max_new_tokens=5)):
        pass
    session.unload()
    sizes.append(psutil.Process().memory_info().rss)
print(*sizes)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600, check=True)
    sizes = [int(size) for size in done.stdout.split()]
    assert len(sizes) == 20
    assert sizes[-1] <= 1.05 * sizes[1], [round(size / 1e6) for size in sizes]


@pytest.mark.model
def test_loading_over_a_name_never_holds_two_models():
    script = """
import threading, time, psutil
from llm_magics import ModelRequest, Session
import llm_magics.engines.transformers
session = Session(say=lambda line: None)
session.load(ModelRequest("smollm2", engine="transformers"))
import torch
held = []
original = llm_magics.engines.transformers._load
def watched(*arguments):
    import gc
    held.append(sum(p.numel() for p in gc.get_objects() if isinstance(p, torch.nn.Parameter)))
    return original(*arguments)
llm_magics.engines.transformers._load = watched
info = session.load(ModelRequest("smollm2", engine="transformers", dtype="bfloat16"), name="smollm2")
print(held[0], info.dtype, len(session.models))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.split() == ["0", "bfloat16", "1"]


@pytest.mark.model
def test_the_same_request_again_changes_nothing_and_unload_says_what_came_back():
    session = Session(say=lambda line: None)
    first = session.load(ModelRequest("smollm2"))
    again = session.load(ModelRequest("smollm2"))
    assert (again.seconds, again.memory) == (0.0, first.memory)
    for _ in session.ask("Hi", AskRequest(max_new_tokens=2)):
        pass  # the weights lie in mapped files: only what was read is in memory
    freed = session.unload()
    assert freed.before - freed.after > 0.5 * first.memory
    with pytest.raises(ModelNotFoundError, match="%llm_load smollm2"):
        session.unload()


@pytest.mark.model
@pytest.mark.slow
def test_two_threads_that_open_the_default_model_at_once_get_one_whole_model():
    script = """
import threading
from llm_magics import AskRequest, Session
session = Session(say=lambda line: None)
texts = []
def ask():
    stream = session.ask("1 + 1", AskRequest(temperature=0, history=False))
    try:
        for chunk in stream:
            pass
        texts.append(str(stream.answer))
    except Exception as error:
        texts.append(type(error).__name__)
threads = [threading.Thread(target=ask) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(session.models), session.models[0].parameters)
print(sorted(set(texts) - {"BusyError"}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.splitlines()[0] == "1 134515008"
    assert done.stdout.splitlines()[1].startswith(r"['The answer is: 2.\n\n1 + 1 = 2")
    assert done.stdout.splitlines()[1].count("The answer is") == 1


@pytest.mark.model
def test_a_new_model_that_cannot_be_opened_leaves_the_old_one(tmp_path):
    session = Session(say=lambda line: None)
    session.load(ModelRequest("smollm2"))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    for request in (
        ModelRequest(str(tmp_path)),
        ModelRequest("Qwen/Qwen3-0.6B"),
        ModelRequest("smollm2", context=10**9),
        ModelRequest("smollm2", device_map="cuda:7"),
        ModelRequest("smollm2", chat_template="lama-2"),
    ):
        with pytest.raises(LLMMagicsError):
            session.load(request, name="smollm2")
    assert [info.name for info in session.models] == ["smollm2"]
    session.close()


@pytest.mark.model
def test_a_chat_template_by_name_is_the_published_format():
    session = Session(say=lambda line: None)
    session.load(ModelRequest("smollm2", chat_template="guanaco"))
    prompt = session.ask("Hi", AskRequest(system="Be brief.")).prompt
    assert prompt.text.endswith("### Human: Hi\n### Assistant:")
    session.close()


@pytest.mark.model
def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path):
    script = f"""
import torch
from transformers import LlamaConfig, LlamaForCausalLM
config = LlamaConfig(vocab_size=49152, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                     num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=True)
LlamaForCausalLM(config).save_pretrained({str(tmp_path)!r})
config.num_hidden_layers = 3
config.save_pretrained({str(tmp_path)!r})
from transformers import AutoTokenizer
from llm_magics.aliases import MODELS
path = MODELS["smollm2"].packaged()
AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained({str(tmp_path)!r})
from llm_magics import ModelRequest, Session
try:
    Session().load(ModelRequest({str(tmp_path)!r}))
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.startswith("ModelFileError")
    assert "lacks weights" in done.stdout


@pytest.mark.model
def test_a_damaged_copy_in_the_cache_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_MAGICS_CACHE", str(tmp_path))
    packaged = MODELS["smollm2"].packaged()
    folder = Path(dequantized(packaged, "bfloat16", check=lambda weights: None, say=lambda line: None))
    (folder / "model.safetensors").unlink()
    again = Path(dequantized(packaged, "bfloat16", check=lambda weights: None, say=lambda line: None))
    assert again == folder
    assert (folder / "model.safetensors").stat().st_size > 200_000_000


def test_a_container_with_less_memory_than_the_machine_counts(tmp_path, monkeypatch):
    files = {"memory.max": "4000", "memory.current": "3000", "memory.stat": "anon 9\ninactive_file 500\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    real = memory.Path
    places = {"/sys/fs/cgroup": tmp_path}
    monkeypatch.setattr(memory, "Path", lambda folder, name: real(places.get(folder, folder), name))
    assert memory.free_bytes("cpu") == 1500


@pytest.mark.model
def test_a_base_model_with_a_chat_template_stops_where_the_persons_next_turn_would_begin(monkeypatch):
    session = Session(say=lambda line: None)
    session.load(ModelRequest("smollm2", chat_template="guanaco"))
    seen = []
    engine = session._models["smollm2"].engine
    original = engine.stream

    def watched(prompt, options, stop):
        seen.append(options.stop)
        return original(prompt, options, stop)

    monkeypatch.setattr(engine, "stream", watched)
    for _ in session.ask("Hi", AskRequest(max_new_tokens=2, stop=("END",))):
        pass
    assert seen == [("END", "### Human:")]
    session.close()
