"""``%%llm_compare`` and ``%llm_eval`` in JupyterLab, while they run and afterwards."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import expect

SET_UP = """%load_ext llm_magics
from llm_magics import ScriptedEngine, get_session
get_session().settings.embedding = "hashing-256"
def say(messages):
    asked = messages[-1].content
    if "step" in asked:
        return "It praises nothing and blames nothing, as far as I can see here.\\nAnswer: neutral"
    return "It is a cat, says the **sound**." if "meow" in asked else "dog <img src=x onerror=alert(1)>"
get_session().add("slow", ScriptedEngine(say, tokens_per_second=10))
rows = [("meow " * n, "cat") for n in range(1, 13)] + [("woof " * n, "dog") for n in range(1, 13)];
"""
COMPARE = "%%llm_compare --methods llm,cot,fewshot\nWho is it?\nmeow => cat\nwoof => dog\nmeow meow"
EVALUATE = "%llm_eval rows --methods llm,fewshot:2,cot --no-cache"


def test_answers_stand_side_by_side_and_are_filled_in_turn(notebook: Callable[..., Any]) -> None:
    book = notebook(SET_UP, COMPARE)
    book.run_all(wait=False)
    cells = book.output(1).locator(".llm-cell")
    expect(cells).to_have_count(3, timeout=20_000)
    expect(cells.nth(0).locator("strong")).to_be_visible(timeout=20_000)
    expect(cells.nth(2).locator(".llm-pill")).to_have_text("waiting")
    boxes = [cells.nth(place).bounding_box() for place in range(3)]
    assert boxes[0]["y"] == boxes[1]["y"] == boxes[2]["y"] and boxes[0]["x"] < boxes[1]["x"] < boxes[2]["x"]
    book.wait_until_done()
    expect(cells.locator(".llm-pill")).to_have_text(["done", "done", "done"])
    cells.nth(2).locator("summary").click()
    expect(cells.nth(2).locator("pre")).to_contain_text("user: Who is it?")
    saved = book.saved()
    assert set(saved.cells[1].outputs[0].data) == {"text/html", "text/plain"} and "widgets" not in saved.metadata
    book.shoot("compare")


def test_an_evaluation_shows_scores_so_far_then_its_chart_and_runs_nothing_of_its_rows(
    notebook: Callable[..., Any],
) -> None:
    book = notebook(SET_UP, EVALUATE)
    book.run_all(wait=False)
    card = book.output(1).locator(".llm-card")
    expect(card.locator("td").first).to_have_text("llm", timeout=20_000)
    expect(card.locator(".llm-line")).to_contain_text(re.compile(r"of \d+ answers"))
    book.shoot("evaluating")
    book.wait_until_done()
    expect(card.locator(".llm-pill")).to_have_text("done")
    expect(card.locator(".llm-chart rect")).to_have_count(5)
    width = card.locator(".llm-chart svg").bounding_box()["width"]
    assert 300 < width <= 720
    card.locator(".llm-fold > summary").first.click()
    expect(card.locator(".llm-wrong").first).to_be_visible()
    assert book.alerts == [] and card.locator("img").count() == 0
    book.shoot("evaluation")


def test_an_interrupt_keeps_the_rows_that_are_done(notebook: Callable[..., Any]) -> None:
    book = notebook(SET_UP, EVALUATE + " -o part", "len(part.outcomes) > 0")
    book.run_all(wait=False)
    expect(book.output(1).locator(".llm-line")).to_contain_text(re.compile(r"[2-9] of \d+ answers"), timeout=20_000)
    book.command("notebook:interrupt-kernel")
    expect(book.output(1).locator(".llm-pill")).to_have_text("stopped", timeout=5_000)
    error = book.output(1).locator(".jp-OutputArea-output").nth(1)
    expect(error).to_have_text(re.compile(r"^KeyboardInterrupt: stopped after \d+ answers?; what is done is in part"))
    book.wait_until_done()
    book.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.activeCellIndex = 2")
    book.command("notebook:run-cell")
    expect(book.output(2)).to_contain_text("True")
