"""What a person sees of one question asked in several ways."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import a_stream
from hostile import PAYLOADS
from test_answer import WIDGET, press_after, slots
from test_card import Words, unstyled, words

from llm_magics.display.comparison import comparison_html, comparison_text, show_comparison, show_prompts
from llm_magics.errors import Interrupted
from llm_magics.values.answers import Answer, AnswerStream, Usage
from llm_magics.values.asking import GenerationOptions
from llm_magics.values.comparison import Comparing
from llm_magics.values.messages import Prompt

PROMPT = Prompt((), "user: <why>?", 12)
ANSWERS = (
    Answer("It is *calm*.", model="fake", prompt=PROMPT, usage=Usage(12, 4, 0.1, 0.5)),
    Answer(
        "neutral",
        method="cot",
        reasoning="1. Nothing is praised.",
        model="fake",
        prompt=PROMPT,
        usage=Usage(20, 9, 0.1, 0.9),
        options=GenerationOptions(seed=5),
    ),
)


def a_comparing(*streams: AnswerStream) -> Comparing:
    def gather(answers: Sequence[Answer]) -> Any:
        return SimpleNamespace(answers=tuple(answers))

    return Comparing([f"way {place}" for place in range(len(streams))], streams, gather)


def test_the_cards_stand_side_by_side_each_with_its_costs_and_its_exact_prompt() -> None:
    page = comparison_html(["llm", "cot"], ANSWERS)
    assert page.count('class="llm-cell"') == 2 and "<em>calm</em>" in page
    shown = words(page)
    assert shown.startswith("%%llm_compare · 2 ways · donellm · fake · done")
    assert shown.count("Exact prompt\nuser: <why>?") == 2
    assert "12 prompt + 4 new tokens" in shown and "seed 5" in shown


def test_plain_text_has_one_below_the_other() -> None:
    assert comparison_text(["llm", "fake+cot"], ANSWERS) == (
        "── llm · fake ──\nIt is *calm*.\n(done · 12 prompt + 4 new tokens · 7.5 tok/s · first token 0.10 s · 0.5 s)"
        "\n\n"
        "── fake+cot ──\nneutral\n(done · 20 prompt + 9 new tokens · 10.0 tok/s · first token 0.10 s · 0.9 s · seed 5)"
    )


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_answers_add_no_tag(payload: str) -> None:
    answer = Answer(payload, model=payload, reasoning=payload, prompt=Prompt((), payload, 1), output_format="text")
    reader = Words()
    reader.feed(unstyled(comparison_html([payload], [answer])))
    assert not set(reader.tags) & {"script", "img", "iframe", "style", "svg", "h1"}
    assert not [name for name in reader.attributes if name.startswith("on")]


def test_live_cards_are_replaced_in_their_slot_and_no_widget_is_left(page: Any) -> None:
    from ipywidgets.widgets.widget import _instances

    before = set(_instances)
    comparing = a_comparing(a_stream("one two", per_second=20), a_stream("three", reasoning="hm hm", per_second=20))
    result = show_comparison(comparing, shell=page)
    first, last = slots(page)
    assert WIDGET in first and set(last) == {"text/html", "text/plain"}
    assert [answer.text for answer in result.answers] == ["one two", "three"]
    assert set(_instances) == before


def test_each_card_is_filled_in_its_turn(page: Any) -> None:
    seen: list[tuple[str, str]] = []

    def look(count: int) -> None:
        import gc

        from llm_magics.display.comparison import _NotebookView

        (view,) = [found for found in gc.get_objects() if isinstance(found, _NotebookView)]
        seen.append((view._cells[0].value, view._cells[1].value))

    comparing = a_comparing(a_stream("one two", per_second=5), a_stream("three four", per_second=5, at=look))
    show_comparison(comparing, shell=page)
    first, second = seen[-1]
    assert ">done<" in first and "one two" in first and ">running<" in second


def test_an_interrupt_keeps_the_answers_there_are_and_the_partial_one(page: Any) -> None:
    comparing = a_comparing(a_stream("one"), a_stream("a b c d e f g h i j", per_second=4), a_stream("never"))
    press_after(0.8)
    with pytest.raises(Interrupted, match="stopped after 2 answers; what there is is in _") as caught:
        show_comparison(comparing, shell=page)
    whole, partial = caught.value.answer.answers
    assert whole == "one" and partial.stop_reason == "stopped" and partial.startswith("a b")
    assert ">stopped<" in page.display_pub.outputs[-1]["data"]["text/html"]


def test_an_error_in_one_keeps_the_cards_of_the_others_and_goes_on(page: Any) -> None:
    with pytest.raises(ValueError, match="broken"):
        show_comparison(a_comparing(a_stream("one"), a_stream("two", error=ValueError("broken"))), shell=page)
    assert "one" in page.display_pub.outputs[-1]["data"]["text/plain"]


def test_a_terminal_prints_each_answer_once_below_its_title(terminal: Any, capsys: pytest.CaptureFixture[str]) -> None:
    show_comparison(a_comparing(a_stream("one two"), a_stream("three")), shell=terminal)
    printed = capsys.readouterr().out
    assert printed.startswith("── way 0 · fake ──\none two\n") and "\n── way 1 · fake ──\nthree\n" in printed
    assert printed.count("one two") == printed.count("three") == 1
    show_prompts(["way 0"], [PROMPT], shell=terminal)
    assert "── way 0 ──\nexact prompt, 12 tokens" in capsys.readouterr().out
