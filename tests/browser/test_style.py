"""A card with its own few rules looks as it does with all of them."""

from __future__ import annotations

from typing import Any

from samples import ANSWERS, STYLE

from llm_magics.display import sheet
from llm_magics.display.card import answer_html, style
from llm_magics.display.indexing import added_bundle
from llm_magics.display.prompt import prompt_html
from llm_magics.values.knowledge import Added, KnowledgeBaseInfo
from llm_magics.values.messages import Prompt

LOOK = """async html => {
    const host = document.createElement('div');
    document.body.replaceChildren(host);
    host.innerHTML = html;
    await new Promise(requestAnimationFrame);
    return [...host.querySelectorAll('.llm-card, .llm-card *')].map(e => [e.className + ' ' + e.tagName,
        ...[null, '::-webkit-progress-value', '::-webkit-progress-bar'].map(part =>
            [...getComputedStyle(e, part)].map(name => name + ':' + getComputedStyle(e, part)[name]).join(';'))]); }"""


def test_a_card_looks_as_with_the_whole_style_sheet_whatever_cards_are_around_it(browser: Any) -> None:
    cards = [answer_html(answer) for answer in ANSWERS.values()]
    cards += [answer_html(ANSWERS["plain"], failed=True), prompt_html(Prompt((), "<s>hi", 2))]
    indexed = Added(1, 0, 2, 3, 0.4, {"a": "b"})
    cards.append(added_bundle(indexed, KnowledgeBaseInfo("docs", 3, 9, "m", "exact"))["text/html"])
    page = browser.new_page()
    for order in (cards, cards[::-1]):
        bare = "".join(card.partition("</style>")[2] for card in order)
        expected = page.evaluate(LOOK, style() + bare)
        assert len(expected) > 150
        for found, wanted in zip(page.evaluate(LOOK, "".join(order)), expected, strict=True):
            assert found == wanted
        # A card that runs brings the whole sheet, above the saved ones or below them.
        assert page.evaluate(LOOK, style() + "".join(order)) == expected
        assert page.evaluate(LOOK, "".join(order) + style()) == expected
    page.close()


def test_the_browser_reads_the_same_rules_from_the_smaller_sheet(browser: Any) -> None:
    read = """text => { const sheet = new CSSStyleSheet(); sheet.replaceSync(text);
        return [...sheet.cssRules].map(rule => rule.cssText.replaceAll(', ', ',')); }"""
    page = browser.new_page()
    rules = page.evaluate(read, STYLE)
    assert len(rules) > 70 and page.evaluate(read, sheet.whole()) == rules
    page.close()
