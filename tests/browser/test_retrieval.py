"""Sources and indexing in JupyterLab: while they run, when they are done, and when the notebook is opened again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.sync_api import expect

SET_UP = """%load_ext llm_magics
from hostile import PAYLOADS
from llm_magics import get_session
from llm_magics.display.answer import show_answer
from llm_magics.display.indexing import show_indexing
from llm_magics.display.passages import show_passages
from llm_magics.engines.scripted import ScriptedEngine
from llm_magics.knowledge.embeddings import HashingEmbedder
from llm_magics.values.knowledge import Passage, Passages
session, shell = get_session(), get_ipython()
session.knowledge._embedders["words"] = HashingEmbedder()
session.settings.embedding = "words"
def says(text, pace=40):
    session.add("fake", ScriptedEngine([text] * 9, tokens_per_second=pace));
def add(*texts):
    return show_indexing(session.knowledge.add_variable([*texts], "llamas"), shell=shell)
"""
ADD = "add('A llama is an animal.', 'A llama eats grass.')"
ASK = "answer = show_answer(session.ask_rag('What is a llama?'), shell=shell)"


def opened(output: Any) -> list[bool]:
    found: list[bool] = output.locator(".llm-source").evaluate_all("folds => folds.map(fold => fold.open)")
    return found


def test_a_citation_opens_its_source_while_the_answer_runs_and_ever_after(notebook: Callable[..., Any]) -> None:
    # Words that differ: an answer that says the same over and over is ended.
    book = notebook(SET_UP + "says('It is so [2] and [9]. ' + ' '.join(map(str, range(600))))", ADD + ";", ASK)
    book.run_all(wait=False)
    output = book.output(2)
    output.locator(".llm-grow a.llm-cite").first.click(timeout=30_000)
    expect(output.locator(".llm-pill")).to_have_text("running")
    assert opened(output) == [False, True]
    words = len(output.locator(".llm-grow").inner_text())
    book.page.wait_for_function(
        "words => document.querySelector('.llm-grow')?.innerText.length > words + 100", arg=words, timeout=10_000
    )
    expect(output.locator(".llm-pill")).to_have_text("running")
    assert opened(output) == [False, True], "a repaint of the text closed it"
    book.wait_until_done()
    assert opened(output) == [False, False] and output.locator(".widget-html").count() == 0
    citation = output.locator("a.llm-cite")
    expect(citation).to_have_count(1)
    citation.click()
    expect(output.locator(".llm-source").nth(1)).to_have_attribute("open", "")
    expect(output.locator(".llm-passage").nth(1)).to_be_in_viewport()
    output.locator(".llm-source summary").first.press("Enter")
    assert opened(output) == [True, True]
    saved = book.saved()
    assert "widgets" not in saved.metadata
    for cell in saved.cells[1:]:
        assert [set(one.data) for one in cell.outputs] == [{"text/html", "text/plain"}]
    assert "\n\nSources\n[1] llamas[" in saved.cells[2].outputs[0].data["text/plain"]
    book.page.reload()
    book.wait_for_kernel()
    book.output(2).locator("a.llm-cite").click(timeout=20_000)
    expect(book.output(2).locator(".llm-source").nth(1)).to_have_attribute("open", "")


def test_nothing_in_documents_or_their_names_is_executed(notebook: Callable[..., Any]) -> None:
    hostile = "Passage(one, one, 0, len(one), one, 0.5, title=one, matches=((1, 3),)) for one in PAYLOADS"
    book = notebook(
        SET_UP + "says('So ' + ' '.join(f'[{n}]' for n in range(60)))",
        f"found = tuple({hostile})\nshow_passages(Passages(found, PAYLOADS[0], PAYLOADS[0]), shell=shell)",
        "stream = session.ask('x')\nstream.sources = found\n"
        "from llm_magics.values.answers import Answer\nfrom llm_magics.values.knowledge import *\n"
        "answer = show_answer(stream, shell=shell)\n"
        "Answer(str(answer), method='rag', model=PAYLOADS[1], sources=found)",
        "info = KnowledgeBaseInfo(*PAYLOADS[:1], 1, 1, *PAYLOADS[:3])\n"
        "def work(progress):\n"
        "    import time\n"
        "    for one in PAYLOADS: progress(IndexingProgress(0, 0, 1.0, one)); time.sleep(0.03)\n"
        "    return Added(0, 0, 0, 0, 1.0, {one: one for one in PAYLOADS})\n"
        "show_indexing(Indexing(PAYLOADS[0], work, lambda: info), shell=shell);",
    )
    book.run_all()
    expect(book.output(3).locator("details[open]")).to_be_visible(timeout=20_000)
    book.page.evaluate("() => document.querySelectorAll('details').forEach(fold => { fold.open = true; })")
    for link in book.page.locator(".llm-card a[href]").all():
        assert (link.get_attribute("href") or "").startswith("#llm-")
    assert book.page.locator(".llm-card :is(img, script, iframe, svg, style, mjx-container)").count() == 0
    assert book.alerts == []
    assert not [url for url in book.requests if "leak" in url or "/files/a.png" in url]


def test_indexing_shows_a_bar_and_leaves_a_card(notebook: Callable[..., Any]) -> None:
    slow = (
        "import time\nfrom llm_magics.values.knowledge import *\n"
        "def work(progress):\n"
        "    for done in range(80): progress(IndexingProgress(done, 4509, 0.1 + done / 20)); time.sleep(0.05)\n"
        "    return Added(8, 0, 0, 4509, 4.0)\n"
        "info = KnowledgeBaseInfo('docs', 8, 4509, 'words', 'exact')\n"
        "show_indexing(Indexing('docs', work, lambda: info), shell=shell);"
    )
    book = notebook(SET_UP, slow)
    book.run_all(wait=False)
    card = book.output(1).locator(".llm-card")
    expect(card.locator("progress")).to_be_visible(timeout=20_000)
    expect(card.locator(".llm-line")).to_contain_text("of 4,509 chunks")
    book.wait_until_done()
    expect(card.locator(".llm-pill")).to_have_text("done")
    expect(card.locator("progress")).to_have_count(0)
    saved = book.saved()
    assert set(saved.cells[1].outputs[0].data) == {"text/html", "text/plain"} and "widgets" not in saved.metadata
