"""What is typed into a panel is what its cell asks, whatever the text holds."""

from __future__ import annotations

import ast
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_magics.display.panel_state import PanelState
from llm_magics.errors import InputError
from llm_magics.magics.declare import read
from llm_magics.magics.panel_cell import cell_text
from llm_magics.prompts.fewshot import parse_cell
from llm_magics.prompts.plain import trim

PIECES = st.sampled_from(
    [
        *("{{", "}}", "{", "}", "{{x}}", '{{d["k"]}}', "'", '"', '"""', "\\", "\\n", "=>", "\\=>", "<=>", "==>", "-"),
        *("--", "-t 0", "--seed", "--seed=1", ">>> 1", "... ", "In [1]: ", "%%llm", "%", "?", "??", ";", "!ls", "#"),
        *(" ", "  ", "\t", "a", "Llama", "é", "日本", "$x$", "<b>", "`", "|", "&", ",", "\u2028", "/help", "@"),
    ]
)
LINES = st.lists(PIECES, max_size=8).map("".join)
TEXTS = st.lists(LINES, min_size=1, max_size=4).map("\n".join)


def as_run(notebook: Any, cell: str) -> tuple[str, str, str]:
    """A magic's name, line and body after IPython has had its way with the cell."""
    code = notebook.shell.transform_cell(cell)
    (call,) = ast.parse(code).body
    assert isinstance(call, ast.Expr) and isinstance(call.value, ast.Call), code
    assert ast.unparse(call.value.func) == "get_ipython().run_cell_magic", code
    name, line, body = (ast.literal_eval(one) for one in call.value.args)
    return name, line, body


def parsed(notebook: Any, cell: str) -> tuple[str, Any]:
    name, line, body = as_run(notebook, cell)
    parser = notebook.shell.find_cell_magic(name).parser_of_test
    return name, read(parser, line, body, {"x": "X", "d": {"k": "K"}})


def read_alone(notebook: Any, cell: str) -> dict[str, Any]:
    """As the panel reads it: without IPython."""
    first, _, body = cell.partition("\n")
    name, _, line = first.removeprefix("%%").partition(" ")
    args = vars(read(notebook.shell.find_cell_magic(name).parser_of_test, line, body, {"x": "X", "d": {"k": "K"}}))
    return args


@pytest.fixture
def reading(notebook: Any) -> Any:
    for declared, function in notebook.shell._llm_magics._magics:
        function.parser_of_test = declared.parser
    return notebook


def one_line(text: str) -> str:
    return text.replace("\u2028", " ").replace("\n", " ")


def usable(state: PanelState) -> str | None:
    try:
        return cell_text(state)
    except InputError:
        return None


quietly = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quietly
@given(prompt=TEXTS, system=LINES, seed=st.sampled_from(["", "0", "42"]), method=st.sampled_from(["llm", "cot", "rag"]))
def test_a_prompt_and_its_options_survive(reading: Any, prompt: str, system: str, seed: str, method: str) -> None:
    state = PanelState(method, "my model", system, prompt, 0.7, 60, seed, as_typed=True, knowledge_base="my base")
    cell = usable(state)
    if cell is None:
        assert prompt.rstrip().endswith(";") or system == "--"
        return
    if not prompt.strip():
        return  # nothing is asked, and the cell says so
    name, args = parsed(reading, cell)
    args.text, alone = trim(args.text), read_alone(reading, cell)
    assert alone | {"text": trim(alone["text"])} == vars(args), "the panel itself reads it otherwise"
    assert (name, args.text) == (method, trim(dedent("%\n" + prompt)[2:]))  # as IPython leaves blank lines
    assert args.system == (one_line(system) if one_line(system).strip() else None)
    assert (args.model, args.temperature, args.max_new_tokens) == ("my model", 0.7, 60)
    assert args.seed == (int(seed) if seed else None) and not args.silent
    assert args.no_interpolate == ("{{" in prompt or "{{" in system)


@quietly
@given(instruction=TEXTS, question=TEXTS, inputs=st.lists(LINES, max_size=3), choices=st.lists(LINES, max_size=3))
def test_a_few_shot_cell_is_read_as_its_fields(
    reading: Any, instruction: str, question: str, inputs: list[str], choices: list[str]
) -> None:
    inputs = [one_line(text).replace("=>", "->").strip() or "a" for text in inputs]
    examples = "\n".join(f"{text} => yes" for text in inputs)
    typed = ",".join(one_line(text) for text in choices)
    state = PanelState(
        "fewshot", prompt=question, instruction=instruction, examples=examples, choices=typed, as_typed=True
    )
    cell = usable(state)
    if cell is None or not question.strip() or (typed and not typed.strip(", \t")):
        return  # no cell, no question, or nothing but commas: each is refused in one line
    _, args = parsed(reading, cell)
    found = parse_cell(args.text)

    def kept(text: str) -> str:
        lines = "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")
        return lines if "\n" in lines else lines.strip()

    assert found.question == kept(question)
    assert found.instruction == (kept(instruction) if instruction.strip() else "")
    assert [example.input for example in found.examples] == inputs
    assert args.choices == tuple(value.strip() for value in typed.split(",") if value.strip())


def test_braces_are_filled_in_unless_they_are_left_as_typed(reading: Any) -> None:
    state = PanelState(prompt='{{x}} and {{ {"a": "b"}["a"] }}', system='say "{{d["k"]}}"')
    assert parsed(reading, cell_text(state))[1].text.strip() == "X and b"
    assert parsed(reading, cell_text(state))[1].system == 'say "K"'


def test_what_equals_a_default_is_left_out() -> None:
    assert cell_text(PanelState(prompt="Hi")) == "%%llm --no-history\nHi"
    assert cell_text(PanelState("cot", prompt="Hi")) == "%%cot\nHi"
    assert cell_text(PanelState("rag", prompt="Hi"), "my_") == "%%my_rag\nHi"
    state = PanelState("fewshot", prompt="So so.", instruction="Classify.", examples="Good => yes\nBad => no", k="2")
    assert cell_text(state) == "%%fewshot -k 2\nClassify.\nGood => yes\nBad => no\nSo so."


def test_a_cell_with_doctests_reaches_the_magic_as_typed(open_notebook: Any) -> None:
    notebook = open_notebook()
    notebook.answers("2")
    notebook.good("%%llm -o y\nWhat comes?\n>>> 1 + 1\n... ")
    assert notebook.names["y"].messages[-1].content == "What comes?\n>>> 1 + 1\n..."
