"""What a person sees in JupyterLab, and what is left when the notebook is opened again."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from playwright.sync_api import expect

SET_UP = """from fakes import a_stream
from llm_magics.display import register, show_answer
ip = get_ipython()
register(ip)
def ask(*args, **kwargs): return show_answer(a_stream(*args, **kwargs), shell=ip)"""


def test_an_answer_grows_and_what_is_saved_needs_no_kernel(notebook: Callable[..., Any]) -> None:
    book = notebook(SET_UP, "ask('**word** ' * 200, reasoning='thought ' * 40, per_second=40)")
    book.run_all(wait=False)
    card = book.output(1).locator(".llm-card")
    expect(card.locator(".llm-live-fold")).to_contain_text("chain 1 of 1", timeout=20_000)
    card.locator("summary").click()
    expect(card.locator(".llm-grow strong").nth(5)).to_be_visible()
    assert card.locator("details[open]").count() == 1, "updates do not close an opened fold"
    expect(card.locator(".llm-thought")).to_be_visible()
    book.wait_until_done()
    expect(card.locator(".llm-pill")).to_have_text("done")
    expect(card.locator(".llm-foot")).to_contain_text("242 new tokens")
    assert book.output(1).locator(".jp-OutputArea-output").count() == 1, "the answer is shown once"
    saved = book.saved()
    assert set(saved.cells[1].outputs[0].data) == {"text/html", "text/plain"}
    assert "widgets" not in saved.metadata


def test_a_click_on_stop_ends_a_busy_cell_and_the_next_one_runs(notebook: Callable[..., Any]) -> None:
    book = notebook(SET_UP, "y = ask('word ' * 2000, per_second=50)", "print(y.stop_reason)")
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
    book = notebook(SET_UP, "ask('word ' * 2000, per_second=50)", "print('not reached')")
    book.run_all(wait=False)
    expect(book.output(1).locator(".llm-foot")).to_contain_text(re.compile(r"[1-9]\d new tokens"), timeout=20_000)
    pressed = time.monotonic()
    book.command("notebook:interrupt-kernel")
    expect(book.output(1).locator(".llm-pill")).to_have_text("stopped", timeout=5_000)
    took = time.monotonic() - pressed
    print(f"from the interrupt to the end: {took:.2f} s")
    assert took < 2
    error = book.output(1).locator(".jp-OutputArea-output").nth(1)
    expect(error).to_have_text(re.compile(r"^KeyboardInterrupt: stopped after \d+ tokens; the partial answer is kept$"))
    assert "word" in book.output(1).locator(".llm-body").inner_text()
    book.wait_until_done()
    assert book.counts()[2] is None
    book.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.activeCellIndex = 2")
    book.command("notebook:run-cell")
    expect(book.output(2)).to_have_text("not reached")


def test_nothing_that_a_model_writes_is_executed(notebook: Callable[..., Any]) -> None:
    book = notebook(
        SET_UP + "\nfrom hostile import PAYLOADS\nTEXT = '\\n\\n'.join(PAYLOADS)",
        "ask(TEXT, reasoning=TEXT, per_second=60)",
        "y = ask(TEXT, format='text')",
        "y",
    )
    book.run_all()
    for place in (1, 2, 3):
        expect(book.output(place).locator(".llm-pill")).to_have_text("done")
    book.output(1).locator("summary").click()
    for link in book.output(1).locator(".llm-card a").all():
        assert re.match("https?:|mailto:", link.get_attribute("href") or "")
    book.page.wait_for_function("() => document.querySelector('mjx-container') !== null")
    assert book.page.locator("mjx-container a").count() == 0
    assert book.page.locator(".llm-card :is(img, script, iframe, svg:not(mjx-container svg))").count() == 0
    assert book.alerts == []
    assert not [url for url in book.requests if "leak" in url or "/files/a.png" in url]
