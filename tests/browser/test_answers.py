"""What a person sees in JupyterLab, and what is left when the notebook is opened again."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from playwright.sync_api import expect

SET_UP = """%load_ext llm_magics
from llm_magics import get_session
from llm_magics.engines.scripted import ScriptedEngine
def says(*texts, pace=40):
    get_session().add("fake", ScriptedEngine(texts, tokens_per_second=pace));
"""
LONG = SET_UP + "says(' '.join(f'word{n}' for n in range(3000)), pace=50)"


def test_an_answer_grows_and_what_is_saved_needs_no_kernel(notebook: Callable[..., Any]) -> None:
    book = notebook(SET_UP + "says(' '.join(f'**word{n}**' for n in range(200)))", "%%llm\nTalk.")
    book.run_all(wait=False)
    card = book.output(1).locator(".llm-card")
    expect(card.locator(".llm-grow strong").nth(5)).to_be_visible(timeout=20_000)
    expect(card.locator(".llm-pill")).to_have_text("running")
    book.wait_until_done()
    expect(card.locator(".llm-pill")).to_have_text("done")
    expect(card.locator(".llm-foot")).to_contain_text(" new tokens")
    assert book.output(1).locator(".jp-OutputArea-output").count() == 1, "the answer is shown once"
    saved = book.saved()
    assert set(saved.cells[1].outputs[0].data) == {"text/html", "text/plain"}
    assert "widgets" not in saved.metadata


def test_an_opened_fold_stays_open_while_the_reasoning_grows(notebook: Callable[..., Any]) -> None:
    book = notebook(
        SET_UP + "says(' '.join(f'thought{n}' for n in range(200)) + '\\n\\nThe answer is 42.')", "%%cot\nHow many?"
    )
    book.run_all(wait=False)
    card = book.output(1).locator(".llm-card")
    card.locator("summary").click(timeout=20_000)
    before = len(card.locator(".llm-thought").inner_text())
    expect(card.locator(".llm-thought")).to_have_text(
        re.compile(rf"^(\s*thought\d+){{{before // 9 + 40},}}"), timeout=10_000
    )
    assert card.locator("details[open]").count() == 1
    book.wait_until_done()
    expect(card.locator(".llm-body").last).to_have_text("42")
    expect(card.locator("details")).not_to_have_attribute("open", "")


def test_a_click_on_stop_ends_a_busy_cell_and_the_next_one_runs(notebook: Callable[..., Any]) -> None:
    book = notebook(LONG, "%%llm -o y --max-new-tokens 3000\nTalk.", "print(y.stop_reason)")
    book.run_all(wait=False)
    book.output(1).locator(".llm-stop").click(timeout=20_000)
    clicked = time.monotonic()
    expect(book.output(1).locator(".llm-pill")).to_have_text("stopped", timeout=5_000)
    took = time.monotonic() - clicked
    print(f"from the click to the end: {took:.2f} s")
    assert took < 2
    book.wait_until_done()
    expect(book.output(2)).to_have_text("stopped")


def test_an_interrupt_keeps_the_partial_answer_and_stops_run_all(notebook: Callable[..., Any]) -> None:
    book = notebook(LONG, "%%llm --max-new-tokens 3000\nTalk.", "print('not reached')")
    book.run_all(wait=False)
    expect(book.output(1).locator(".llm-foot")).to_contain_text(re.compile(r"[1-9]\d new tokens"), timeout=20_000)
    pressed = time.monotonic()
    book.command("notebook:interrupt-kernel")
    expect(book.output(1).locator(".llm-pill")).to_have_text("stopped", timeout=5_000)
    took = time.monotonic() - pressed
    print(f"from the interrupt to the end: {took:.2f} s")
    assert took < 2
    error = book.output(1).locator(".jp-OutputArea-output").nth(1)
    expect(error).to_have_text(re.compile(r"^KeyboardInterrupt: stopped after \d+ tokens; the partial answer is in _$"))
    assert "word" in book.output(1).locator(".llm-body").inner_text()
    book.wait_until_done()
    assert book.counts()[2] is None
    book.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.activeCellIndex = 2")
    book.command("notebook:run-cell")
    expect(book.output(2)).to_have_text("not reached")


def test_nothing_that_a_model_writes_is_executed(notebook: Callable[..., Any]) -> None:
    book = notebook(
        SET_UP + "from hostile import PAYLOADS\nsays('\\n\\n'.join(PAYLOADS))",
        "%%llm\nTalk.",
        "%%cot --votes 2\nTalk.",
        "%%llm -f text -o y\nTalk.",
        "y",
    )
    book.run_all()
    for place in (1, 3, 4):
        expect(book.output(place).locator(".llm-pill")).to_have_text("done")
    expect(book.output(2).locator("details[open]")).to_be_visible()
    for link in book.page.locator(".llm-card a").all():
        assert re.match("https?:|mailto:", link.get_attribute("href") or "")
    book.page.wait_for_function("() => document.querySelector('mjx-container') !== null")
    assert book.page.locator("mjx-container a").count() == 0
    assert book.page.locator(".llm-card :is(img, script, iframe, svg:not(mjx-container svg))").count() == 0
    assert book.alerts == []
    assert not [url for url in book.requests if "leak" in url or "/files/a.png" in url]
