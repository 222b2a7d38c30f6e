from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_magics.errors import InputError
from llm_magics.prompts import plain
from llm_magics.prompts.fewshot import FewShotCell, build, parse_cell
from llm_magics.values.messages import Example, Message

DESIGN = """Classify the text into neutral, negative or positive.
I think the food was alright. => Neutral
The waiter ignored us. => Negative
I think the food was okay.
"""


def test_the_documented_cell_has_an_instruction_two_examples_and_a_question():
    assert parse_cell(DESIGN) == FewShotCell(
        "Classify the text into neutral, negative or positive.",
        (Example("I think the food was alright.", "Neutral"), Example("The waiter ignored us.", "Negative")),
        "I think the food was okay.",
    )


def test_code_with_arrows_can_be_an_example_and_a_question():
    cell = parse_cell("Say what it returns.\n---\nconst f = x => x + 1\nf(2)\n=> 3\n---\nconst g = x => 2 * x\ng(4)")
    assert cell == FewShotCell(
        "Say what it returns.", (Example("const f = x => x + 1\nf(2)", "3"),), "const g = x => 2 * x\ng(4)"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Only this?", FewShotCell("", (), "Only this?")),
        ("Classify.\nThe text", FewShotCell("Classify.", (), "The text")),
        ("Classify.\nThe text\nof two lines", FewShotCell("Classify.", (), "The text\nof two lines")),
        ("a => b\nc", FewShotCell("", (Example("a", "b"),), "c")),
        ("One.\nTwo.\na => b\nc\nd", FewShotCell("One.\nTwo.", (Example("a", "b"),), "c\nd")),
        ("One.\n\na => b\n\nc", FewShotCell("One.", (Example("a", "b"),), "c")),
        ("Do.\nsea otter => loutre\ncheese =>", FewShotCell("Do.", (Example("sea otter", "loutre"),), "cheese")),
        (r"Classify." "\na => b\n" r"Is x \=> y?", FewShotCell("Classify.", (Example("a", "b"),), "Is x => y?")),
        ("Fix.\n---\nif x:\n  y\n=>\nx and y\n---\nz", FewShotCell("Fix.", (Example("if x:\n  y", "x and y"),), "z")),
        ("Fix.\n---\nlong\ntext => Label\n---\nq", FewShotCell("Fix.", (Example("long\ntext", "Label"),), "q")),
        ("Fix.\n---\na => b\nc => d\n---\nq", FewShotCell("Fix.", (Example("a", "b"), Example("c", "d")), "q")),
        ("Fix.\na => b\n---\nx = y => y\nx(1)", FewShotCell("Fix.", (Example("a", "b"),), "x = y => y\nx(1)")),
        ("---\nm\nn\n=> o\n---\nq\n---\n", FewShotCell("", (Example("m\nn", "o"),), "q")),
        ("Fix.\n---\n    indented\n    question", FewShotCell("Fix.", (), "    indented\n    question")),
        ("a <=> b => spaceship\nq", FewShotCell("", (Example("a <=> b", "spaceship"),), "q")),
    ],
)  # fmt: skip
def test_a_cell_reads_as_it_looks(text: str, expected: FewShotCell):
    assert parse_cell(text) == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "is empty"),
        ("\n---\n\n", "is empty"),
        ("Classify.\na => b\nc => d", "has no question"),
        ("a => b", "has no question"),
        ("Classify.\n---\na => b\n---\nc => d", "has no question"),
        ("Classify.\n---\na\n=> b\n---\n", "has no question"),
        ("Classify.\na => b\nstray\nc => d\nq", "line 3 stands between examples"),
        ("a => b => c\nq", "line 1 has more than one =>"),
        ("=> b\nq", "line 1 begins with =>"),
        ("a =>\nq => r\ns", "line 1 has nothing after =>"),
        ("Classify.\n---\n=> b\n---\nq", "line 3 has nothing before =>"),
        ("Classify.\n---\nstray\n---\nq", "block at line 3 has no =>"),
        ("Classify.\n---\na => a\nb\n=> c => d\n=> e\n---\nq", "block at line 3 has more than one =>"),
    ],
)
def test_a_cell_that_can_be_read_in_two_ways_is_refused_with_what_to_type(text: str, part: str):
    with pytest.raises(InputError) as caught:
        parse_cell(text)
    assert part in str(caught.value)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


@given(
    st.lists(st.sampled_from(["a", "=>", " => ", "---", "\n", "\\=>", "  ", "b c", "\r\n", "\x0b"]), max_size=30).map(
        "".join
    )
)
def test_any_cell_parses_or_is_an_input_error(text: str):
    try:
        cell = parse_cell(text)
    except InputError:
        return
    assert cell.question.strip()
    assert all(example.input.strip() and example.output.strip() for example in cell.examples)


@given(st.text())
def test_any_text_at_all_parses_or_is_an_input_error(text: str):
    try:
        parse_cell(text)
    except InputError as error:
        assert error.hint


def test_each_turn_of_the_person_carries_the_instruction():
    cell = FewShotCell("Do it.", (Example("a", "b"),), "c")
    assert build(cell, system="Be brief.") == (
        Message("system", "Be brief."),
        Message("user", "Do it.\n\na"),
        Message("assistant", "b"),
        Message("user", "Do it.\n\nc"),
    )


def test_without_an_instruction_the_turns_are_the_texts_alone():
    assert build(FewShotCell("", (Example("a", "b"),), "c"))[0] == Message("user", "a")


@pytest.mark.model
def test_examples_turn_the_answer_of_the_small_model_to_neutral(smollm2: Callable[..., str]):
    zero_shot = "Classify the text into neutral, negative or positive.\nText: I think the food was okay.\nSentiment:"
    assert smollm2(build(parse_cell(DESIGN)), 12).strip() == "Neutral"
    assert "neutral" not in smollm2(plain.build(zero_shot), 12).lower()
