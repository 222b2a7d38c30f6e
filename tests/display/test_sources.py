"""The sources of an answer: what is shown, where citations lead, and that documents can do nothing."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fakes import a_stream
from hostile import PAYLOADS
from samples import ANSWERS, SOURCES
from test_answer import slots
from test_card import Words, unstyled, words

from llm_magics.display.answer import show_answer
from llm_magics.display.card import answer_html, answer_text
from llm_magics.display.markdown import render, render_text
from llm_magics.display.passages import show_passages
from llm_magics.display.sources import LONGEST, sources_html, sources_text
from llm_magics.values.answers import Answer
from llm_magics.values.knowledge import Passage, Passages

CITED = {1: ("k-1", 'a "b" <c>.md'), 2: ("k-2", "d.md")}
LINK = '<a class="llm-cite" href="#k-1" title="a &quot;b&quot; &lt;c&gt;.md">{}</a>'


def linked(page: str) -> list[str]:
    return re.findall(r'<a class="llm-cite"[^>]*>([^<]*)</a>', page)


def test_each_source_is_a_fold_with_its_number_name_score_and_passage() -> None:
    page = answer_html(ANSWERS["sources"])
    assert page.count('<details class="llm-source"><summary>') == 2
    said = words(page)
    assert "Sources[1] guide.md · Install ·  0.83The weights are computed with a softmax.A second line." in said
    assert '<progress max="1" value="0.83" aria-label="score">' in page
    assert page.index("no [7]") < page.index("llm-sources\u0020") < page.index('class="llm-foot')


def test_words_of_the_question_are_marked_and_line_ends_hold_without_a_style_sheet() -> None:
    page = sources_html(SOURCES)
    assert 'with a <u class="llm-match">softmax</u>.<br><br>A second line.</div>' in page


@pytest.mark.parametrize("matches", [((5, 2),), ((-3, 4),), ((0, 999),), ((0, 3), (1, 2)), ((4, 7), (0, 3))])
def test_offsets_that_do_not_fit_lose_no_text(matches: Any) -> None:
    reader = Words()
    reader.feed(sources_html((Passage("one two", "a", 0, 7, matches=matches),)))
    assert reader.words.endswith("one two")


def test_of_a_source_that_is_a_book_the_card_holds_the_beginning() -> None:
    page = sources_html((Passage("x" * (LONGEST + 1500), "a", 0, 1),))
    assert len(page) < LONGEST + 1000 and "1,500 more characters are not shown" in page


def test_citations_lead_to_anchors_on_their_own_card() -> None:
    one, two = answer_html(ANSWERS["sources"]), answer_html(ANSWERS["sources"])
    names = [re.findall(r'<a class="llm-target" name="([^"]+)">', page) for page in (one, two)]
    assert len({*names[0], *names[1]}) == 4, "two cards on one page share an anchor"
    assert re.findall(r'href="#([^"]+)"', one) == names[0][:1]
    assert "no [7]." in one


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("so [1] and [2][1].", ["[1]", "[2]", "[1]"]),
        ("so [1, 2] and [1; 3]", ["1", "2", "1"]),
        ("# heading [1]\n\n- **[2]**\n\n| a |\n|---|\n| [1] |", ["[1]", "[2]", "[1]"]),
        ("none [3] [0] [12345] [a] [1.5] (1)", []),
        ("`x[1]`\n\n```\nx[1]\n```\n\n    x[1]\n\n$x[1]$", []),
        ("[1](http://a.example) [see [1]](http://a.example)", []),
        ("[1]: http://a.example\n\nso [1]", ["[1]", "[1]"]),
    ],
)
def test_only_citations_of_sources_in_running_text_are_links(text: str, found: list[str]) -> None:
    page = render(text, CITED)
    assert linked(page) == found
    assert re.sub(r"</?a[^>]*>", "", page) == re.sub(r"</?a[^>]*>", "", render(text.replace("[1]: ", "\\[1]: "), {}))


def test_a_title_tells_the_source_and_is_escaped() -> None:
    assert render("[1]", CITED) == f"<p>{LINK.format('[1]')}</p>\n"
    assert render_text("<b> [1, 9]", CITED) == f"&lt;b&gt; [{LINK.format('1')}, 9]"


def test_without_sources_a_number_in_brackets_is_text() -> None:
    assert linked(answer_html(Answer("so [1]", model="m"))) == []


def test_json_and_code_are_not_searched_for_citations() -> None:
    for format in ("json", "code"):
        assert linked(answer_html(Answer("x[1]", model="m", sources=SOURCES, output_format=format))) == []


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("place", ["text", "source", "title", "place"])
def test_hostile_documents_add_no_tag_and_no_link(payload: str, place: str) -> None:
    values: dict[str, Any] = {"text": "x", "source": "x", "title": "", "place": ""} | {place: payload}
    source = Passage(**values, start=0, end=1, matches=((0, len(payload) // 2),))
    reader = Words()
    reader.feed(unstyled(answer_html(Answer("so [1]", method="rag", model="m", sources=(source,)))))
    assert set(reader.tags) <= set(["div", "span", "details", "summary", "b", "progress", "a", "u", "br", "wbr", "p"])
    assert set(reader.attributes) <= set(["class", "role", "aria-label", "max", "value", "name", "href", "title"])
    assert len(reader.links) == 1 and reader.links[0].startswith("#llm-")
    assert re.sub(r"\s", "", payload) in re.sub(r"\s", "", reader.words)


def test_plain_text_ends_with_the_sources() -> None:
    assert answer_text(ANSWERS["sources"]) == (
        "Yes [1], no [7].\n\nSources\n[1] guide.md · Install  0.83\n[2] /home/me/notes/numerics.md · lines 3-9  0.70"
    )


def test_a_name_cannot_break_the_line_or_steer_the_terminal() -> None:
    answer = Answer("x", model="m", sources=(Passage("x", "a\nb\x1b[31m", 0, 1),))
    assert answer_text(answer).endswith("\n[1] a b[31m  0.00")


def test_sources_are_on_the_live_card_from_the_start_and_sent_once(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ipywidgets import HTML

    events: list[str] = []
    initialise, notify = HTML.__init__, HTML.notify_change

    def made(widget: Any, *values: Any, **options: Any) -> None:
        initialise(widget, *values, **options)
        events.append(f"made {widget.value}")

    def changed(widget: Any, change: Any) -> None:
        events.append(f"changed {change['new']}")
        notify(widget, change)

    monkeypatch.setattr(HTML, "__init__", made)
    monkeypatch.setattr(HTML, "notify_change", changed)
    stream = a_stream(
        "so [1] it is", method="rag", sources=SOURCES, per_second=20, at=lambda count: events.append(f"word {count}")
    )
    show_answer(stream, shell=page)
    word = events.index("word 0")
    shown = [place for place, event in enumerate(events) if "llm-sources" in event and "<style>" not in event]
    assert shown and all(place < word for place in shown), "a repaint would close an open fold"
    assert any(event.startswith("changed") and "llm-cite" in event for event in events)
    assert "llm-sources" in slots(page)[1]["text/html"]


def test_a_terminal_gets_the_sources_after_the_answer(terminal: Any, capsys: pytest.CaptureFixture[str]) -> None:
    show_answer(a_stream("so [1]", method="rag", sources=SOURCES), shell=terminal)
    assert capsys.readouterr().out.startswith(
        "so [1]\n\nSources\n[1] guide.md · Install  0.83\n[2] /home/me/notes/numerics.md · lines 3-9  0.70\n\n12 prompt"
    )


def test_where_no_model_was_asked_the_card_says_so_and_nothing_runs(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    show_answer(a_stream("Not in the documents.", method="rag", model="", format="text"), shell=page)
    (only,) = page.display_pub.outputs
    assert words(only["data"]["text/html"]) == "%%rag · not askedNot in the documents."
    assert only["data"]["text/plain"] == "Not in the documents."
    assert 'aria-label="%%rag answer, not asked"' in only["data"]["text/html"]


def test_where_no_model_was_asked_a_terminal_gets_no_costs(terminal: Any, capsys: pytest.CaptureFixture[str]) -> None:
    show_answer(a_stream("Not in the documents.", method="rag", model="", format="text"), shell=terminal)
    assert capsys.readouterr().out == "Not in the documents.\n"


def test_passages_alone_are_a_card_with_the_first_one_open(page: Any) -> None:
    show_passages(Passages(SOURCES, "Why <b>?", "docs"), shell=page)
    data = page.display_pub.outputs[0]["data"]
    assert set(data) == {"text/html", "text/plain"}
    assert re.findall(r'<details class="llm-source"( open)?>', data["text/html"]) == [" open", ""]
    assert words(data["text/html"]).startswith("%%rag · docs · 2 passagesSources[1] guide.md")
    assert data["text/plain"] == (
        "2 passages of docs for: Why <b>?\n\n[1] guide.md · Install  0.83\n"
        "The weights are computed with a softmax.\n\nA second line.\n\n"
        "[2] /home/me/notes/numerics.md · lines 3-9  0.70\nexp never overflows"
    )


def test_nothing_found_is_a_calm_line(page: Any, terminal: Any, capsys: pytest.CaptureFixture[str]) -> None:
    show_passages(Passages((), "Why?", "docs"), shell=page)
    data = page.display_pub.outputs[0]["data"]
    assert (
        words(data["text/html"]) == "%%rag · docs · nothing foundNothing in docs fits the question.no model was asked"
    )
    assert data["text/plain"] == "Nothing in docs fits the question."


def test_passages_in_a_terminal_are_printed_in_full(terminal: Any, capsys: pytest.CaptureFixture[str]) -> None:
    show_passages(Passages(SOURCES[:1], "Why?", "docs"), shell=terminal)
    assert capsys.readouterr().out.startswith(
        "1 passage of docs for: Why?\n\n[1] guide.md · Install  0.83\nThe weights"
    )


def test_what_is_quoted_without_a_citation_is_told_and_leads_to_its_source() -> None:
    answer = Answer("softmax subtracts", method="rag", model="m", sources=SOURCES, quoted=(2,))
    page, text = answer_html(answer), answer_text(answer)
    assert re.search(r'quoted from <a class="llm-cite" href="#llm-\w+-2"[^>]*>\[2\]</a>', page)
    assert "(quoted from [2])" in text
    named = Answer("softmax subtracts [2]", method="rag", model="m", sources=SOURCES, quoted=(2,))
    assert "quoted from" not in answer_html(named) and "quoted from" not in answer_text(named)
    joined = Answer("softmax subtracts [1, 2]", method="rag", model="m", sources=SOURCES, quoted=(2,))
    assert "quoted from" not in answer_html(joined) and "quoted from" not in answer_text(joined)
    code = Answer("softmax subtracts `x[2]`", method="rag", model="m", sources=SOURCES, quoted=(2,))
    assert "quoted from" in answer_html(code) and "quoted from" in answer_text(code)


def test_sources_in_another_order_than_their_scores_say_why() -> None:
    turned = tuple(reversed(SOURCES))
    why = "best first by words and meaning together"
    assert why not in sources_text(SOURCES) and why not in sources_html(SOURCES)
    assert sources_text(turned).startswith(f"Sources, {why}\n[1]") and f"{why}</div>" in sources_html(turned)
