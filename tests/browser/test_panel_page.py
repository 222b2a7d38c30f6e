"""``%llm_panel`` in JupyterLab: trying, stopping, leaving with a cell, and what is saved."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import expect

SET_UP = """%load_ext llm_magics
from llm_magics import get_session
from llm_magics.engines.scripted import ScriptedEngine
def says(*texts, pace=40, name='fake'):
    get_session().add(name, ScriptedEngine(texts, tokens_per_second=pace));
"""
LONG = "' '.join(f'word{n}' for n in range(3000))"


def sources(book: Any) -> list[str]:
    found: list[str] = book.page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.content.widgets.map(c => c.model.sharedModel.source)"
    )
    return found


def field(book: Any, name: str) -> Any:
    return book.output(1).locator(f".llm-panel-{name} :is(input, textarea, select)").first


def button(book: Any, name: str) -> Any:
    return book.output(1).get_by_role("button", name=name, exact=True)


def opened(book: Any) -> Any:
    """The panel, once its script has begun."""
    panel = book.output(1).locator(".llm-panel-live")
    expect(panel).to_have_attribute("data-llm-panel", "ready", timeout=30_000)
    return panel


def fill_few_shot(book: Any, instruction: str, examples: str, prompt: str) -> None:
    field(book, "method").select_option(label="fewshot · worked examples")
    field(book, "instruction").fill(instruction)
    field(book, "examples").fill(examples)
    field(book, "prompt").fill(prompt)


def test_few_shot_is_tried_and_becomes_a_cell_with_the_same_answer(notebook: Callable[..., Any]) -> None:
    book = notebook("%load_ext llm_magics\n%llm_load smollm2", "%llm_panel", "print('the cell below')")
    book.run_all()
    panel = opened(book)
    fill_few_shot(
        book,
        "Classify the text into neutral, negative or positive.",
        "I think the food was alright. => neutral\nThe waiter ignored us. => negative\nWe loved it! => positive",
        'I think the "food" was okay.',
    )
    button(book, "Run").click()
    answer = panel.locator(".llm-panel-answer")
    expect(answer.locator(".llm-pill")).to_have_text("done", timeout=60_000)
    said = answer.locator(".llm-body").inner_text()
    assert said in ("neutral", "negative", "positive")
    book.shoot("fewshot", 1)
    button(book, "Insert as cell").click()
    expect(panel.locator(".llm-panel-note")).to_have_text("The cell is below the panel")
    assert sources(book)[2].startswith("%%fewshot\nClassify") and sources(book)[3] == "print('the cell below')"
    book.command("notebook:run-cell")
    expect(book.output(2).locator(".llm-pill")).to_have_text("done", timeout=60_000)
    assert book.output(2).locator(".llm-body").inner_text() == said


def test_stop_ends_an_answer_and_a_second_run_is_refused_while_the_kernel_is_free(
    notebook: Callable[..., Any],
) -> None:
    book = notebook(SET_UP + f"says({LONG}, 'short')", "%llm_panel", "print('free')")
    book.run_all()
    panel = opened(book)
    field(book, "prompt").fill("Talk.")
    field(book, "prompt").press("Shift+Enter")
    foot = panel.locator(".llm-panel-answer .llm-foot")
    expect(foot).to_contain_text(re.compile(r"[1-9]\d new tokens"), timeout=20_000)
    button(book, "Run").click()
    expect(panel.locator(".llm-panel-note")).to_have_text("An answer is running. Stop ends it")
    book.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.activeCellIndex = 2")
    book.command("notebook:run-cell")
    expect(book.output(2)).to_have_text("free")
    button(book, "Stop").click()
    expect(panel.locator(".llm-pill")).to_have_text("stopped", timeout=3_000)
    button(book, "Run").click()
    expect(panel.locator(".llm-panel-answer").first.locator(".llm-pill")).to_have_text("done", timeout=10_000)
    assert panel.locator(".llm-panel-answer").count() == 2


def test_an_interrupt_of_the_idle_kernel_ends_the_answer(notebook: Callable[..., Any]) -> None:
    book = notebook(SET_UP + f"says({LONG})", "%llm_panel", "import threading\nprint(threading.active_count())")
    book.run_all()
    panel = opened(book)
    before = book.output(2).inner_text()
    field(book, "prompt").fill("Talk.")
    button(book, "Run").click()
    expect(panel.locator(".llm-foot")).to_contain_text(re.compile(r"[1-9]\d new tokens"), timeout=20_000)
    book.command("notebook:interrupt-kernel")
    expect(panel.locator(".llm-pill")).to_have_text("stopped", timeout=3_000)
    book.page.wait_for_timeout(1500)
    book.command("notebook:interrupt-kernel")  # an idle kernel survives it, as before
    book.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.activeCellIndex = 2")
    book.command("notebook:run-cell")
    expect(book.output(2)).to_have_text(before)


def test_the_saved_form_needs_no_kernel_and_holds_the_last_state(notebook: Callable[..., Any]) -> None:
    book = notebook(SET_UP + "says('One <b>llama</b>.', 'Two.', 'Three.', 'Four.')", "%llm_panel")
    book.run_all()
    panel = opened(book)
    field(book, "system").fill("It's <i>brief</i>.")
    field(book, "prompt").fill("Who?")
    for count in range(4):
        button(book, "Run").click()
        expect(panel.locator(".llm-panel-answer .llm-pill")).to_have_text(["done"] * min(count + 1, 3))
    saved_form = book.output(1).locator(".llm-panel-saved")
    expect(saved_form).to_be_hidden()
    expect(saved_form.locator(".llm-body").nth(1)).to_have_text("Four.")
    book.shoot("three", 1)
    saved = book.saved()
    live, page = saved.cells[1].outputs
    assert live.data["text/html"] == "" == live.data["text/plain"]
    assert set(page.data) == {"text/html", "text/plain"} and "widgets" not in saved.metadata
    assert "It's <i>brief" not in page.data["text/html"] and "Who?" in page.data["text/plain"]
    for session in book.lab.request("GET", "/api/sessions"):
        book.lab.request("DELETE", f"/api/sessions/{session['id']}")
    book.page.reload()
    book.wait_for_kernel()
    expect(saved_form).to_be_visible(timeout=30_000)
    expect(saved_form.locator(".llm-panel-caption")).to_have_count(3)
    book.page.wait_for_timeout(4000)  # JupyterLab looks for the widget so long
    expect(book.output(1).get_by_text("Error displaying widget")).to_be_hidden()
    book.shoot("saved", 1)


def test_the_keyboard_alone_is_enough(notebook: Callable[..., Any]) -> None:
    book = notebook(SET_UP + "says('Yes.', 'No.')", "%llm_panel")
    book.run_all()
    panel = opened(book)
    keys = book.page.keyboard
    order = []
    field(book, "method").focus()
    for _ in range(14):
        order.append(
            book.page.evaluate(
                """() => { const e = document.activeElement; return e.getAttribute('aria-label')
                    || e.labels?.[0]?.textContent || e.textContent; }"""
            )
        )
        keys.press("Tab")
    assert order == [
        *("Method", "Model", "System", "Prompt", "Temperature", "Temperature", "Max tokens", "Max tokens", "Seed"),
        *("Run", "Stop", "Cell", "Insert as cell", "Copy cell"),
    ]
    count = len(sources(book))
    field(book, "prompt").focus()
    keys.type("Who?")
    keys.press("Enter")
    keys.type("You?")
    keys.press("Tab")
    keys.press("ArrowRight")
    for _ in range(5):
        keys.press("Tab")
    keys.press("Enter")
    expect(panel.locator(".llm-panel-answer .llm-pill")).to_have_text("done")
    expect(field(book, "cell")).to_have_value("%%llm --no-history --temperature 0.15\nWho?\nYou?")
    for _ in range(3):
        keys.press("Tab")
    keys.press("Enter")
    expect(panel.locator(".llm-panel-note")).to_have_text("The cell is below the panel")
    assert len(sources(book)) == count + 1
    keys.press("Shift+Enter")
    expect(book.output(2).locator(".llm-body")).to_have_text("No.")


def test_a_mistake_is_one_line_and_a_narrow_page_has_one_column(notebook: Callable[..., Any]) -> None:
    book = notebook(SET_UP + "says('One.', 'Two.')", "%llm_panel")
    book.run_all()
    panel = opened(book)
    button(book, "Run").click()
    expect(panel.locator(".llm-panel-note")).to_contain_text("the prompt is empty")
    field(book, "prompt").fill("What is {{nobody}}?")
    button(book, "Run").click()
    expect(panel.locator(".llm-panel-note")).to_contain_text("there is no variable named nobody")
    field(book, "as-typed").check()
    for count in (1, 2):
        button(book, "Run").click()
        expect(panel.locator(".llm-panel-answer .llm-pill")).to_have_text(["done"] * count)
    expect(field(book, "cell")).to_have_value("%%llm --no-history --no-interpolate\nWhat is {{nobody}}?")
    tops = "cards => cards.map(card => Math.round(card.getBoundingClientRect().top))"
    assert len(set(panel.locator(".llm-panel-answer").evaluate_all(tops))) == 1
    book.page.set_viewport_size({"width": 560, "height": 900})
    book.page.wait_for_function(
        """() => new Set([...document.querySelectorAll('.llm-panel-live .llm-panel-answer')]
            .map(card => Math.round(card.getBoundingClientRect().top))).size === 2"""
    )
    wide = panel.evaluate("node => node.scrollWidth - node.clientWidth")
    assert wide <= 0
    book.shoot("narrow", 1)


def test_where_no_cell_can_be_added_the_panel_says_so_and_the_magic_adds_it(notebook: Callable[..., Any]) -> None:
    # A front end that runs no scripts, such as VS Code's.
    other = """
