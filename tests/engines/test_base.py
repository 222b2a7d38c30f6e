"""What all engines share."""

from __future__ import annotations

import pytest

from llm_magics.engines.base import room_for_answer
from llm_magics.engines.scripted import ScriptedEngine
from llm_magics.errors import ContextLengthError


@pytest.mark.parametrize(("turns", "told"), [(0, True), (2, False), (3, True)])
def test_history_is_not_blamed_for_the_length_of_a_question_alone(turns: int, told: bool) -> None:
    info = ScriptedEngine([], context=8).info()
    assert room_for_answer(7, info, turns=turns) == 1
    with pytest.raises(ContextLengthError, match="9 tokens, 2 too many") as caught:
        room_for_answer(9, info, turns=turns)
    assert ("--no-history" in caught.value.hint) is told
