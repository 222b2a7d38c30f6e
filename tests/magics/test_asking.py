"""What a cell types reaches the model, and what the model says reaches the cell."""

from __future__ import annotations

from typing import Any

import pytest

from llm_magics import Answer, errors
from llm_magics.values.messages import Message, Prompt


def asked(engine: Any) -> str:
    return str(engine.prompts[-1].messages[-1].content)


@pytest.mark.parametrize(
    ("cell", "prompt"),
    [
        ("%llm What is RAG?", "What is RAG?"),
        ("x = %llm What is RAG?", "What is RAG?"),
        ("if True:\n    %llm What is RAG?", "What is RAG?"),
        ("%llm -t 0 What is RAG??", "What is RAG??"),
        ("x = %llm What's up?", "What's up?"),
        ("%llm What's a llama's \"wool\"?", "What's a llama's \"wool\"?"),
        ("%llm Is {x} worth $HOME in $x or \\n?", "Is {x} worth $HOME in $x or \\n?"),
        ('%llm "What is RAG?"', "What is RAG?"),
        ('%llm "What is RAG?" -t 0', "What is RAG?"),
        ("%llm 'What is RAG?' --max-new-tokens 5 -s 'Be brief.'", "What is RAG?"),
        ('%llm "Yes" or "no"', '"Yes" or "no"'),
        ("%llm -- -t is an option", "-t is an option"),
        ("%llm café 🦙", "café 🦙"),
        ('%%llm\n{"a": {"b": 1}} $x^2$ \\frac{a}{b}', '{"a": {"b": 1}} $x^2$ \\frac{a}{b}'),
        ("%%llm\n\n  indented\nWhat is this?\n\n", "  indented\nWhat is this?"),
        ("%%llm\n%llm is a magic", "%llm is a magic"),
        ('%%llm -s "Be brief."\n-t 0', "-t 0"),
    ],
)
def test_a_prompt_reaches_the_model_as_it_was_typed(notebook: Any, fake: Any, cell: str, prompt: str) -> None:
    notebook.good(cell)
    assert len(fake.prompts) == 1 and asked(fake) == prompt


@pytest.mark.parametrize("cell", ["%llm?", "?%llm", "%%llm?", "%%llm --help", "%%llm -h", "%llm --help", "%llm -h"])
def test_help_shows_the_options_and_two_examples_and_asks_nothing(notebook: Any, fake: Any, cell: str) -> None:
    printed = notebook.good(cell).printed
    assert "usage: %%llm" in printed and "--temperature T" in printed
    assert "%llm What is a llama?" in printed and "Explain {{topic}} in one sentence." in printed
    assert fake.prompts == []


def test_every_magic_has_help_with_two_examples(notebook: Any) -> None:
    from llm_magics.magics.extension import GROUPS

    parsers = [parser for group in GROUPS for parser in group.parsers()]
    assert len(parsers) >= 8
    for parser in parsers:
        printed = notebook.good(f"%{parser.magic} --help").printed
        assert all(example in printed for example in parser.examples) and len(parser.examples) >= 2
        assert "Docstring:" in notebook.good(f"%{parser.magic}?").printed


def test_values_in_braces_are_filled_in_everywhere(notebook: Any, fake: Any) -> None:
    notebook.good("d = {'k': 'it\\'s \"so\"'}\nt, n, seed, name, model = 0.5, 7, 3, 'kept', 'fake'")
    notebook.good(
        '%%llm -s {{d["k"]}} -t {{t}} --max-new-tokens={{n}} --seed {{seed + 1}} -o {{name}} -m {{model}}\n'
        "Say {{d['k']}} {{ n * 2 }} times, {n}."
    )
    answer = notebook.names["kept"]
    assert answer.messages == (Message("system", 'it\'s "so"'), Message("user", 'Say it\'s "so" 14 times, {n}.'))
    assert (answer.options.temperature, answer.options.max_new_tokens, answer.options.seed) == (0.5, 7, 4)
    notebook.good("%llm {{name.upper()}}")
    assert asked(fake) == "KEPT"


def test_a_filled_in_or_quoted_value_may_begin_with_a_dash(notebook: Any, fake: Any) -> None:
    notebook.good("rule = '--dry-run is no option here'")
    value = notebook.good('%llm -s {{rule}} --stop "---" hi').value
    assert value.messages[0] == Message("system", "--dry-run is no option here")
    assert value.options.stop == ("---",)
    assert "--system has no value. Type --system TEXT" in notebook.run("%llm -s --dry-run hi").complaint


def test_a_function_fills_in_its_own_variables(notebook: Any, fake: Any) -> None:
    notebook.good("def ask(topic):\n    return get_ipython().run_line_magic('llm', 'Explain {{topic}}.')\nask('wool')")
    notebook.good("def ask(topic):\n    %llm Explain {{topic}}.\nask('hay')")
    assert [prompt.messages[-1].content for prompt in fake.prompts] == ["Explain wool.", "Explain hay."]


