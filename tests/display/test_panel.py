"""A panel without a browser: its fields, its runs, and the page that is saved of it."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fakes import a_stream
from hostile import PAYLOADS

from llm_magics.display.panel import Panel
from llm_magics.display.panel_form import Form
from llm_magics.display.panel_saved import saved_bundle
from llm_magics.display.panel_state import PanelState, Shown
from llm_magics.errors import InputError

STATES = [
    PanelState(),
    PanelState(prompt="Who?", system="Be brief.", temperature=0.7, max_new_tokens=60, seed="3", model="second"),
    PanelState("fewshot", instruction="Classify.", examples="a => b", examples_from="rows", k="2", select="similar"),
    PanelState("fewshot", choices="yes,no", as_typed=True, prompt="{{x}}"),
    PanelState("cot", strategy="plan", votes=5, prompt="How many?"),
    PanelState("rag", knowledge_base="first base", passages="3", temperature=0.3),
]


class Asked:
    """A session of scripted answers."""

    models = ("first", "second")
    knowledge_bases = ("first base", "second base")
    default_model = "smollm2"
    updates_per_second = 10.0

    def __init__(self, **stream: Any) -> None:
        self.stream = stream
        self.cells: list[str] = []
        self.error: Exception | None = None

    def temperature(self, state: PanelState) -> float:
        return {"llm": 0.1, "cot": 0.7 if state.votes > 1 else 0.1}.get(state.method, 0.0)

    def max_new_tokens(self) -> int:
        return 500

    def cell(self, state: PanelState) -> str:
        return f"%%{state.method}\n{state.prompt}"

    def ask(self, cell: str) -> Any:
        self.cells.append(cell)
        if self.error is not None:
            raise self.error
        return a_stream(**self.stream)


@pytest.fixture
def opened(page: Any) -> Iterator[Any]:
    panels: list[Panel] = []

    def open_panel(asked: Asked, state: PanelState = PanelState(prompt="Who?")) -> Panel:  # noqa: B008
        panels.append(Panel(page, asked, state))
        panels[-1].open()
        return panels[-1]

    yield open_panel
    for panel in panels:
        panel.close()


def wait(panel: Any) -> None:
    """Until its run has ended."""
    deadline = time.monotonic() + 5
    while any(thread.name == "llm_magics panel" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def run(panel: Any) -> None:
    panel.run()
    wait(panel)


def told(panel: Any) -> str:
    return str(panel._note.value)


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.method)
def test_the_fields_hold_what_they_are_given(state: PanelState) -> None:
    form = Form(Asked(), state, lambda widget: widget, lambda: None)
    several = {"model": state.model or "second", "knowledge_base": state.knowledge_base or "second base"}
    assert form.state == dataclasses.replace(state, **several)


def test_a_slider_that_nobody_moved_follows_the_method() -> None:
    form = Form(Asked(), PanelState(), lambda widget: widget, lambda: None)
    fields = form._fields
    fields["method"].value = "fewshot"
    assert fields["temperature"].value == 0.0 and form.state.temperature is None
    fields["method"].value = "cot"
    fields["votes"].value = 5
    assert fields["temperature"].value == 0.7 and form.state.temperature is None
    fields["temperature"].value = 0.9
    fields["method"].value = "llm"
    assert fields["temperature"].value == 0.9 and form.state.temperature == 0.9


def test_only_the_fields_that_count_are_shown() -> None:
    form = Form(Asked(), PanelState("fewshot"), lambda widget: widget, lambda: None)
    shown = {name: box.layout.display is None for name, box in form._own.items()}
    assert shown == {"fewshot": True, "cot": False, "rag": False}
    assert form._sampling.layout.display is None and form._fields["as_typed"].layout.display == "none"
    form._fields["choices"].value = "a,b"
    form._fields["prompt"].value = "{{x}}"
    assert form._sampling.layout.display == "none" and form._fields["as_typed"].layout.display is None


def test_a_model_that_a_cell_loads_is_offered_and_one_alone_is_not_named(page: Any, opened: Any) -> None:
    asked = Asked()
    asked.models = ()  # type: ignore[assignment]
    panel = opened(asked)
    assert panel.state.model == "" and panel._form.model == "smollm2"
    asked.models = ("tuned",)  # type: ignore[assignment]
    page.run_cell("1")
    assert panel.state.model == "" and panel._form.model == "tuned"
    asked.models = ("tuned", "other")  # type: ignore[assignment]
    page.run_cell("1")
    assert panel.state.model == "tuned"


def test_the_last_three_answers_stay_and_are_saved(page: Any, opened: Any) -> None:
    panel = opened(Asked())
    for count in range(4):
        panel._form._fields["prompt"].value = f"Question {count}?"
        run(panel)
    live, *pages = page.display_pub.outputs
    assert "application/vnd.jupyter.widget-view+json" in live["data"] and live["data"]["text/html"] == ""
    assert all(set(one["data"]) == {"text/html", "text/plain"} for one in pages)
    html, text = (pages[-1]["data"][kind] for kind in ("text/html", "text/plain"))
    assert html.count("one two three") == 3 == text.count("one two three")
    assert [f"Question {count}?" in text for count in range(4)] == [False, True, True, True]
    assert text.index("Question 3?") < text.index("Question 2?") and "<style>" in html


def test_a_second_run_is_refused_and_stop_ends_the_first(opened: Any) -> None:
    asked = Asked(text="word " * 500, per_second=100)
    panel = opened(asked)
    panel.run()
    deadline = time.monotonic() + 5
    while panel._stream is None and time.monotonic() < deadline:
        time.sleep(0.01)
    panel.run()
    assert "An answer is running" in told(panel) and len(asked.cells) == 1
    panel.stop()
    wait(panel)
    (answer,) = panel._answers.shown
    assert "stopped" in answer.bundle["text/html"] and panel._stream is None


def test_stop_counts_while_passages_are_still_looked_up(opened: Any) -> None:
    panel = opened(Asked(text="word " * 500, per_second=100))
    panel.run()
    panel.stop()
    wait(panel)
    assert "stopped" in panel._answers.shown[0].bundle["text/html"]


def test_a_mistake_is_one_line_and_leaves_no_card(opened: Any) -> None:
    asked = Asked()
    panel = opened(asked)
    asked.error = InputError("there is no <b>variable</b> x", "Type y")
    run(panel)
    assert "there is no &lt;b&gt;variable&lt;/b&gt; x. Type y" in told(panel) and panel._answers.shown == []
    asked.error = None
    run(panel)
    assert told(panel) == "" and len(panel._answers.shown) == 1


def test_a_bug_is_told_and_keeps_its_traceback(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    caught: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", caught.append)
    panel = opened(Asked(error=ZeroDivisionError("a bug")))
    run(panel)
    assert "ZeroDivisionError: a bug" in told(panel) and caught[0].exc_type is ZeroDivisionError
    run(panel)  # it can be used as before
    assert len(caught) == 2


def test_what_is_edited_in_the_box_is_asked_until_a_field_changes(opened: Any) -> None:
    asked = Asked()
    panel = opened(asked)
    panel._cell.value = "%%llm --top-p 0.5\nWho?"
    run(panel)
    panel._form._fields["prompt"].value = "You?"
    run(panel)
    assert asked.cells == ["%%llm --top-p 0.5\nWho?", "%%llm\nYou?"]


def test_nothing_is_left_of_a_closed_panel_but_its_page(page: Any) -> None:
    import ipywidgets

    before = set(ipywidgets.widgets.widget._instances)
    panel = Panel(page, Asked(text="word " * 500, per_second=100), PanelState(prompt="Who?"))
    panel.open()
    panel.run()
    panel.close()
    wait(panel)
    assert set(ipywidgets.widgets.widget._instances) <= before
    assert panel._refresh not in page.events.callbacks["post_run_cell"]
    assert "Who?" in page.display_pub.outputs[-1]["data"]["text/plain"]


def test_nothing_in_a_saved_panel_is_executed() -> None:
    texts = "\n".join(PAYLOADS)
    fields = dataclasses.fields(PanelState)
    typed: dict[str, Any] = {field.name: texts for field in fields if field.type == "str" and field.name != "method"}
    for method in ("llm", "fewshot", "cot", "rag"):
        bundle = saved_bundle(
            PanelState(method, **typed), texts, f"%%llm {texts}", [Shown(texts, {"text/html": "", "text/plain": ""})]
        )
        page = bundle["text/html"].lower()
        for tag in ("<script", "<img", "<svg", "<iframe", "<a ", "<h1", "<javascript", 'onerror=alert(1)>"'):
            assert tag not in page, tag
