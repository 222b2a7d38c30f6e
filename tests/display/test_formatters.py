"""What is added to a shell can be taken back."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from fakes import PROMPT
from IPython.core.interactiveshell import InteractiveShell

from llm_magics.display.formatters import _CARDS, register, unregister
from llm_magics.display.prompt import show_prompt
from llm_magics.display.tables import show_table
from llm_magics.values.answers import Answer
from llm_magics.values.messages import Message, Prompt


def test_unregister_leaves_nothing_behind() -> None:
    shell = InteractiveShell()
    before = set(shell.__dict__)
    register(shell)
    register(shell)  # as %load_ext after %reload_ext does
    assert "text/html" in shell.display_formatter.format(Answer("hi"))[0]
    unregister(shell)
    unregister(shell)
    assert set(shell.display_formatter.format(Answer("hi"))[0]) == {"text/plain"}
    assert set(shell.display_formatter.format(PROMPT)[0]) == {"text/plain"}
    assert set(shell.__dict__) == before
    assert not [one for one in shell.events.callbacks["post_execute"] if "llm_magics" in repr(one)]


@pytest.mark.parametrize("card", _CARDS, ids=lambda card: card[1])
def test_every_value_with_a_card_and_what_shows_it_are_where_the_table_says(card: tuple[str, str, str, Any]) -> None:
    module, name, shown_by, _ = card
    assert isinstance(getattr(importlib.import_module(f"llm_magics.{module}"), name), type)
    shows, _, begin = shown_by.partition(".")
    for form in ("html", "text"):
        assert callable(getattr(importlib.import_module(f"llm_magics.display.{shows}"), f"{begin}_{form}"))


def test_two_shells_do_not_share_what_was_shown(page: Any) -> None:
    other = InteractiveShell()
    register(other)
    answer = Answer("hi")
    from llm_magics.display.formatters import mark_shown

    mark_shown(page, answer)
    assert page.display_formatter.format(answer)[0] == {}
    assert other.display_formatter.format(answer)[0] != {}
    assert page.display_formatter.format(Answer("hi"))[0] != {}, "another answer with the same words was not shown"
    unregister(other)


def test_the_exact_prompt_is_shown_with_its_marks(page: Any) -> None:
    prompt = Prompt((Message("user", "<b>$5"),), "\n<|im_start|>user\n<b>$5 [INST]<｜end｜>\n\n", 9)  # noqa: RUF001
    show_prompt(prompt, shell=page)
    data = page.display_pub.outputs[0]["data"]
    assert (
        '<pre class="llm-wrap">\n\n<span class="llm-token">&lt;|im_start|&gt;</span>user\n&lt;b&gt;$5'
        in data["text/html"]
    )
    assert '<span class="llm-token">[INST]</span>' in data["text/html"]
    assert data["text/html"].count('class="llm-token"') == 3
    assert data["text/plain"] == f"exact prompt, 9 tokens:\n{prompt.text}"
    assert page.display_formatter.format(prompt)[0] == {}, "it is on the page already"


def test_a_prompt_in_a_terminal_is_its_text(terminal: Any, capsys: Any) -> None:
    show_prompt(PROMPT, shell=terminal)
    assert capsys.readouterr().out == f"exact prompt, 12 tokens:\n{PROMPT.text}\n"


def test_a_table_is_aligned_and_escaped(page: Any) -> None:
    show_table("<b>", ["name", "size"], [["<i>a</i>", 1], ["bb", 22]], shell=page, note="2 open")
    data = page.display_pub.outputs[0]["data"]
    assert data["text/plain"] == "<b>\nname      size\n<i>a</i>     1\nbb          22\n2 open"
    assert "<i>" not in data["text/html"] and '<td class="llm-right">22</td>' in data["text/html"]


def test_an_empty_table_says_what_its_note_says(terminal: Any, capsys: Any) -> None:
    show_table("Loaded models", ["name"], [], shell=terminal, note="none; type %llm_load smollm2")
    assert capsys.readouterr().out == "Loaded models\nnone; type %llm_load smollm2\n"


def test_answers_in_a_list_keep_their_quotes(terminal: Any) -> None:
    assert terminal.display_formatter.format([Answer("a"), Answer("b")])[0]["text/plain"] == "['a', 'b']"
