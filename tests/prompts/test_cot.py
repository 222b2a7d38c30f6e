from __future__ import annotations

from collections.abc import Callable

import pytest

from llm_magics.errors import InputError
from llm_magics.prompts.answers import FinalAnswer, final_answer
from llm_magics.prompts.cot import STRATEGIES, build
from llm_magics.values.messages import Example, Message


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_asks_the_question_and_for_a_line_that_can_be_found(strategy: str):
    (message,) = build("How many?", strategy=strategy)
    assert message.role == "user"
    assert "How many?" in message.content
    assert "Answer:" in message.content


def test_zero_shot_says_the_sentence_of_its_paper():
    assert "Let's think step by step" in build("How many?", strategy="zero-shot")[0].content


def test_a_worked_example_without_a_marked_answer_is_the_answer():
    messages = build("Q", examples=[Example("a", "1. x\nAnswer: 2"), Example("b", "3")], system="Be brief.")
    assert [message.role for message in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert messages[2] == Message("assistant", "1. x\nAnswer: 2")
    assert messages[4] == Message("assistant", "Answer: 3")


def test_an_unknown_strategy_offers_the_nearest_one():
    with pytest.raises(InputError, match=r"--strategy step is unknown. Did you mean steps\?"):
        build("Q", strategy="step")


def test_an_empty_question_is_refused():
    with pytest.raises(InputError, match="no question"):
        build(" ")


@pytest.mark.model
def test_the_small_model_reasons_and_marks_its_answer(smollm2: Callable[..., str]):
    text = smollm2(build("A shirt costs 20 dollars and is reduced by 5 dollars. What does it cost now?"), 100)
    assert final_answer(text) == FinalAnswer(
        "A shirt costs 20 dollars and is reduced by 5 dollars. Now, it costs 20 - 5 = 15 dollars.", "15", True
    )
