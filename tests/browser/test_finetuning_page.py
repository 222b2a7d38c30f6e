"""A fine-tuning job in JupyterLab: its card while it runs, the Stop button, what is saved, and its switch of models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

ROWS = """%load_ext llm_magics
rows = [(f"Who is number {n}?", f"It is {'very ' * (n % 5)}{n}.") for n in range(40)]"""


@pytest.fixture
def line(tiny: Any) -> str:
    return f"%llm_finetune rows --base {tiny.folder} --batch-size 4"


def test_a_click_on_stop_ends_the_job_and_the_model_answers_in_the_next_cell(
    notebook: Callable[..., Any], line: str
) -> None:
    book = notebook(ROWS, f"{line} --name clicked --epochs 400", "%llm -m clicked --max-new-tokens 3 Who?")
    book.run_all(wait=False)
    output = book.output(1)
    expect(output.locator("svg polyline").nth(1)).to_be_visible(timeout=90_000)
    expect(output.locator(".llm-foot").last).to_contain_text("left")
    book.shoot("running", 1)
    output.get_by_role("button", name="Stop").click()
    book.wait_until_done(120)
    expect(output.locator(".llm-pill", has_text="stopped")).to_be_visible()
    assert output.locator(".widget-html, button").count() == 0
    expect(book.output(2)).to_contain_text("clicked")
    book.shoot("stopped", 1)
    saved = book.saved()
    assert "widgets" not in saved.metadata
    bundles = [one.data for one in saved.cells[1].outputs if "data" in one]
    assert [set(data) for data in bundles] == [{"text/html", "text/plain"}] * 3
    assert "<svg" in bundles[1]["text/html"] and "loss" in bundles[1]["text/plain"]
    assert "expected" in bundles[2]["text/html"] and "unrelated" in bundles[2]["text/plain"]


def test_an_interrupt_stops_the_job_and_run_all(notebook: Callable[..., Any], line: str) -> None:
    book = notebook(ROWS, f"{line} --name cut --epochs 400", "%llm_finetune --list")
    book.run_all(wait=False)
    output = book.output(1)
    expect(output.locator("svg polyline").nth(1)).to_be_visible(timeout=90_000)
    book.command("notebook:interrupt-kernel")
    book.wait_until_done(120)
    expect(output).to_contain_text("cut is stopped at step")
    assert output.locator(".widget-html").count() == 0
    assert book.counts()[2] is None, "Run All went on"