def test_no_interpolate_sends_the_braces_as_they_are(notebook: Any, fake: Any) -> None:
    notebook.good("%%llm --no-interpolate -s {{nowhere}}\nSay {{nothing}}.")
    assert fake.prompts[-1].messages == (Message("system", "{{nowhere}}"), Message("user", "Say {{nothing}}."))


def test_the_answer_is_a_string_that_knows_where_it_came_from(notebook: Any, fake: Any) -> None:
    answer = notebook.good("%%llm -t 0 --max-new-tokens 50 --no-history\nHi").value
    assert isinstance(answer, Answer) and isinstance(answer, str) and answer == answer.text == "hello there"
    assert answer.model == "fake" and answer.method == "llm" and answer.stop_reason == "end"
    assert answer.prompt == "user: Hi\nassistant:" and answer.messages == (Message("user", "Hi"),)
    assert answer.usage.prompt_tokens == 3 and answer.usage.new_tokens == 2
    assert answer.options.temperature == 0 and answer.options.repetition_penalty == 1.1


def test_the_answer_goes_to_underscore_out_the_variable_and_the_assignment(notebook: Any) -> None:
    notebook.answers("one", "two", "three", "four")
    first = notebook.good("%llm a").value
    number = notebook.shell.execution_count - 1
    assert notebook.names["_"] is first and notebook.names["Out"][number] is first
    second = notebook.good("%%llm -o kept\nb").value
    assert notebook.names["kept"] is second is notebook.names["_"] and second == "two"
    assert notebook.good("x = %llm c").value is None
    assert notebook.names["x"] == "three" and notebook.names["_"] is second
    notebook.good("y = %llm -o z Why?")
    assert notebook.names["y"] is notebook.names["z"] == "four"


@pytest.mark.parametrize(
    "cell", ["%llm hi;", "%%llm ;\nhi", "%%llm -t 0;\nhi", "%%llm\nhi\n;\n", "%llm Why?;", '%llm "hi" -t 0;']
)
def test_a_semicolon_silences_and_is_no_part_of_the_prompt(notebook: Any, fake: Any, cell: str) -> None:
    outputs = notebook.rich()
    ran = notebook.good(cell)
    assert outputs == [] and "hello" not in ran.printed
    assert notebook.names["_"] == "hello there"
    assert asked(fake).rstrip() in ("hi", "Why?")


def test_a_semicolon_that_ends_a_line_of_the_cell_belongs_to_the_prompt(notebook: Any, fake: Any) -> None:
    outputs = notebook.rich()
    notebook.good("%%llm\nExplain:\nSELECT 1;")
    assert asked(fake).rstrip() == "Explain:\nSELECT 1;"
    assert outputs


def test_options_behind_a_prompt_are_refused_and_not_sent_to_the_model(notebook: Any, fake: Any) -> None:
    ran = notebook.run("%llm What is a llama? -t 0")
    assert "Type %llm -t 0 What is a llama?" in ran.complaint
    assert fake.prompts == []
    notebook.good("%llm -- What does ls -t 0 do?")
    assert asked(fake).rstrip() == "What does ls -t 0 do?"
    notebook.good("%llm What does grep -o do?")
    assert asked(fake).rstrip() == "What does grep -o do?"


@pytest.mark.parametrize("cell", ["%llm hi", "%%llm\nhi", "x = %llm hi", "%llm --no-stream hi", "%llm -o x hi\n"])
def test_the_answer_is_shown_once(notebook: Any, fake: Any, cell: str) -> None:
    assert notebook.good(cell).printed.count("hello there") == 1
    outputs = notebook.rich()
    ran = notebook.good(cell)
    assert "hello" not in ran.printed
    assert [("hello there" in str(output), output.get("update")) for output in outputs][-1] == (True, True)
    assert len({output["transient"]["display_id"] for output in outputs}) == 1
    assert sum(not output.get("update") for output in outputs) == 1


def test_a_kept_answer_is_shown_again_when_it_is_evaluated(notebook: Any, fake: Any) -> None:
    notebook.good("%llm -o kept hi")
    assert "hello there" in notebook.good("kept").printed


@pytest.mark.parametrize("cell", ["%llm --dry-run -s Sys hi", "%%llm --dry-run -s Sys\nhi", "%llm hi -s Sys --dry-run"])
def test_a_dry_run_shows_the_exact_prompt_once_and_runs_nothing(notebook: Any, fake: Any, cell: str) -> None:
    if cell.startswith("%llm hi"):
        cell = '%llm "hi" -s Sys --dry-run'
    ran = notebook.good(cell)
    assert isinstance(ran.value, Prompt) and ran.value.text == "system: Sys\nuser: hi\nassistant:"
    assert ran.printed.count("system: Sys\nuser: hi\nassistant:") == 1
    assert "exact prompt, 5 tokens" in ran.printed
    assert fake.prompts == [] and len(notebook.session.history) == 0


def test_json_becomes_data(notebook: Any) -> None:
    notebook.answers('Sure:\n```json\n{"a": [1, 2]}\n```')
    answer = notebook.good("%%llm -f json\nGive JSON").value
    assert answer.data == {"a": [1, 2]} and answer.output_format == "json"