import llm_magics.display.panel as panel
panel._script = lambda: {"output_type": "stream", "name": "stdout", "text": ""}"""
    book = notebook(SET_UP + "says('One.')" + other, "%llm_panel", "%llm_panel --insert", "print('after')")
    book.run_all()
    panel = book.output(1).locator(".llm-panel-live")
    field(book, "prompt").fill("Who?")
    expect(field(book, "cell")).to_have_value("%%llm --no-history\nWho?")
    button(book, "Insert as cell").click()
    expect(panel.locator(".llm-panel-note")).to_contain_text("Copy the text in the box, or run %llm_panel --insert")
    button(book, "Copy cell").click()
    expect(panel.locator(".llm-panel-note")).to_contain_text("Ctrl+A and Ctrl+C")
    button(book, "Run").click()
    expect(panel.locator(".llm-pill")).to_have_text("done")
    book.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.activeCellIndex = 2")
    before = sources(book)
    assert before[3] == "%%llm --no-history\n", "Run All put in the empty panel's cell"
    book.command("notebook:run-cell")
    book.page.wait_for_function(
        "count => window.jupyterapp.shell.currentWidget.content.widgets.length > count", arg=len(before)
    )
    assert sources(book)[3] == "%%llm --no-history\nWho?"


def test_a_page_that_is_loaded_again_has_the_panel_as_it_was(notebook: Callable[..., Any]) -> None:
    book = notebook(SET_UP + "says('One.', 'Two.')", "%llm_panel")
    book.run_all()
    panel = opened(book)
    field(book, "prompt").fill("Who?")
    button(book, "Run").click()
    expect(panel.locator(".llm-pill")).to_have_text("done")
    expect(book.output(1).locator(".llm-panel-saved .llm-pill").nth(1)).to_have_text("done")
    book.saved()
    book.page.reload()
    book.wait_for_kernel()
    opened(book)
    expect(field(book, "prompt")).to_have_value("Who?")
    field(book, "prompt").press("Control+Enter")
    expect(panel.locator(".llm-panel-answer .llm-pill")).to_have_text(["done", "done"])
    expect(book.output(1).locator(".llm-panel-saved")).to_be_hidden()
    button(book, "Insert as cell").click()
    expect(panel.locator(".llm-panel-note")).to_have_text("The cell is below the panel")
    assert sources(book)[2] == "%%llm --no-history\nWho?"


def test_nothing_that_is_typed_or_answered_in_a_panel_is_executed(notebook: Callable[..., Any]) -> None:
    book = notebook(
        SET_UP + "from hostile import PAYLOADS\nsays('\\n\\n'.join(PAYLOADS), name=PAYLOADS[0])",
        "%llm_panel --method fewshot",
        "print('\\n'.join(PAYLOADS[:9]))",
    )
    book.run_all()
    panel = opened(book)
    hostile = book.output(2).inner_text()
    for name in ("instruction", "prompt", "system", "choices"):
        field(book, name).fill(hostile)
    button(book, "Run").click()
    expect(panel.locator(".llm-panel-failed")).to_be_visible()
    field(book, "choices").fill("")
    field(book, "examples").fill("<img src=x onerror=alert(40)> => <script>alert(41)</script>")
    button(book, "Run").click()
    expect(panel.locator(".llm-panel-answer .llm-pill")).to_have_text("done")
    panel.locator(".llm-panel-caption summary").click()
    book.page.wait_for_timeout(1000)
    for place in (panel, book.output(1).locator(".llm-panel-saved")):
        assert place.locator(":is(img, script, iframe, svg:not(mjx-container svg))").count() == 0
    for link in book.output(1).locator("a").all():
        assert re.match("https?:|mailto:", link.get_attribute("href") or "")
    assert book.alerts == []
    assert not [url for url in book.requests if "leak" in url or "/files/a.png" in url]
