from __future__ import annotations

import pytest

from llm_magics.errors import InputError
from llm_magics.prompts.plain import build
from llm_magics.values.messages import Message


def test_the_question_comes_last_after_system_and_conversation():
    earlier = (Message("user", "Hello"), Message("assistant", "Hi"))
    assert build("\nAnd now?\n\n", system="Be brief.", conversation=earlier) == (
        Message("system", "Be brief."),
        *earlier,
        Message("user", "And now?"),
    )


def test_without_a_system_text_the_model_keeps_its_own():
    assert build("Hello") == (Message("user", "Hello"),)


def test_the_indentation_of_code_stays():
    assert build("\n    def f():\n        pass\n")[-1].content == "    def f():\n        pass"


def test_an_empty_prompt_is_refused():
    with pytest.raises(InputError, match="nothing to ask"):
        build(" \n ")
