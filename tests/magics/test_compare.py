"""``%%llm_compare`` in a shell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest

from llm_magics import Message, ScriptedEngine

CELL = """%%llm_compare {}
Name the mood of the text in one word.
I loved every minute. => positive
It broke at once. => negative
The parcel arrived on Tuesday."""


def mood(messages: Sequence[Message]) -> str:
    return "Nothing is praised.\nAnswer: neutral" if "step" in messages[-1].content else f"{len(messages)} messages"


@pytest.fixture
def moods(notebook: Any) -> Any:
    """A notebook with two models."""
    for name in ("base", "tuned"):
        notebook.session.add(name, ScriptedEngine(mood))
    return notebook


def test_one_cell_asks_in_every_way_and_gives_a_data_frame(moods: Any) -> None:
    value = moods.good(CELL.format("--methods llm,fewshot,cot -o result")).value
    assert isinstance(value, pd.DataFrame) and moods.names["result"] is value
    assert list(value.method) == ["llm", "fewshot", "cot"]
    assert list(value.answer) == ["1 messages", "5 messages", "neutral"]
    assert value.prompt[0].startswith("user: Name the mood of the text in one word.\n\nThe parcel arrived on Tuesday.")
    assert value.seed.nunique() == 1 and moods.names["_"] is value


def test_models_and_temperatures_multiply_and_all_have_one_seed(moods: Any) -> None:
    value = moods.good("%llm_compare --methods llm,cot --models base,tuned --temperatures 0,0.7 --seed 9 Why?").value
    assert list(value.method[:4]) == ["base at 0", "base at 0.7", "base+cot at 0", "base+cot at 0.7"]
    assert list(value.model) == ["base"] * 4 + ["tuned"] * 4 and set(value.seed) == {9}
    assert list(value.temperature) == [0, 0.7] * 4


def test_rag_is_one_of_the_ways(moods: Any) -> None:
    moods.good("%%rag_add\nThe parcel was sent on Monday by Ilse.")
    value = moods.good("%llm_compare --methods llm,rag Who sent the parcel?").value
    assert "Ilse" in value.prompt[1] and "Ilse" not in value.prompt[0]


def test_a_question_is_no_part_of_the_conversation(moods: Any) -> None:
    moods.good("%llm_compare --methods llm What is a llama?")
    moods.good("%llm And now?")
    assert "llama" not in moods.session._models["tuned"].engine.prompts[-1].text


def test_what_was_compared_is_in_the_history_and_no_part_of_the_conversation(moods: Any) -> None:
    moods.good("%llm_compare --methods llm,cot What is a llama?")
    printed = moods.good("%llm_history llama").printed
    assert "2 of 2 exchanges" in printed and "%%cot (compared)" in printed
    moods.good("%llm_compare --methods llm --no-history Is a llama wild?")
    moods.good("%llm_compare --methods llm --dry-run Is a llama tame?")
    assert "2 of 2 exchanges" in moods.good("%llm_history llama").printed


@pytest.mark.parametrize(
    ("options", "ways"),
    [
        ("", ["llm", "cot"]),
        ("--models base,tuned", ["base", "tuned"]),
        ("--temperatures 0,1", ["llm at 0", "llm at 1"]),
    ],
)
def test_without_methods_what_is_compared_is_what_was_named(moods: Any, options: str, ways: list[str]) -> None:
    assert list(moods.good(f"%llm_compare {options} Why?").value.method) == ways


def test_the_dry_run_shows_every_prompt_and_asks_nothing(moods: Any) -> None:
    printed = moods.good("%llm_compare --methods llm,cot --dry-run Why?").printed
    assert printed.count("exact prompt") == 2 and moods.session._models["tuned"].engine.prompts == []


def test_evaluating_it_again_shows_it_again(moods: Any) -> None:
    moods.good("%llm_compare --methods llm -o result Why?;")
    assert "── llm · tuned ──" in moods.good("result").printed


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("%llm_compare --methods llm", "there is no question"),
        ("%llm_compare --methods lm Why?", "there is no method 'lm'. Did you mean llm?"),
        ("%llm_compare --methods fewshot Why?", "there are no examples"),
        ("%llm_compare --methods llm,majority Why?", "majority answers no single question"),
        ("%llm_compare --models base,nobody Why?", "no model nobody is loaded"),
        ("%llm_compare --temperatures 0,warm Why?", "--temperatures cannot be '0,warm'. It takes numbers"),
        ("%llm_compare --temperatures , Why?", "--temperatures cannot be ','. It takes numbers, such as 0,0.7"),
        ("%%llm_compare --temperatures\nWhy?", "--temperatures has no value. It takes numbers, such as 0,0.7"),
        ("%llm_compare --methods rag Why?", "there is no knowledge base default"),
    ],
)
def test_a_mistake_is_one_line(moods: Any, line: str, complaint: str) -> None:
    assert complaint in moods.run(line).complaint


def test_without_a_notebook_the_session_compares_too(moods: Any) -> None:
    from llm_magics.values.asking import AskRequest
    from llm_magics.values.comparison import ComparisonRequest

    comparison = moods.session.compare("Why?", ComparisonRequest(("llm", "cot")), AskRequest(seed=1)).run()
    assert list(comparison.answer) == ["1 messages", "neutral"]
