"""The rules that are saved with a card: few, and the same."""

from __future__ import annotations

import re
from typing import Any

import pytest
from samples import ANSWERS, STYLE

from llm_magics.display import sheet
from llm_magics.display.card import answer_html


def parsed(text: str) -> list[tuple[str, str]]:
    """Each rule as its selector and its declarations, with one way to write them."""
    tinycss2: Any = pytest.importorskip("tinycss2")

    def plain(tokens: Any) -> str:
        return re.sub(r"\s*([,>+{}:;()])\s*|\s+(?=!)", r"\1", re.sub(r"\s+", " ", tinycss2.serialize(tokens))).strip()

    rules = []
    for rule in tinycss2.parse_stylesheet(text, skip_comments=True, skip_whitespace=True):
        assert rule.type in ("qualified-rule", "at-rule"), rule
        body = [one for one in rule.content if one.type != "comment"]
        # Of a selector's white space only that around commas and > may go: what is left is compared as it is.
        selector = re.sub(r"\s*([,>])\s*", r"\1", tinycss2.serialize(rule.prelude)).strip()
        rules.append((selector, plain(body).rstrip(";").replace(";}", "}")))
    return rules


def test_the_smaller_sheet_has_the_same_rules() -> None:
    assert parsed(sheet.minified(STYLE)) == parsed(STYLE)
    assert parsed(sheet.whole()) == parsed(STYLE)
    assert len(sheet.whole()) < 0.93 * len(STYLE)


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_saved_with_little_style(name: str) -> None:
    style = answer_html(ANSWERS[name]).partition("</style>")[0]
    assert len(style.encode()) <= 4500


def test_an_answer_is_saved_without_what_only_a_running_one_needs() -> None:
    everything = "".join(map(answer_html, ANSWERS.values()))
    for name in ("stop", "live", "caret", "blink", "piece", "grow", "thought", "pill-running"):
        assert f"llm-{name}" in sheet.whole() and f"llm-{name}" not in everything
    assert "widget" not in everything and "@" not in everything


def test_rules_are_kept_for_what_is_there_and_for_nothing_else() -> None:
    assert sheet.used_by('<div class="llm-d other">').endswith(".llm-d{display:none}")
    assert sheet.used_by("<p>") == ""
    kept = sheet.used_by('<div class="llm-card"><table class="llm-bars"><tr><td>')
    assert ".llm-card .llm-bars :is(td,th){" in kept and ".llm-card .llm-bars td:nth-child(2){" in kept
    assert "caption" not in kept and "llm-table" not in kept