def test_an_answer_that_is_not_json_raises_and_keeps_the_raw_text(notebook: Any) -> None:
    notebook.answers('{"a": 1, ', "here you are")
    ran = notebook.run("%%llm -f json\nGive JSON")
    assert isinstance(ran.error, errors.AnswerFormatError)
    assert "the answer is not JSON" in ran.complaint and "Ask for JSON alone, or raise --max-new" in ran.complaint
    assert ran.error.answer == '{"a": 1, '
    assert '{"a": 1,' in ran.printed.replace(ran.complaint, ""), "the raw text is not on the page"
    assert notebook.session.history.find()[-1].answer == '{"a": 1, '
    assert notebook.good("%llm go on").value == "here you are"


def test_code_fills_the_next_cell(notebook: Any) -> None:
    notebook.answers("Here:\n```python\ndef f():\n    return 1\n```\nDone.")
    answer = notebook.good("%%llm -f code\nWrite f").value
    assert notebook.shell.rl_next_input == "def f():\n    return 1"
    assert answer.data == "def f():\n    return 1"


def test_the_answer_ends_before_a_stop_text(notebook: Any) -> None:
    notebook.answers("one two\nthree END four")
    for option, text in [
        ("--stop END", "one two\nthree "),
        (r"--stop '\n'", "one two"),
        ("--stop x --stop two", "one "),
    ]:
        answer = notebook.good(f"%%llm --no-history {option}\nCount").value
        assert (answer.text, answer.stop_reason) == (text, "stop")


def test_the_longest_answer_is_as_long_as_it_was_told(notebook: Any) -> None:
    notebook.answers("one two three four")
    answer = notebook.good("%llm --max-new-tokens 2 Count").value
    assert (answer, answer.stop_reason, answer.usage.new_tokens) == ("one two", "length", 2)


def test_the_model_named_answers_and_otherwise_the_one_loaded_last(notebook: Any) -> None:
    notebook.answers("from a", name="a")
    notebook.answers("from b", name="b")
    assert notebook.good("%llm hi").value == "from b"
    assert notebook.good("%llm -m a hi").value == "from a"
    printed = notebook.good("%llm_load").printed
    assert "b answers where no -m is given" in printed
    notebook.good("%llm_unload")
    assert [info.name for info in notebook.session.models] == ["a"]
    assert "a is closed" in notebook.good("%llm_unload a").printed
    assert "nothing is open; %llm_load smollm2 works without a network" in notebook.good("%llm_load").printed


@pytest.mark.model
def test_the_default_model_opens_by_itself_and_says_so_in_one_line(notebook: Any) -> None:
    ran = notebook.good("%llm -t 0 --max-new-tokens 8 Say hello.")
    assert ran.printed.startswith("Opened smollm2 (no model was loaded; %llm_load opens others)\n")
    assert ran.value.model == "smollm2" and ran.value.usage.new_tokens == 8
    assert "smollm2 is open already: 135 M parameters, " in notebook.good("%llm_load smollm2").printed


@pytest.mark.model
def test_the_same_seed_gives_the_same_text_and_temperature_0_needs_none(smollm2: Any) -> None:
    def text(options: str) -> str:
        return str(smollm2.good(f"%llm --no-history --max-new-tokens 12 {options} Tell a story.").value)

    assert text("-t 1.5 --seed 7") == text("-t 1.5 --seed 7") != text("-t 1.5 --seed 8")
    assert text("-t 0 --seed 1") == text("-t 0 --seed 2") == text("-t 0")
    drawn = smollm2.good("%llm --no-history -t 1.5 --max-new-tokens 12 Tell a story.").value
    assert text(f"-t 1.5 --seed {drawn.options.seed}") == drawn, "the seed that was drawn does not repeat the answer"


@pytest.mark.model
def test_a_real_dry_run_shows_the_chat_template(smollm2: Any) -> None:
    prompt = smollm2.good("%llm --dry-run -s Sys hi").value
    assert prompt.text == ("<|im_start|>system\nSys<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")


def test_an_answer_that_loops_is_ended_and_says_so(notebook: Any) -> None:
    notebook.answers("Type it. " + "[1] [2] [3] " * 100)
    ran = notebook.good("%llm How do I close a model?")
    assert ran.value.stop_reason == "loop" and 150 < len(ran.value) < 250
    assert "ended: it repeats itself" in ran.printed
    notebook.answers("Type it. " + "[1] [2] [3] " * 100)
    assert len(notebook.good("%llm --format code How do I close a model?").value) > 1000
    assert notebook.good("%llm Again?").value.stop_reason == "loop"  # the model can be asked at once


def test_a_second_magic_in_a_cell_is_told_to_be_text(notebook: Any, fake: Any) -> None:
    told = "the line %%cot is read as text here"
    assert notebook.good("%%llm\nWhy?\n%%cot\nWhy not?").printed.count(told) == 1
    assert asked(fake) == "Why?\n%%cot\nWhy not?"
    assert "read as text" not in notebook.good("%%llm\n50 %%cot\n%%timeit").printed
