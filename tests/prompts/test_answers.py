from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_magics.errors import AnswerFormatError
from llm_magics.prompts.answers import (
    FinalAnswer,
    final_answer,
    first_code_block,
    loops,
    parse_json,
    split_thinking,
    tally,
)
from llm_magics.values.answers import Vote


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("1. Add.\nAnswer: 4", "4"),
        ("**Answer:** 4", "4"),
        ("**Answer**: **4**", "4"),
        ("**Answer: 4**", "4"),
        ("Final answer: 1,234", "1,234"),
        ("### Final Answer\n\n4", "4"),
        ("Answer:\n\n4\n\nI hope this helps.", "4"),
        ("So, the answer is 4. I hope this helps!", "4"),
        ("The answer to the question is 3.5.", "3.5"),
        ("The correct answer is **B**.", "B"),
        (r"Thus \boxed{4}.", "4"),
        (r"The final answer is: $\boxed{\text{no}}$", "no"),
        (r"\[\boxed{\frac{1}{2}}\]", r"\frac{1}{2}"),
        ("Answer: 3\nWait.\nAnswer: 4", "4"),
        ("I said the answer is 3.\nAnswer: 4.", "4"),
        ("ANSWER: no", "no"),
        ("Sure! Here's your answer: Answer: 3.", "3"),
        ("The final answer will be: 9", "9"),
        ("The answer is: Answer: 20", "20"),
        ("3. Answer: Yes", "Yes"),
        ("So 3 + 8 = 11. Answer: 11.", "11"),
        ("Answer: 13. Answer: 14.", "14"),
        ("The answer is Dr. Smith.", "Dr. Smith"),
        ("Answer: the U.S.", "the U.S."),
        ("Answer: $5$", "5"),
        ("Answer:\n```python\nx = 1\n\ny = 2\n```\nDone.", "```python\nx = 1\n\ny = 2\n```"),
    ],
)
def test_the_usual_spellings_of_a_final_answer_are_found(text: str, answer: str):
    found = final_answer(text)
    assert (found.answer, found.parsed) == (answer, True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "It is 4.",
        "Answer:",
        "Answer: **",
        "The answers are many",
        "I will end with a line that begins with Answer:",
    ],
)
def test_without_a_marked_answer_nothing_is_guessed(text: str):
    assert final_answer(text) == FinalAnswer(text, "", False)


def test_the_reasoning_is_all_but_the_answer():
    assert final_answer("<think>Hm.</think>\n1. Add.\n\n**Answer:** 4\n\nBecause.") == FinalAnswer(
        "Hm.\n\n1. Add.\n\nBecause.", "4", True
    )


def test_a_sentence_that_answers_is_not_left_in_pieces():
    assert final_answer("2 and 2 make 4. So the answer is 4.").reasoning == "2 and 2 make 4."
    assert final_answer("1. Add.\n2. The answer is 4.").reasoning == "1. Add."


@given(
    st.text()
    | st.lists(
        st.sampled_from(
            ["Answer:", "**", "\n", "4", r"\boxed{", "}", "<think>", "</think>", "the answer is", ".", "```"]
        )
    ).map("".join)
)
def test_any_text_has_an_answer_or_none(text: str):
    found = final_answer(text)
    assert found.parsed == bool(found.answer)
    assert found.answer in text or r"\text" in text


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Just this.", ("", "Just this.")),
        ("<think>a</think>\n\nb", ("a", "b")),
        ("a</think>b", ("a", "b")),
        ("<think>cut off", ("cut off", "")),
        ("<think>a</think><think>b</think>c", ("a\n\nb", "c")),
        ("Tags such as <think>x</think> mark it.", ("", "Tags such as <think>x</think> mark it.")),
    ],
)
def test_what_a_reasoning_model_thinks_is_parted_from_what_it_says(text: str, parts: tuple[str, str]):
    assert split_thinking(text) == parts


def test_votes_are_counted_over_all_spellings_of_one_answer():
    spellings = ["7", "8", "7.0", "**7**", "8.", "1,000", "1000.00", "YES", "yes.", "\u22120", "0.0", "$7$"]
    answers = [FinalAnswer("", spelling, True) for spelling in spellings] + [FinalAnswer("x", "", False)]
    assert tally(answers) == (Vote("7", 4), Vote("8", 2), Vote("1,000", 2), Vote("YES", 2), Vote("\u22120", 2))


def test_long_numbers_that_differ_in_the_last_digit_are_two_answers():
    answers = [FinalAnswer("", "1" * 40 + last, True) for last in "12"]
    assert len(tally(answers)) == 2


def test_no_parsed_answer_means_no_vote():
    assert tally([FinalAnswer("x", "", False)]) == ()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ("[1, 2]", [1, 2]),
        ('"word"', "word"),
        ('Here:\n```json\n{"a": [1]}\n```\nBye {x}', {"a": [1]}),
        ('As [note] {name} says [1]: {"a": {"b": 1}} and more', {"a": {"b": 1}}),
        ('<think>{"no": 1}</think>{"a": 1}', {"a": 1}),
    ],
)
def test_json_is_found_alone_fenced_or_in_prose(text: str, value: object):
    assert parse_json(text) == value


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("no json", "no { or ["),
        ('{"a": NaN, "b": {"c": 1}}', "NaN is not a JSON value"),
        ('{"items": [{"a": 1}, {"a":', "line 1 column"),
        ('```json\n{"a": [1, 2}\n```', "line 2 column"),
        ("[" * 100_000, "["),
    ],
)
def test_broken_json_is_one_line_with_the_place_and_no_part_of_it(text: str, part: str):
    with pytest.raises(AnswerFormatError) as caught:
        parse_json(text)
    assert part in str(caught.value)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Sure:\n```python\nx = 1\n\ny = 2\n```\nand\n```\nz\n```", "x = 1\n\ny = 2"),
        ("~~~\n```\ninner\n```\n~~~", "```\ninner\n```"),
        ("````md\n```\nx\n```\n````", "```\nx\n```"),
        ("1. Do\n   ```\n   x = 1\n     y\n   ```", "x = 1\n  y"),
        ("```python\nx = 1", "x = 1"),
        ("x = 1\n", "x = 1"),
    ],
)
def test_the_first_fenced_block_is_the_code(text: str, code: str):
    assert first_code_block(text) == code


@pytest.mark.parametrize("piece", ["[1] [1] [2] [3] ", "I am sorry. ", "\n- Bees make honey.", "the best of "])
def test_the_same_piece_over_and_over_is_a_loop(piece: str):
    assert loops(f"An answer. {piece * 40}", "How do I close it?")
    assert not loops(f"An answer. {piece * 3}", "How do I close it?")
    assert not loops(f"An answer. {piece * 40}And on it goes", "How do I close it?")


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"{number}. The waiter ignored us.\n" for number in range(1, 200)),
        "".join(f"- Take {number} eggs\n" for number in range(1, 200)),
        "".join(f"| {number} | yes | no |\n" for number in range(200)),
        "| --- " * 60,
        "-" * 400,
        ". . . " * 80,
        "1" + "0" * 400,
        "```python\n" + "x.append(0)\n" * 60,
        " ".join(str(number) for number in range(300)),
    ],
)
def test_lists_tables_rules_and_code_are_no_loops(text: str):
    assert not any(loops(text[:end]) for end in range(0, len(text), 7))


def test_what_was_asked_for_over_and_over_is_no_loop():
    assert not loops("Hello world! " * 60, "Write hello world 60 times.")
